internal import ArgumentParser
internal import AuditPackage
internal import NodeRuntime
internal import Primitives

extension AuditCommand {
    struct VerifyPackage: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "verify-package",
            abstract: "Verify an exported package offline, as ftverify does.",
            discussion: """
                Give keys or a policy that you got from elsewhere than the package. Exit codes: 0 valid, 1 tampered \
                (the first bad record is named), 2 incomplete, 3 policy not met or no keys given, 4 unreadable, 64 keys or \
                policy cannot be used.

                Example:
                  ftnode audit keys --format json > keys.json      (once, kept away from the cluster)
                  ftnode audit verify-package --keys keys.json lab-a.zip
                """
        )
        /// What the auditor brings cannot be used (EX_USAGE).
        private static let unusableTrust: Int32 = 64

        @Argument(help: "The package.")
        var package: String
        @Option(help: ArgumentHelp("A public key, or a file of them; may be repeated.", valueName: "file|vkey"))
        var keys: [String] = []
        @Option(help: ArgumentHelp("A C2SP tlog-policy file (else a majority of the keys).", valueName: "file"))
        var policy: String?
        @Option(help: ArgumentHelp("The log that it must be of: cluster/organization.", valueName: "origin"))
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
                // Not a verdict: none of its codes.
                Terminal.complain(errorChain(error))
                throw ExitCode(Self.unusableTrust)
            }
            Terminal.out(outcome.text)
            throw ExitCode(outcome.exit.rawValue)
        }
    }
}
