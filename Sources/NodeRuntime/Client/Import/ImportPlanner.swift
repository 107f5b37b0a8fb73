internal import AuditLedger
internal import Crypto
package import Primitives

/// Events of one organization that are appended together, and the key under which they are appended once.
package struct ImportBatch: Sendable, Equatable {
    package var organization: OrganizationKey
    /// Number of the first event among those of its organization, from 0.
    package var firstOrdinal: Int
    /// The events' lines as they were read, each ended by a line feed.
    package var bytes: [UInt8]
    /// The line of the input on which each event stands, from 1.
    package var lines: [Int]

    /// `import-` and a SHA-256 over organization, first ordinal and bytes: the same input gives the same keys.
    package var idempotencyKey: String {
        var writer = ByteWriter(capacity: 80)
        writer.write(prefixed: self.organization.rawValue)
        writer.write(UInt64(self.firstOrdinal))
        var hash = SHA256()
        hash.update(data: writer.bytes)
        hash.update(data: self.bytes)
        return "import-" + Hex.encode(Array(hash.finalize()))
    }
}

/// A line of the input that is no event; the message does not repeat the line.
package struct ImportLineError: Error, Sendable, Equatable, CustomStringConvertible {
    /// From 1.
    package let line: Int
    package let message: String

    package var description: String { "line \(self.line): \(self.message)" }
}

/// Turns lines into batches, purely: the same lines give the same batches, whatever happened to earlier runs.
///
/// Keeps the order within an organization. What is kept back is at most ``pendingBytesMax`` and one line.
package struct ImportPlanner: Sendable {
    /// Most events of one batch.
    package static let batchRecordsMax = 500
    /// Most bytes of one batch.
    package static let batchBytesMax = 3 << 20
    /// Most bytes of one line.
    package static let lineBytesMax = 1 << 20
    /// Most bytes kept back in unfinished batches of all organizations.
    package static let pendingBytesMax = 48 << 20

    private struct Pending {
        var firstOrdinal: Int
        var bytes: [UInt8] = []
        var lines: [Int] = []
    }

    private var pending: [OrganizationKey: Pending] = [:]
    private var counts: [OrganizationKey: Int] = [:]
    private var pendingBytes = 0
    private var line = 0
    private let pendingLimit: Int

    /// - Parameter pendingBytesMax: Smaller in tests; must be the same in every run of an import.
    package init(pendingBytesMax: Int = Self.pendingBytesMax) { self.pendingLimit = pendingBytesMax }

    /// Lines taken so far.
    package var lineCount: Int { self.line }
    /// Events taken so far, by organization.
    package var eventCounts: [OrganizationKey: Int] { self.counts }

    /// Takes the next line, without its line feed; blank lines are skipped.
    /// - Returns: Batches that became complete, in order.
    package mutating func add(_ bytes: ArraySlice<UInt8>) throws(ImportLineError) -> [ImportBatch] {
        self.line += 1
        var bytes = bytes
        if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
        guard !bytes.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }) else { return [] }
        guard bytes.count <= Self.lineBytesMax else {
            throw ImportLineError(line: self.line, message: "longer than \(Self.lineBytesMax) bytes")
        }
        let organization = try self.organization(of: bytes)
        var completed: [ImportBatch] = []
        if let waiting = self.pending[organization], waiting.bytes.count + bytes.count + 1 > Self.batchBytesMax {
            self.complete(organization, into: &completed)
        }
        let ordinal = self.counts[organization, default: 0]
        self.counts[organization] = ordinal + 1
        var batch = self.pending.removeValue(forKey: organization) ?? Pending(firstOrdinal: ordinal)
        batch.bytes += bytes
        batch.bytes.append(UInt8(ascii: "\n"))
        batch.lines.append(self.line)
        self.pendingBytes += bytes.count + 1
        let isFull = batch.lines.count >= Self.batchRecordsMax
        self.pending[organization] = batch
        if isFull { self.complete(organization, into: &completed) }
        while self.pendingBytes > self.pendingLimit {
            // The largest, by key where equal: a rule of the input alone, so that a second run cuts alike.
            guard
                let largest = self.pending.max(by: {
                    ($0.value.bytes.count, $1.key.rawValue) < ($1.value.bytes.count, $0.key.rawValue)
                })?.key
            else { break }
            self.complete(largest, into: &completed)
        }
        return completed
    }

    /// The batches that are not full, by organization.
    package mutating func finish() -> [ImportBatch] {
        var completed: [ImportBatch] = []
        for organization in self.pending.keys.sorted() { self.complete(organization, into: &completed) }
        return completed
    }

    private mutating func complete(_ organization: OrganizationKey, into completed: inout [ImportBatch]) {
        guard let batch = self.pending.removeValue(forKey: organization) else { return }
        self.pendingBytes -= batch.bytes.count
        completed.append(
            ImportBatch(
                organization: organization,
                firstOrdinal: batch.firstOrdinal,
                bytes: batch.bytes,
                lines: batch.lines
            )
        )
    }

    private func organization(of bytes: ArraySlice<UInt8>) throws(ImportLineError) -> OrganizationKey {
        let value: JSONValue
        do { value = try JSONParser.parse(Array(bytes)) } catch {
            throw ImportLineError(line: self.line, message: String(describing: error))
        }
        guard case .object = value else {
            throw ImportLineError(line: self.line, message: "must be an object, is \(value.typeName)")
        }
        guard case .string(let text) = value["organization"] else {
            throw ImportLineError(line: self.line, message: "organization must be given as a text")
        }
        guard let key = OrganizationKey(String(decoding: text, as: UTF8.self)) else {
            throw ImportLineError(
                line: self.line,
                message: "organization must be \(ConfigurationKind.name.allowed)"
            )
        }
        return key
    }
}

/// Which batch is sent next: those of one organization one after another, of several at the same time.
package struct ImportSchedule: Sendable {
    /// Batches that are sent at the same time.
    package static let inFlightMax = 8
    /// Reading pauses while this many bytes wait.
    package static let queuedBytesMax = 48 << 20

    private var queues: [OrganizationKey: [ImportBatch]] = [:]
    /// Organizations with waiting batches and none in flight, oldest first.
    private var ready: [OrganizationKey] = []
    private var inFlight: Set<OrganizationKey> = []
    private var queuedBytes = 0

    package init() {}

    package var inFlightCount: Int { self.inFlight.count }
    package var isIdle: Bool { self.inFlight.isEmpty && self.ready.isEmpty }
    /// False while enough waits to be sent.
    package var wantsMore: Bool { self.queuedBytes < Self.queuedBytesMax }

    package mutating func enqueue(_ batch: ImportBatch) {
        let organization = batch.organization
        if self.queues[organization, default: []].isEmpty, !self.inFlight.contains(organization) {
            self.ready.append(organization)
        }
        self.queues[organization, default: []].append(batch)
        self.queuedBytes += batch.bytes.count
    }

    /// The batch to send now, or nil when enough are in flight or none waits.
    package mutating func next() -> ImportBatch? {
        guard self.inFlight.count < Self.inFlightMax, !self.ready.isEmpty else { return nil }
        let organization = self.ready.removeFirst()
        guard let batch = self.queues[organization]?.removeFirst() else { return nil }
        if self.queues[organization]?.isEmpty == true { self.queues[organization] = nil }
        self.queuedBytes -= batch.bytes.count
        self.inFlight.insert(organization)
        return batch
    }

    /// The organization's batch in flight was acknowledged.
    package mutating func finished(_ organization: OrganizationKey) {
        self.inFlight.remove(organization)
        if self.queues[organization] != nil { self.ready.append(organization) }
    }

    /// Forgets what waits; what is in flight stays.
    package mutating func drop() {
        self.queues = [:]
        self.ready = []
        self.queuedBytes = 0
    }
}
