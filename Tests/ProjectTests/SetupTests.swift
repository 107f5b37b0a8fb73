internal import Foundation
internal import Testing

@Suite struct SetupTests {
    /// The names that `not_installed` of `scripts/setup.sh` prints for `packages`, under the script's own shell options.
    private func notInstalled(_ packages: [String]) throws -> [Substring] {
        let script = """
            set -euo pipefail
            eval "$(sed -n '/^not_installed() {/,/^}/p' "$1")"
            shift
            not_installed "$@"
            """
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments =
            ["-c", script, "bash", Repository.root.appendingPathComponent("scripts/setup.sh").path] + packages
        process.standardOutput = output
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        return String(decoding: text, as: UTF8.self).split(separator: "\n")
    }

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/dpkg-query")))
    func aPackageThatIsMissingIsNoticedBesideOneThatIsThere() throws {
        #expect(try self.notInstalled(["bash", "surely-no-such-package"]) == ["surely-no-such-package"])
        #expect(try self.notInstalled(["surely-no-such-package"]) == ["surely-no-such-package"])
        #expect(try self.notInstalled(["bash"]).isEmpty)
    }
}
