internal import Foundation
internal import NodeRuntime

/// Nobody reads the output any more.
struct BrokenOutput: Error {}

/// Standard output and error.
enum Terminal {
    static var inIsTerminal: Bool { isatty(STDIN_FILENO) == 1 }
    static var outIsTerminal: Bool { isatty(STDOUT_FILENO) == 1 }
    static var errorIsTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    /// Writes `text` to standard output; what cannot be written is lost.
    static func out(_ text: String) { try? self.write(Array(text.utf8), to: STDOUT_FILENO) }

    /// Writes `bytes` to `descriptor`.
    /// - Throws: ``BrokenOutput`` when the reader is gone, ``CommandFailure`` for any other failure.
    static func write(_ bytes: [UInt8], to descriptor: Int32) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EPIPE { throw BrokenOutput() }
            guard count > 0 else {
                throw CommandFailure("cannot write the output: \(String(cString: strerror(errno)).lowercased())")
            }
            rest = rest.dropFirst(count)
        }
    }

    /// One line on standard error, `ftnode: ` before it.
    static func complain(_ message: String) { self.note("ftnode: " + TextTable.printable(message)) }

    /// One line on standard error.
    static func note(_ line: String) { try? self.write(Array((line + "\n").utf8), to: STDERR_FILENO) }

    /// How long something took, and by which plan.
    static func timing(since start: Double, plan: String?) {
        let milliseconds = ((CommandEnvironment.uptimeSeconds() - start) * 10_000).rounded() / 10
        self.note("\(milliseconds) ms" + (plan.map { ", plan \($0)" } ?? ""))
    }

    /// Writes over the present line of standard error; for terminals only.
    static func overwrite(_ line: String) { try? self.write(Array("\r\u{1B}[K\(line)".utf8), to: STDERR_FILENO) }
}
