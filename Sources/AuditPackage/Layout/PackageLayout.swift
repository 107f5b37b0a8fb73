/// The names of a package's parts.
package enum PackageLayout {
    /// What the package is, who made it, and the hash of every other part.
    package static let manifest = "MANIFEST.json"
    /// A signed note over the manifest's hash; absent when the node had no key.
    package static let manifestSignature = "MANIFEST.sig"
    /// The signed checkpoint that everything else is proven by (C2SP tlog-tiles).
    package static let checkpoint = "checkpoint"
    /// An earlier checkpoint of the same log.
    package static let earlierCheckpoint = "checkpoint.earlier"
    /// The consistency proof from the earlier checkpoint, as a C2SP tlog-witness request writes it.
    package static let consistency = "consistency.proof"
    package static let policy = "policy.txt"
    package static let keys = "keys.json"
    package static let report = "report.html"
    package static let instructions = "VERIFY.txt"
    package static let keyFolder = "keys/"
    package static let proofFolder = "proofs/"
    package static let recordFolder = "records/"
    package static let outlineFolder = "outline/"
    package static let tileFolder = "tile/"
    /// Personal values that the recipient may see; absent when none were asked for.
    package static let openings = "personal/openings.ndjson"
    /// Records about erasures, each with its proof; absent when there are none.
    package static let erasures = "personal/erasures.ndjson"
    /// Notes of nodes on what they have read again.
    package static let scrubFolder = "scrub/"
    /// Proofs that two histories were signed.
    package static let forkFolder = "forks/"

    static func scrub(_ number: Int) -> String { "\(self.scrubFolder)\(self.padded(number)).note" }

    static func fork(_ number: Int) -> String { "\(self.forkFolder)\(self.padded(number)).txt" }

    /// The proof of one record, as C2SP tlog-proof.
    static func proof(_ sequence: UInt64) -> String { "\(self.proofFolder)\(sequence).tlog-proof" }

    /// Shown records of one stretch of the ledger.
    static func records(part: Int) -> String { "\(self.recordFolder)\(self.padded(part)).ndjson" }

    /// The outline of the same stretch.
    static func outline(part: Int) -> String { "\(self.outlineFolder)\(self.padded(part)).ndjson" }

    private static func padded(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 6 - digits.count)) + digits
    }
}
