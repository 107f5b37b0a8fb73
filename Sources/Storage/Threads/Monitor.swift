internal import Glibc

/// A value guarded by a mutex, with a condition to wait on.
///
/// `state` may be touched only between ``lock()`` and ``unlock()``.
@safe
final class Monitor<State>: @unchecked Sendable {  // sendable-ok: `state` is touched only under the mutex
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    var state: State

    init(_ state: State) {
        self.state = state
        unsafe self.mutex = .allocate(capacity: 1)
        unsafe self.condition = .allocate(capacity: 1)
        unsafe self.mutex.initialize(to: pthread_mutex_t())
        unsafe self.condition.initialize(to: pthread_cond_t())
        let mutexResult = unsafe pthread_mutex_init(self.mutex, nil)
        let conditionResult = unsafe pthread_cond_init(self.condition, nil)
        precondition(mutexResult == 0 && conditionResult == 0, "a default mutex or condition cannot be made")
    }

    deinit {
        unsafe pthread_cond_destroy(self.condition)
        unsafe pthread_mutex_destroy(self.mutex)
        unsafe self.condition.deallocate()
        unsafe self.mutex.deallocate()
    }

    func lock() { unsafe pthread_mutex_lock(self.mutex) }

    func unlock() { unsafe pthread_mutex_unlock(self.mutex) }

    /// Gives the lock up until another thread signals, then holds it again; may return without a reason.
    func wait() { unsafe pthread_cond_wait(self.condition, self.mutex) }

    func signal() { unsafe pthread_cond_signal(self.condition) }

    func broadcast() { unsafe pthread_cond_broadcast(self.condition) }

    func withLock<Result>(_ body: (inout State) -> Result) -> Result {
        self.lock()
        defer { self.unlock() }
        return body(&self.state)
    }
}
