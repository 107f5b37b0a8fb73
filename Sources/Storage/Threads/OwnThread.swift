internal import Glibc

/// One joinable thread of the operating system.
@safe
struct OwnThread: @unchecked Sendable {  // sendable-ok: a thread id is only a name
    private let id: pthread_t

    /// The longest name that Linux keeps, in bytes.
    static let nameBytesMax = 15

    /// Starts a thread that runs `body` once.
    /// - Parameters:
    ///   - name: Shown by `ps -L` and `top -H`; cut to ``nameBytesMax``.
    ///   - niceness: 0 is normal, 19 gives way to everything; negative values need a privilege.
    /// - Throws: ``StorageError`` `.busy` when the operating system refuses another thread.
    init(name: String, niceness: Int32, body: @escaping @Sendable () -> Void) throws(StorageError) {
        let start = unsafe Unmanaged.passRetained(ThreadStart(name: name, niceness: niceness, body: body))
        var id = pthread_t()
        // Retained above, released by `runThread`, or here when the thread was not made.
        let result = unsafe pthread_create(&id, nil, runThread, start.toOpaque())
        guard result == 0 else {
            unsafe start.release()
            throw StorageError(code: .busy, message: "thread \(name) was refused, error \(result)")
        }
        self.id = id
    }

    /// Waits for the end of the thread; to be called once.
    func join() { pthread_join(self.id, nil) }
}

private final class ThreadStart: Sendable {
    let name: String
    let niceness: Int32
    let body: @Sendable () -> Void

    init(name: String, niceness: Int32, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.niceness = niceness
        self.body = body
    }
}

private func runThread(_ raw: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let raw = unsafe raw else { return nil }
    let start = unsafe Unmanaged<ThreadStart>.fromOpaque(raw).takeRetainedValue()
    nameCallingThread(start.name)
    // On Linux the calling thread alone is meant by «process 0»; a refusal leaves the normal priority.
    if start.niceness != 0 { _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, start.niceness) }
    start.body()
    return nil
}

/// Names the calling thread through its file in `/proc`: Swift does not see `pthread_setname_np`, a GNU extension.
private func nameCallingThread(_ name: String) {
    let file = unsafe open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { return }
    defer { close(file) }
    var bytes = Array(name.utf8.prefix(OwnThread.nameBytesMax))
    // A thread without a name is a harmless loss.
    _ = unsafe write(file, &bytes, bytes.count)
}

/// Which ``SerialThread`` the calling thread works for.
enum CurrentSerialThread {
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let result = unsafe pthread_key_create(&key, nil)
        precondition(result == 0, "the process has no thread key left")
        return key
    }()

    static func isCurrent(_ thread: SerialThread) -> Bool {
        unsafe pthread_getspecific(self.key) == UnsafeMutableRawPointer(Unmanaged.passUnretained(thread).toOpaque())
    }

    /// Runs `body` as `thread`.
    static func with(_ thread: SerialThread, _ body: () -> Void) {
        let before = unsafe pthread_getspecific(self.key)
        unsafe pthread_setspecific(self.key, Unmanaged.passUnretained(thread).toOpaque())
        body()
        unsafe pthread_setspecific(self.key, before)
    }
}
