internal import Foundation

/// Finds ports of the loopback address that nobody listens on.
enum LoopbackPorts {
    /// Ports below those that the system gives to outgoing connections, so that none is taken while a node restarts.
    private static let range = 10_000..<32_000
    /// Places that are tried.
    private static let triesMax = 200

    struct NoneFree: Error {}

    /// A port `p` such that all `p + offset` are free.
    static func base(offsets: [Int]) throws -> Int {
        for _ in 0..<self.triesMax {
            // The system's choice for port 0 differs from process to process: a place to start from.
            guard let start = self.bound(0, { self.port(of: $0) }) else { continue }
            let base = self.range.lowerBound + (start &* 7) % (self.range.count - 200)
            if offsets.allSatisfy({ self.isFree(base + $0) }) { return base }
        }
        throw NoneFree()
    }

    static func isFree(_ port: Int) -> Bool { self.bound(port) { _ in true } ?? false }

    /// Runs `body` with a socket that listens on `port`, or on one of the system's choice when it is 0.
    static func whileListening<R>(_ body: (Int) async throws -> R) async throws -> R {
        guard let descriptor = self.socket(bindingTo: 0) else { throw NoneFree() }
        defer { close(descriptor) }
        guard listen(descriptor, 1) == 0 else { throw NoneFree() }
        return try await body(self.port(of: descriptor))
    }

    private static func bound<R>(_ port: Int, _ body: (Int32) -> R) -> R? {
        guard let descriptor = self.socket(bindingTo: port) else { return nil }
        defer { close(descriptor) }
        return body(descriptor)
    }

    private static func socket(bindingTo port: Int) -> Int32? {
        let descriptor = Foundation.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port)).bigEndian
        address.sin_addr = in_addr(s_addr: UInt32(0x7F00_0001).bigEndian)
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, size) }
        }
        guard result == 0 else {
            close(descriptor)
            return nil
        }
        return descriptor
    }

    private static func port(of descriptor: Int32) -> Int {
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        _ = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
        }
        return Int(UInt16(bigEndian: address.sin_port))
    }
}
