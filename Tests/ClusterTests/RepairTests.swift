internal import AuditLedger
internal import Foundation
internal import NodeRuntime
internal import Primitives
internal import RocksStorage
internal import Storage
internal import Testing

extension RealCluster {
    @Suite("A replica that is mended from its peers")
    struct RepairTests {
        @Test(.timeLimit(.minutes(2)))
        func holdsTheSignedHistoryAgain() async throws {
            try await withFolder("repair") { folder in
                var cluster = try await DevCluster.start(in: folder)
                do {
                    let log = EventLog(seed: 98, events: 240)
                    let file = try folder.write(log.ndjson, to: "log.ndjson")
                    let imported = try await cluster.ftnode("import", file, "--create-organizations")
                    #expect(imported.ending == .exited(0), "\(imported.output)")
                    for organization in ["north", "south", "east"] {
                        let signed = try await cluster.ftnode("audit", "checkpoint", "--org", organization, "--fresh")
                        #expect(signed.ending == .exited(0), "\(signed.output)")
                    }
                    // A read that sees everything acknowledged, on that node: then it has applied it.
                    for organization in ["north", "south", "east"] {
                        let page = "/v1/organizations/\(organization)/records?limit=1"
                        #expect(try await cluster.send("GET", page, node: 2).status == 200)
                    }
                    #expect(await cluster.stop() == .exited(0))
                    try Self.tamper(cluster.dataFolder(2))
                    cluster = try await DevCluster.start(in: folder, again: cluster)

                    let compared = try await cluster.ftnode(
                        "audit",
                        "compare",
                        "--org",
                        "east",
                        "--node",
                        "1",
                        "--node",
                        "2"
                    )
                    #expect(compared.ending == .exited(1), "\(compared.output)")
                    #expect(compared.output.contains("DIFFERENT from record 3 on"), "\(compared.output)")
                    #expect(compared.output.contains("supports node 1"), "\(compared.output)")
                    let failed = try await cluster.ftnode("audit", "verify")
                    #expect(failed.ending == .exited(1), "\(failed.output)")
                    let status = try await cluster.ftnode("cluster", "status")
                    #expect(
                        status.output.contains("node 2 does not serve north: modified at records/5"),
                        "\(status.output)"
                    )
                    for organization in ["north", "south", "east"] {
                        let read = try await cluster.ftnode("audit", "log", "--org", organization, "--limit", "1")
                        #expect(read.ending == .exited(0), "another node answers: \(read.output)")
                        let repaired = try await cluster.ftnode("audit", "repair", "--org", organization, "--node", "2")
                        #expect(repaired.ending == .exited(0), "\(repaired.output)")
                        #expect(repaired.output.contains("a quorum-signed checkpoint"), "\(repaired.output)")
                    }
                    let sound = try await cluster.ftnode("audit", "verify", "--level", "signatures")
                    #expect(sound.ending == .exited(0), "\(sound.output)")
                    let healed = try await cluster.ftnode("cluster", "status")
                    #expect(!healed.output.contains("DAMAGED"), "\(healed.output)")
                    let records = try await cluster.ftnode(
                        "audit",
                        "log",
                        "--org",
                        "system",
                        "--action",
                        "ledger.repaired"
                    )
                    #expect(records.output.contains("3 records"), "\(records.output)")
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
            }
        }

        @Test(.timeLimit(.minutes(2)))
        func holdsTheRowsBesideTheLedgerAgain() async throws {
            try await withFolder("repair-rows") { folder in
                var cluster = try await DevCluster.start(in: folder)
                do {
                    try await cluster.withClient { _ = try await $0.createOrganization(key: "clinic", name: nil) }
                    let event =
                        #"{"action":"create","entity_type":"patient","entity_id":"p-ada","after":{"name":"Ada"},"#
                        + #""personal":[{"path":"/after/name","subject":"p-ada"}]}"#
                    let connection = try #require(cluster.connections[1])
                    let reply = try await connection.send(
                        "POST",
                        "/v1/organizations/clinic/records",
                        authorization: cluster.authorization,
                        contentType: "application/json",
                        idempotencyKey: "once",
                        body: Array(event.utf8)
                    )
                    try #require(reply.status == 201, "\(reply)")
                    let signed = try await cluster.ftnode("audit", "checkpoint", "--org", "clinic", "--fresh")
                    #expect(signed.ending == .exited(0), "\(signed.output)")
                    let page = "/v1/organizations/clinic/records?limit=1"
                    #expect(try await cluster.send("GET", page, node: 2).status == 200)
                    #expect(await cluster.stop() == .exited(0))
                    try Self.flipRows(cluster.dataFolder(2))
                    cluster = try await DevCluster.start(in: folder, again: cluster)

                    let failed = try await cluster.ftnode("audit", "verify", "--level", "projections")
                    #expect(failed.ending == .exited(1), "\(failed.output)")
                    #expect(failed.output.contains("idempotency/"), "\(failed.output)")
                    // The records are sound, and yet the node does not serve them.
                    let marked = try await cluster.ftnode("audit", "verify", "--org", "clinic")
                    #expect(marked.ending == .exited(1), "\(marked.output)")
                    #expect(marked.output.contains("sound, but still marked as unreadable"), "\(marked.output)")
                    let repaired = try await cluster.ftnode("audit", "repair", "--org", "clinic", "--node", "2")
                    #expect(repaired.ending == .exited(0), "\(repaired.output)")
                    #expect(repaired.output.contains("3 rows beside the ledger"), "\(repaired.output)")
                    let sound = try await cluster.ftnode("audit", "verify", "--level", "signatures")
                    #expect(sound.ending == .exited(0), "\(sound.output)")
                    let again = try await cluster.ftnode("audit", "repair", "--org", "clinic", "--node", "2")
                    #expect(again.output.contains("nothing was wrong"), "\(again.output)")
                    let revealed = try await cluster.send(
                        "GET",
                        "/v1/organizations/clinic/records/1?reveal=true",
                        node: 2
                    )
                    #expect(revealed.text.contains("Ada"), "\(revealed)")
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
            }
        }

        /// One bit in the answer to an idempotency key, in a sealed value, and in what is known of its data subject.
        private static func flipRows(_ dataFolder: String) throws {
            let store = try RocksStore.open(path: dataFolder + "/rocksdb")
            defer { try? store.close() }
            let subjectKind = UInt8(14)
            var flipped = 0
            var batch = WriteBatch()
            for family in [ColumnFamily.idempotency, .sealedValues, .groupState] {
                try store.scan(family, from: [], to: nil) { key, value in
                    guard family != .groupState || key[4] == subjectKind else { return true }
                    var value = value
                    value[value.count / 2] ^= 0x10
                    batch.put(family, key: key, value: value)
                    flipped += 1
                    return false
                }
            }
            try #require(flipped == 3)
            try store.write(batch)
            try store.sync()
        }

        /// Changes a record of one organization, removes a tree node of another, and rewrites the history of a third
        /// from a record on, so that it is sound in itself.
        private static func tamper(_ dataFolder: String) throws {
            let store = try RocksStore.open(path: dataFolder + "/rocksdb")
            defer { try? store.close() }
            var batch = WriteBatch()
            let north = try self.organization("north", in: store)
            let key = LedgerKeys.record(north, SequenceNumber(5))
            var bytes = try #require(try store.get(key, in: .records))
            bytes[14] ^= 0x01
            batch.put(.records, key: key, value: bytes)
            let south = try self.organization("south", in: store)
            batch.delete(.treeNodes, key: LedgerKeys.node(south, TreePosition(level: 1, index: 0)))
            let east = try self.organization("east", in: store)
            let records = try LedgerReader(store: store, organization: east)
                .records(from: SequenceNumber(1), limit: 10_000)
            let prefix = LedgerKeys.head(east)
            for family in [ColumnFamily.records, .treeNodes, .ledgerHeads] {
                batch.deleteRange(family, lower: prefix, upper: try #require(keyAfter(prefix: prefix)))
            }
            var appender = LedgerAppender(head: LedgerHead(empty: east))
            for record in records {
                var bytes = record.bytes
                if record.sequence.rawValue == 3 {
                    let place = try #require(try RecordFields(scanning: bytes).range(.entityID)).lowerBound + 1
                    bytes[place] = bytes[place] == UInt8(ascii: "x") ? UInt8(ascii: "y") : UInt8(ascii: "x")
                }
                let link = try #require(try RecordFields(scanning: bytes).range(.previous))
                let previous = Array(appender.head.lastChecksum.hex.utf8)
                bytes.replaceSubrange(link.lowerBound + 1..<link.upperBound - 1, with: previous)
                try appender.adopt(bytes, into: &batch)
            }
            appender.finish(into: &batch)
            try store.write(batch)
            try store.sync()
        }

        private static func organization(_ key: String, in store: RocksStore) throws -> OrganizationID {
            var found: OrganizationID?
            try store.scan(.ledgerHeads, from: [], to: nil) { _, value in
                let organization = try LedgerHead.decode(value).organization
                let first = try LedgerReader(store: store, organization: organization).record(at: SequenceNumber(1))
                guard let first, try RecordFields(scanning: first).text(.organization) == key else { return true }
                found = organization
                return false
            }
            return try #require(found)
        }
    }
}
