internal import Glibc

/// A value guarded by a mutex, with a condition that can be waited for until a time of the monotonic clock.
final class TimedMonitor<State>: @unchecked Sendable {  // sendable-ok: `state` is touched only under the mutex
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    /// To be touched only between ``lock()`` and ``unlock()``.
    var state: State

    init(_ state: State) {
        self.state = state
        self.mutex = .allocate(capacity: 1)
        self.condition = .allocate(capacity: 1)
        self.mutex.initialize(to: pthread_mutex_t())
        self.condition.initialize(to: pthread_cond_t())
        var attributes = pthread_condattr_t()
        var result = pthread_mutex_init(self.mutex, nil)
        result |= pthread_condattr_init(&attributes)
        result |= pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        result |= pthread_cond_init(self.condition, &attributes)
        pthread_condattr_destroy(&attributes)
        precondition(result == 0, "a mutex and a condition on the monotonic clock can be made")
    }

    deinit {
        pthread_cond_destroy(self.condition)
        pthread_mutex_destroy(self.mutex)
        self.condition.deallocate()
        self.mutex.deallocate()
    }

    func lock() { pthread_mutex_lock(self.mutex) }

    func unlock() { pthread_mutex_unlock(self.mutex) }

    func signal() { pthread_cond_signal(self.condition) }

    /// Gives the lock up until a signal or the time `deadline`; may return without a reason.
    func wait(until deadline: MonotonicTime?) {
        guard let deadline else {
            pthread_cond_wait(self.condition, self.mutex)
            return
        }
        let second: UInt64 = 1_000_000_000
        var time = timespec(
            tv_sec: Int(deadline.nanoseconds / second),
            tv_nsec: Int(deadline.nanoseconds % second)
        )
        pthread_cond_timedwait(self.condition, self.mutex, &time)
    }

    func withLock<Result>(_ body: (inout State) -> Result) -> Result {
        self.lock()
        defer { self.unlock() }
        return body(&self.state)
    }
}

/// Nanoseconds of the clock that never goes back and that no operator sets; read by the raft thread alone.
struct MonotonicTime: Comparable {
    var nanoseconds: UInt64

    static func now() -> MonotonicTime {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)  // ambient-ok: the host alone turns time into ticks
        return MonotonicTime(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
    }

    static func < (left: Self, right: Self) -> Bool { left.nanoseconds < right.nanoseconds }
}
