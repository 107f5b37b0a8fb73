internal import Foundation

/// The programs that the tests run.
enum Programs {
    /// `ftnode` of the same build as the tests.
    static let ftnode: String = {
        // The bundle lies beside the executables of the build.
        let image = Bundle(for: BundleToken.self).bundlePath
        let candidates = [
            URL(fileURLWithPath: image).deletingLastPathComponent().path + "/ftnode",
            URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path + "/ftnode",
            FileManager.default.currentDirectoryPath + "/.build/debug/ftnode",
        ]
        return candidates.first { FileManager.default.isExecutableFile(atPath: $0) } ?? candidates[2]
    }()

    private final class BundleToken {}
}
