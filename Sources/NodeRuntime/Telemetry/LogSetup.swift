internal import Foundation
internal import Logging
internal import Synchronization

/// Directs all loggers of the process to standard error; done once.
package enum LogSetup {
    private static let isDone = Mutex(false)
    private static let output = Mutex(())

    /// Bootstraps swift-log with the level and format of `configuration`; later calls change nothing.
    package static func bootstrap(level: String, format: NodeConfiguration.LogFormat) {
        let isFirst = self.isDone.withLock { done in
            defer { done = true }
            return !done
        }
        guard isFirst else { return }
        let threshold = Logger.Level(rawValue: level) ?? .info
        LoggingSystem.bootstrap { label in
            LineLogHandler(
                label: label,
                level: threshold,
                format: format,
                now: SystemTime.now,
                sink: Self.writeToStandardError
            )
        }
    }

    /// Writes whole lines, one caller at a time; what cannot be written is lost.
    @Sendable private static func writeToStandardError(_ line: String) {
        self.output.withLock { _ in
            var bytes = Array(line.utf8)[...]
            while !bytes.isEmpty {
                let count = bytes.withUnsafeBytes { Foundation.write(STDERR_FILENO, $0.baseAddress, $0.count) }
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return }
                bytes = bytes.dropFirst(count)
            }
        }
    }
}
