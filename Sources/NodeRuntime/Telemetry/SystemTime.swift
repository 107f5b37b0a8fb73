internal import Foundation
package import Primitives

/// The machine's clock: the one place where wall time enters configuration, logs and the command line.
package enum SystemTime {
    /// The present moment in UTC.
    package static func now() -> Timestamp {
        var moment = timespec()
        clock_gettime(CLOCK_REALTIME, &moment)  // ambient-ok: this is the adapter for wall time
        return Timestamp(microseconds: Int64(moment.tv_sec) * 1_000_000 + Int64(moment.tv_nsec) / 1000)
    }
}
