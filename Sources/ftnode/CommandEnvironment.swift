internal import Foundation
internal import NodeRuntime

/// What the process knows of its surroundings.
enum CommandEnvironment {
    static var all: [String: String] { ProcessInfo.processInfo.environment }

    /// The path of this program's file.
    static var executable: String {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    }

    /// Seconds of a clock that never jumps.
    static func uptimeSeconds() -> Double {
        let elapsed = Self.start.duration(to: Self.clock.now).components
        return Double(elapsed.seconds) + Double(elapsed.attoseconds) / 1e18
    }

    private static let clock = ContinuousClock()  // ambient-ok: progress and rates are of real time
    private static let start = Self.clock.now
}
