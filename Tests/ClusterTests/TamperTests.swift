internal import AuditLedger
internal import Foundation
internal import NodeRuntime
internal import Primitives
internal import RocksStorage
internal import Storage
internal import Testing

extension RealCluster {
    @Suite("A replica that somebody changed")
    struct TamperTests {
        /// A stored record and where it lies.
        private struct Stored {
            var key: [UInt8]
            var value: [UInt8]
        }

        @Test(.timeLimit(.minutes(2)))
        func isNamedWithOrganizationSequenceAndKind() async throws {
            try await withFolder("tamper") { folder in
                var cluster = try await DevCluster.start(in: folder)
                do {
                    let log = EventLog(seed: 99, events: 240)
                    let file = try folder.write(log.ndjson, to: "log.ndjson")
                    let imported = try await cluster.ftnode("import", file, "--create-organizations")
                    #expect(imported.ending == .exited(0), "\(imported.output)")
                    // A read that sees everything acknowledged, on that node: then it has applied it.
                    for organization in ["north", "south", "east"] {
                        let page = "/v1/organizations/\(organization)/records?limit=1"
                        #expect(try await cluster.send("GET", page, node: 2).status == 200)
                    }
                    #expect(await cluster.stop() == .exited(0))

                    let originals = try Self.tamper(cluster.dataFolder(2))
                    cluster = try await DevCluster.start(in: folder, again: cluster)
                    let failed = try await cluster.ftnode("audit", "verify")
                    #expect(failed.ending == .exited(1), "\(failed.output)")
                    for expected in [
                        "node 2, organization north, sequence 9: modified",
                        "node 2, organization south, sequence 5: missing",
                        "node 2, organization east, sequence 3: reordered",
                    ] {
                        #expect(failed.output.contains(expected), "\(expected) is not in:\n\(failed.output)")
                    }
                    #expect(!failed.output.contains("node 1, organization"), "\(failed.output)")
                    #expect(!failed.output.contains("node 3, organization"), "\(failed.output)")
                    let sound = try await cluster.ftnode("audit", "verify", "--org", "west", "--org", "pole")
                    #expect(sound.ending == .exited(0), "\(sound.output)")
                    #expect(await cluster.stop() == .exited(0))

                    try Self.restore(originals, cluster.dataFolder(2))
                    cluster = try await DevCluster.start(in: folder, again: cluster)
                    let again = try await cluster.ftnode("audit", "verify")
                    #expect(again.ending == .exited(0), "\(again.output)")
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
            }
        }

        /// Changes a byte of one record, removes another, swaps two more, each of another organization.
        /// - Returns: What was there before.
        private static func tamper(_ dataFolder: String) throws -> [Stored] {
            let store = try RocksStore.open(path: dataFolder + "/rocksdb")
            defer { try? store.close() }
            let modified = try self.record("north", 9, in: store)
            let removed = try self.record("south", 5, in: store)
            let swapped = try [self.record("east", 3, in: store), self.record("east", 4, in: store)]
            var batch = WriteBatch()
            var bytes = modified.value
            let place = try #require(bytes.firstRange(of: Array("\"person-".utf8))?.upperBound)
            bytes[place] ^= 0x01
            batch.put(.records, key: modified.key, value: bytes)
            batch.delete(.records, key: removed.key)
            batch.put(.records, key: swapped[0].key, value: swapped[1].value)
            batch.put(.records, key: swapped[1].key, value: swapped[0].value)
            try store.write(batch)
            try store.sync()
            return [modified, removed] + swapped
        }

        private static func restore(_ originals: [Stored], _ dataFolder: String) throws {
            let store = try RocksStore.open(path: dataFolder + "/rocksdb")
            defer { try? store.close() }
            var batch = WriteBatch()
            for original in originals { batch.put(.records, key: original.key, value: original.value) }
            try store.write(batch)
            try store.sync()
        }

        /// Finds a record by what stands in it, not by a key that this test would have to know how to make.
        private static func record(_ organization: String, _ sequence: UInt64, in store: RocksStore) throws -> Stored {
            var found: Stored?
            let wanted = Array("\"organization\":\"\(organization)\"".utf8)
            let number = Array("\"sequence\":\(sequence),".utf8)
            try store.scan(.records, from: [], to: nil) { key, value in
                guard value.firstRange(of: wanted) != nil, value.firstRange(of: number) != nil else { return true }
                found = Stored(key: key, value: value)
                return false
            }
            return try #require(found, "record \(sequence) of \(organization) is not on the node")
        }
    }
}
