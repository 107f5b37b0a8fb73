internal import ArgumentParser
internal import AuditPackage
internal import Foundation
internal import Primitives

/// Verifies an audit package offline: no database, no network, nothing but the file and the auditor's keys.
@main
struct FTVerify: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ftverify",
        abstract: "Verify an audit package.",
        discussion: """
            Give the public keys of the cluster's nodes, or a policy, that you got from elsewhere than the package. \
            Without them the package can only agree with itself, and the exit code is 3.

            Exit codes: 0 valid, 1 tampered (the first bad record is named), 2 incomplete, 3 policy not met or no keys \
            given, 4 unreadable, 64 wrong usage.

            Examples:
              ftverify --keys keys.json audit-lab-a.zip
              ftverify --keys node-1.vkey --keys node-2.vkey --keys node-3.vkey --held last-year.checkpoint audit.zip
            """
    )
    @Argument(help: "The package.")
    var package: String
    @Option(help: ArgumentHelp("A public key, or a file of them; may be repeated.", valueName: "file|vkey"))
    var keys: [String] = []
    @Option(
        help: ArgumentHelp("A C2SP tlog-policy file (else a majority of the keys is asked for).", valueName: "file")
    )
    var policy: String?
    @Option(help: ArgumentHelp("The log that the package must be of: cluster/organization.", valueName: "origin"))
    var origin: String?
    @Option(help: ArgumentHelp("A checkpoint that you have seen before, to be continued.", valueName: "file"))
    var held: String?
    @Flag(help: "Print one JSON object.")
    var json = false

    mutating func run() async throws {
        var inspection = PackageInspection()
        inspection.keys = self.keys
        inspection.policy = self.policy
        inspection.origin = self.origin
        inspection.held = self.held
        inspection.asJSON = self.json
        let outcome: PackageInspection.Outcome
        do {
            outcome = try await inspection.run(file: self.package)
        } catch {
            throw ValidationError(errorChain(error))
        }
        FileHandle.standardOutput.write(Data(outcome.text.utf8))
        throw ExitCode(outcome.exit.rawValue)
    }
}
