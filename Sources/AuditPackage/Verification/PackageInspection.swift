internal import AuditLedger
internal import Primitives

/// What the commands `ftverify` and `ftnode audit verify-package` do.
package struct PackageInspection: Sendable {
    /// Keys as text, or paths of files that hold keys.
    package var keys: [String] = []
    /// The path of a C2SP tlog-policy.
    package var policy: String?
    /// The log that the package must be of.
    package var origin: String?
    /// The path of a signed checkpoint that was seen before.
    package var held: String?
    package var asJSON = false

    /// A key file, policy or checkpoint has at most this many bytes.
    private static let fileBytesMax = 4 << 20

    package init() {}

    /// What is printed, and what the program ends with.
    package struct Outcome: Sendable {
        package let text: String
        package let exit: PackageReport.Exit
    }

    /// Judges the package in a file.
    ///
    /// - Throws: ``PackageError`` when what the auditor brings cannot be read; what is wrong with the package is an
    ///   outcome.
    package func run(file: String) async throws -> Outcome {
        let trust = try self.trust()
        do {
            let report = try await PackageVerifier(trust: trust).verify(try PackageFile(path: file))
            let text = VerdictText(report, file: file)
            return Outcome(
                text: self.asJSON ? String(decoding: text.json, as: UTF8.self) + "\n" : text.text,
                exit: report.exit
            )
        } catch let error as PackageError {
            let text =
                self.asJSON
                ? String(decoding: VerdictText.json(unreadable: error, file: file), as: UTF8.self) + "\n"
                : "package       \(VerdictText.printable(file))\n"
                    + "unreadable    \(error.code.rawValue): \(VerdictText.printable(errorChain(error)))\n\n"
                    + "verdict: unreadable\n"
            return Outcome(text: text, exit: .unreadable)
        }
    }

    /// What the auditor brings, read.
    ///
    /// - Throws: ``PackageError`` when it cannot be read.
    package func trust() throws -> PackageTrust {
        var trust = PackageTrust()
        for key in self.keys {
            // The text of a key has two plus signs; a file of that name would be a strange one.
            let isText = key.utf8.count { $0 == UInt8(ascii: "+") } >= 2
            let text = try isText ? Array(key.utf8) : Self.read(key)
            trust.keys += try Self.keys(text, named: key)
        }
        do {
            trust.policy = try self.policy.map { try TrustPolicy(parsing: try Self.read($0)) }
            trust.origin = try self.origin.map { try LogOrigin($0) }
            trust.held = try self.held.map { try SignedCheckpoint(parsing: try Self.read($0)) }
        } catch let error as NoteError {
            throw PackageError(.malformed, "the policy, origin or checkpoint that you bring", cause: error)
        }
        return trust
    }

    private static func keys(_ text: [UInt8], named name: String) throws(PackageError) -> [PackageKey] {
        do {
            return try PackageKey.parse(text)
        } catch {
            let isPolicy = (try? TrustPolicy(parsing: text)) != nil
            guard isPolicy else { throw error }
            throw PackageError(.malformed, "\(name) is a policy and no list of keys: give it with --policy")
        }
    }

    private static func read(_ path: String) throws(PackageError) -> [UInt8] {
        try PackageFile.readAll(path: path, bytesMax: self.fileBytesMax)
    }
}
