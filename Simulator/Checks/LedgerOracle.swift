internal import AuditLedger
internal import Primitives
internal import Shards

/// The one true history of every ledger, recomputed from the records' bytes, and what clients were told of it.
///
/// Whoever first applies a record determines it; from then on every replica, receipt and read is held against it.
struct LedgerOracle {
    /// One organization's ledger.
    private struct Ledger {
        var tree = MerkleTree()
        var checksums: [Digest] = []
        /// The root after each record.
        var roots: [Digest] = []
        /// By record: the call that wanted it.
        var calls: [UInt64] = []
        var recordedAt: [Timestamp] = []
        /// The largest size that a finished call has shown to a client.
        var shown: UInt64 = 0

        var size: UInt64 { UInt64(self.checksums.count) }
    }

    private var ledgers: [OrganizationID: Ledger] = [:]
    /// The first record of each call.
    private var firsts: [UInt64: (organization: OrganizationID, sequence: UInt64)] = [:]

    /// Every record of a simulated client names its call by this.
    static let callMark = Array("call-".utf8)

    func size(of organization: OrganizationID) -> UInt64 { self.ledgers[organization]?.size ?? 0 }
    /// What a read that begins now must see at least.
    func floor(of organization: OrganizationID) -> UInt64 { self.ledgers[organization]?.shown ?? 0 }
    /// Records of all ledgers.
    private(set) var recordCount = 0

    // MARK: - Replicas

    /// A replica's ledger stands at `head`; `records` gives its bytes from a sequence on.
    /// - Returns: What is wrong, or nil.
    /// - Throws: What `records` throws.
    mutating func sees(
        _ head: LedgerHead,
        records: (_ from: SequenceNumber, _ count: Int) throws -> [StoredRecord]
    ) throws -> String? {
        var ledger = self.ledgers[head.organization] ?? Ledger()
        let name = "organization \(head.organization)"
        if head.size > ledger.size {
            let count = Int(head.size - ledger.size)
            let found = try records(SequenceNumber(ledger.size + 1), count)
            guard found.count == count else { return "\(name): \(found.count) of \(count) new records are there" }
            for record in found {
                if let problem = self.add(record, to: &ledger, head.organization) { return "\(name): \(problem)" }
            }
            self.ledgers[head.organization] = ledger
        }
        guard head.size > 0 else { return nil }
        let place = Int(head.size) - 1
        if head.lastChecksum != ledger.checksums[place] { return "\(name): another checksum at size \(head.size)" }
        if head.root != ledger.roots[place] { return "\(name): another root at size \(head.size)" }
        if head.lastRecordedAt != ledger.recordedAt[place] { return "\(name): another time at size \(head.size)" }
        return nil
    }

    private mutating func add(
        _ record: StoredRecord,
        to ledger: inout Ledger,
        _ organization: OrganizationID
    ) -> String? {
        let sequence = ledger.size + 1
        guard record.sequence.rawValue == sequence else { return "record \(record.sequence) follows \(ledger.size)" }
        let fields: RecordFields
        do { fields = try RecordFields(scanning: record.bytes) } catch {
            return "record \(sequence) cannot be read: \(error)"
        }
        if fields.sequence.rawValue != sequence { return "record \(sequence) says it is \(fields.sequence)" }
        if fields.previous != ledger.checksums.last ?? .zero { return "record \(sequence) breaks the chain" }
        if let last = ledger.recordedAt.last, fields.recordedAt < last { return "stamps go back at record \(sequence)" }
        if let call = Self.call(in: fields.textBytes(.entityID) ?? []) {
            if let first = self.firsts[call] {
                let isOfSameAppend = first.organization == organization && ledger.calls.last == call
                if !isOfSameAppend { return "call \(call) was done twice: records \(first.sequence) and \(sequence)" }
            } else {
                self.firsts[call] = (organization, sequence)
            }
            ledger.calls.append(call)
        } else {
            ledger.calls.append(0)
        }
        let checksum = LedgerHash.leaf(record.bytes)
        ledger.tree.push(checksum)
        ledger.checksums.append(checksum)
        ledger.roots.append(ledger.tree.root)
        ledger.recordedAt.append(fields.recordedAt)
        self.recordCount += 1
        return nil
    }

    private static func call(in entity: [UInt8]) -> UInt64? {
        guard entity.starts(with: Self.callMark) else { return nil }
        return UInt64(String(decoding: entity[Self.callMark.count...], as: UTF8.self))
    }

    // MARK: - Clients

    /// A client gets `receipt` for its call.
    mutating func acknowledges(
        _ receipt: AppendReceipt,
        of call: UInt64,
        records: Int,
        in organization: OrganizationID,
        floor: UInt64
    ) -> String? {
        let name = "organization \(organization): call \(call)"
        guard var ledger = self.ledgers[organization] else { return "\(name) has a receipt, but there is no ledger" }
        let first = Int(receipt.firstSequence.rawValue)
        guard first >= 1, receipt.checksums.count == records, first + records - 1 <= Int(ledger.size) else {
            return "\(name) has a receipt for records that are not there"
        }
        for offset in 0..<records {
            let place = first - 1 + offset
            if ledger.calls[place] != call { return "\(name) has a receipt for record \(place + 1) of another call" }
            if ledger.checksums[place] != receipt.checksums[offset] {
                return "\(name) has a receipt with a wrong checksum"
            }
        }
        if !receipt.isReplay, UInt64(first) <= floor {
            return "\(name) began after record \(floor) was shown, and stands at \(first)"
        }
        ledger.shown = max(ledger.shown, UInt64(first + records - 1))
        self.ledgers[organization] = ledger
        return nil
    }

    /// A client that asked when `floor` records were known to it and others reads a ledger that stands at `head`.
    mutating func reads(_ head: LedgerHead, floor: UInt64) -> String? {
        let name = "organization \(head.organization)"
        if head.size < floor { return "\(name): a read sees \(head.size) records, \(floor) were there when it began" }
        guard head.size > 0 else { return nil }
        guard var ledger = self.ledgers[head.organization], head.size <= ledger.size else {
            return "\(name): a read sees \(head.size) records that nobody applied"
        }
        if head.lastChecksum != ledger.checksums[Int(head.size) - 1] { return "\(name): a read sees another ledger" }
        ledger.shown = max(ledger.shown, head.size)
        self.ledgers[head.organization] = ledger
        return nil
    }
}
