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

    /// Records in a bundle, hashes in a tile.
    package static let tileWidth: UInt64 = 256

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

    /// The number of the hashes in a tile of a tree of `size` leaves; 0 when there is no such tile.
    static func width(level: Int, index: UInt64, size: UInt64) -> Int {
        let count = level < 8 ? size >> UInt64(8 * level) : 0
        let start = index * self.tileWidth
        return count > start ? Int(min(self.tileWidth, count - start)) : 0
    }

    /// The number of tiles of a level.
    static func tileCount(level: Int, size: UInt64) -> UInt64 {
        let count = level < 8 ? size >> UInt64(8 * level) : 0
        return count / self.tileWidth + (count % self.tileWidth == 0 ? 0 : 1)
    }

    /// The levels that a tree of `size` leaves has tiles of.
    static func tileLevels(size: UInt64) -> Int {
        var levels = 0
        while self.tileCount(level: levels, size: size) > 0 { levels += 1 }
        return levels
    }
}
