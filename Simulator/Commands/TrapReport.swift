internal import Glibc
internal import Synchronization

/// Says which seed was running when an assertion of the code under test ended the process.
enum TrapReport {
    static let prefix = "an assertion failed"

    /// Written before each seed and read in the signal handler only, which may not take memory or locks.
    private static let address = Atomic<UInt>(0)
    private static let length = Atomic<Int>(0)
    private static let isInstalled = Atomic<Bool>(false)
    private static let bytesMax = 512

    /// From now on a trap prints `replay`.
    static func arm(_ replay: String) {
        if !self.isInstalled.exchange(true, ordering: .sequentiallyConsistent) {
            let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: Self.bytesMax)
            self.address.store(UInt(bitPattern: memory), ordering: .sequentiallyConsistent)
            for trap in [SIGILL, SIGTRAP, SIGABRT, SIGSEGV] { signal(trap, Self.handler) }
        }
        let text = Array("\(Self.prefix)\nsee it again: \(replay)\n".utf8.prefix(Self.bytesMax))
        guard let memory = UnsafeMutablePointer<UInt8>(bitPattern: self.address.load(ordering: .relaxed)) else {
            return
        }
        for (place, byte) in text.enumerated() { memory[place] = byte }
        self.length.store(text.count, ordering: .sequentiallyConsistent)
    }

    private static let handler: @convention(c) (Int32) -> Void = { _ in
        let memory = UnsafeRawPointer(bitPattern: TrapReport.address.load(ordering: .relaxed))
        _ = write(1, memory, TrapReport.length.load(ordering: .relaxed))
        _exit(3)
    }
}
