internal import AuditLedger
internal import AuditPackage
internal import Primitives
internal import Shards
internal import Storage
internal import Testing

@testable internal import NodeRuntime

/// Keys are judged by the sizes of a log as verifiers judge them.
@Suite("Sizes that a key may sign")
struct KeyBookTests {
    /// A ledger with one record each ten seconds.
    private func ledger(_ count: Int) throws -> LedgerReader {
        let store = InMemoryStore()
        var appender = LedgerAppender(head: LedgerHead(empty: OrganizationID(1)))
        var batch = WriteBatch()
        for (place, event) in Fixture.events(count).enumerated() {
            let stamp = Timestamp(microseconds: Int64(place + 1) * 10_000_000)
            _ = appender.append(try Fixture.draft(event), stampedAt: stamp, into: &batch)
        }
        appender.finish(into: &batch)
        try store.write(batch, durability: .logged)
        return LedgerReader(store: store, organization: OrganizationID(1))
    }

    @Test func areThoseOfTheVerifiers() throws {
        let reader = try self.ledger(12)
        let origin = try LogOrigin(cluster: "lab", organization: try Fixture.key("lab-a"))
        let key = try NoteSignerKey(
            name: SigningKeyFile.name(cluster: "lab", node: NodeID(1)),
            type: .cosignature,
            seed: [UInt8](repeating: 5, count: 32)
        ).verifierKey
        let times = KeyBook.LogTimes(reader: reader)
        let seconds: [Int64] = [0, 4, 5, 6, 15, 16, 34, 35, 36, 100, 114, 115, 126, 500]
        for from in seconds {
            for to in seconds.filter({ $0 >= from }).map(Optional.some) + [nil] {
                let start = Timestamp(microseconds: from * 1_000_000)
                let end = to.map { Timestamp(microseconds: $0 * 1_000_000) }
                let bounds = try PackageKey(key: key, validFrom: start, validTo: end)
                    .bounded(by: reader, origin: origin, size: 12).bounds
                let sizes = try #require(bounds?.sizes)
                let entry = KeyBook.Entry(
                    entry: NodeKeyEntry(node: NodeID(1), key: "", validFrom: start, validTo: end),
                    key: key
                )
                for size in UInt64(1)...12 {
                    let text = "from \(from) to \(String(describing: to)), size \(size), verifiers \(sizes)"
                    #expect(times.admits(entry, size: size) == sizes.contains(size), "\(text)")
                }
            }
        }
    }

    @Test func whatIsNotHereSettlesNothing() throws {
        let key = try NoteSignerKey(
            name: SigningKeyFile.name(cluster: "lab", node: NodeID(1)),
            type: .cosignature,
            seed: [UInt8](repeating: 5, count: 32)
        ).verifierKey
        let ended = KeyBook.Entry(
            entry: NodeKeyEntry(
                node: NodeID(1),
                key: "",
                validFrom: Timestamp(microseconds: 0),
                validTo: Timestamp(microseconds: 25_000_000)
            ),
            key: key
        )
        let times = KeyBook.LogTimes(reader: try self.ledger(4))
        #expect(times.admits(ended, size: 2))
        #expect(!times.admits(ended, size: 4), "the fourth record came when the key had ended")
        #expect(times.admits(ended, size: 5), "a record that is not here yet")
    }
}
