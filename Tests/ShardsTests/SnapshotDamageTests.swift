internal import AuditLedger
internal import Consensus
internal import Primitives
internal import Storage
internal import Testing

@testable internal import Shards

@Suite("Snapshots that are not what they should be")
struct SnapshotDamageTests {
    private let one = OrganizationID(1)

    private func leader(records: Int = 12, faults: ApplierFaults = []) throws -> Machine {
        var leader = try Machine(faults: faults)
        try leader.join([1, 2, 3])
        for number in 1...records {
            try leader.apply([
                try Fixture.append(number...number + 1, to: self.one, key: "a\(number)"),
                try Fixture.append(number...number, to: OrganizationID(2)),
            ])
        }
        return leader
    }

    /// What a follower says of chunks, and that it is as it was before.
    private func refusal(of chunks: [[UInt8]], follower: Machine) throws -> SnapshotError.Code? {
        let applied = try follower.applier.appliedState(of: follower.group)
        let installer = try follower.applier.snapshotInstaller(of: follower.group)
        let code = SnapshotError.Code.thrown {
            for chunk in chunks { try installer.accept(chunk) }
            _ = try installer.seal()
            try installer.switchState()
        }
        if code != nil {
            #expect(try follower.applier.appliedState(of: follower.group) == applied)
            #expect(SnapshotError.Code.thrown { try installer.switchState() } == .outOfOrder, "the installer has ended")
        }
        return code
    }

    private func chunks(_ leader: Machine) throws -> [[UInt8]] {
        try leader.chunks(for: SnapshotRequest(group: leader.group, holdings: []))
    }

    @Test func anyDamagedByteOfAnyChunkIsNoticed() throws {
        let chunks = try self.chunks(try self.leader(records: 3))
        for (number, chunk) in chunks.enumerated() {
            for place in stride(from: 0, to: chunk.count, by: max(1, chunk.count / 50)) {
                var damaged = chunks
                damaged[number][place] ^= 0x10
                let code = try self.refusal(of: damaged, follower: try Machine())
                #expect(code == .damagedChunk, "chunk \(number), byte \(place)")
            }
            for count in [0, 1, chunk.count - 1] {
                var cut = chunks
                cut[number] = Array(chunk.prefix(count))
                #expect(try self.refusal(of: cut, follower: try Machine()) == .damagedChunk)
            }
        }
    }

    @Test func missingRepeatedAndExchangedChunksAreNoticed() throws {
        let chunks = try self.chunks(try self.leader())
        for number in chunks.indices.dropLast() {
            var missing = chunks
            missing.remove(at: number)
            #expect(try self.refusal(of: missing, follower: try Machine()) == .outOfOrder)
            var twice = chunks
            twice.insert(chunks[number], at: number)
            #expect(try self.refusal(of: twice, follower: try Machine()) == .outOfOrder)
            var exchanged = chunks
            exchanged.swapAt(number, number + 1)
            #expect(try self.refusal(of: exchanged, follower: try Machine()) == .outOfOrder)
        }
        #expect(try self.refusal(of: Array(chunks.dropLast()), follower: try Machine()) == .outOfOrder)
    }

    @Test func chunksOfAnotherSnapshotOrGroupAreNoticed() throws {
        var leader = try self.leader()
        let earlier = try self.chunks(leader)
        try leader.apply([try Fixture.append(90...91, to: self.one)])
        let later = try self.chunks(leader)
        #expect(earlier.count == later.count)
        for number in 1..<earlier.count {
            var mixed = earlier
            mixed[number] = later[number]
            #expect(try self.refusal(of: mixed, follower: try Machine()) == .outOfOrder)
        }
        #expect(try self.refusal(of: earlier, follower: try Machine(group: GroupID(2))) == .outOfOrder)
    }

    /// A source that lies, with checks that are right: every part of what it sends must hold together.
    @Test func contentsThatContradictTheManifestAreNoticed() throws {
        let chunks = try self.chunks(try self.leader())
        var seen: Set<UInt8> = []
        for (number, bytes) in chunks.enumerated() {
            let chunk = try SnapshotChunk(bytes)
            seen.insert(chunk.kind.rawValue)
            var found = 0
            for place in stride(from: 0, to: chunk.body.count, by: max(1, chunk.body.count / 120)) {
                var body = Array(chunk.body)
                body[place] ^= 0x01
                var lying = chunks
                lying[number] = SnapshotChunk.encode(
                    kind: chunk.kind,
                    group: chunk.group,
                    number: chunk.number,
                    index: chunk.index,
                    body: body
                )
                if try self.refusal(of: lying, follower: try Machine()) != nil { found += 1 }
            }
            // The term, the level, the state's rows and an answer's request are the source's word alone; records and
            // heads are not.
            if chunk.kind == .records || chunk.kind == .organizations {
                #expect(found >= 100 || found == chunk.body.count)
            }
            #expect(found > 0, "chunk of kind \(chunk.kind)")
        }
        #expect(seen == [1, 2, 3, 4, 5, 6])
    }

    @Test func aForkIsRefusedAndNothingIsOverwritten() throws {
        let leader = try self.leader()
        var follower = try Machine()
        // The same organization, another history of the same length as a part of the leader's.
        try follower.apply([try Fixture.append(500...503, to: self.one)])
        let before = try contents(of: follower.store)
        let installer = try follower.applier.snapshotInstaller(of: GroupID(1))
        let code = try self.refusal(of: try leader.chunks(for: installer.request), follower: follower)
        #expect(code == .fork)
        #expect(try contents(of: follower.store) == before)
    }

    @Test func aSourceThatIsBehindRefuses() throws {
        let leader = try self.leader(records: 3)
        var ahead = try Machine()
        try ahead.apply([try Fixture.append(1...50, to: self.one)])
        let request = try ahead.applier.snapshotInstaller(of: GroupID(1)).request
        #expect(SnapshotError.Code.thrown { _ = try leader.chunks(for: request) } == .behind)
        let unknown = SnapshotRequest(
            group: GroupID(1),
            holdings: [.init(organization: OrganizationID(77), size: 1, lastChecksum: .zero)]
        )
        #expect(SnapshotError.Code.thrown { _ = try leader.chunks(for: unknown) } == .behind)
    }

    @Test func aReplicaThatHasAppliedAsMuchTakesNothing() throws {
        let leader = try self.leader(records: 3)
        var follower = try Machine()
        try follower.install(from: leader)
        let installer = try follower.applier.snapshotInstaller(of: GroupID(1))
        let code = try self.refusal(of: try leader.chunks(for: installer.request), follower: follower)
        #expect(code == .superseded)
    }

    @Test func aSnapshotOfANewerProgramIsRefused() throws {
        var leader = try Machine()
        try leader.join([1])
        try leader.apply([.setFeatureLevel(.two), try Fixture.append(1...1, to: self.one)])
        let old = try Machine(features: FeatureRange(min: .one, max: .one))
        #expect(try self.refusal(of: try self.chunks(leader), follower: old) == .unsupported)
    }

    @Test func damagedRecordsOfTheSourceAreItsError() throws {
        let leader = try self.leader()
        var batch = WriteBatch()
        batch.delete(.records, key: LedgerKeys.record(self.one, SequenceNumber(5)))
        try leader.store.write(batch)
        #expect(SnapshotError.Code.thrown { _ = try self.chunks(leader) } == .damaged)
        do {
            _ = try self.chunks(leader)
        } catch let error as SnapshotError {
            #expect(error.organization == self.one, "whose it is")
        }
    }

    @Test func whatWasStagedFromALiarIsForgottenAndAskedAnew() throws {
        let leader = try self.leader()
        var liar = try Machine()
        try liar.join([1])
        try liar.apply([try Fixture.append(700...720, to: self.one)])
        for number in 1...40 { try liar.apply([try Fixture.append(number...number, to: OrganizationID(2))]) }
        var follower = try Machine()
        let first = try follower.applier.snapshotInstaller(of: GroupID(1))
        for chunk in try self.chunks(liar).dropLast(3) { try first.accept(chunk) }
        #expect(try follower.applier.isInstalling(GroupID(1)))
        let second = try follower.applier.snapshotInstaller(of: GroupID(1))
        let code = SnapshotError.Code.thrown {
            for chunk in try leader.chunks(for: second.request) { try second.accept(chunk) }
        }
        #expect(code == .mismatch)
        try follower.install(from: leader)
        #expect(try follower.verify(self.one).isSound)
        #expect(try follower.applier.head(of: self.one) == (try leader.applier.head(of: self.one)))
    }

    // MARK: Deliberate faults

    @Test func answersThatAreNotReplicatedMakeReplicasDiffer() throws {
        var leader = try self.leader(faults: .idempotencyNotReplicated)
        var follower = try Machine(faults: .idempotencyNotReplicated)
        try follower.install(from: leader)
        #expect(try follower.shared() != (try leader.shared()))
        let again = try Fixture.append(3...4, to: self.one, key: "a3")
        #expect(try leader.apply([again]) != (try follower.apply([again])))
    }

    @Test func aSnapshotWithoutItsStateMakesReplicasDiffer() throws {
        var leader = try self.leader(faults: .snapshotWithoutState)
        var follower = try Machine(faults: .snapshotWithoutState)
        try follower.install(from: leader)
        let next = try Fixture.append(800...800, to: self.one)
        #expect(try leader.apply([next]) != (try follower.apply([next])))
    }

    @Test func aForgottenChainHeadIsFoundByVerification() throws {
        let store = InMemoryStore()
        var before = try Machine(store)
        try before.apply([try Fixture.append(1...3, to: self.one)])
        var after = try Machine(store, faults: .chainHeadNotRestored)
        try after.apply([try Fixture.append(4...4, to: self.one)])
        #expect(try !after.verify(self.one).isSound)
    }

    @Test func aLostAppliedIndexAppliesEntriesTwice() throws {
        let store = InMemoryStore()
        var before = try Machine(store, faults: .appliedIndexLost)
        try before.apply([try Fixture.append(1...1, to: self.one), try Fixture.append(2...2, to: self.one)])
        try before.apply([try Fixture.append(3...3, to: self.one)])
        let after = try Machine(store)
        #expect(try after.applier.head(of: self.one).size == 3)
        #expect(try after.applier.appliedState(of: GroupID(1)).index == LogIndex(2))
    }

    @Test func entriesOutOfOrderGiveAnotherLedger() throws {
        let entries = try (UInt64(1)...2).map { index in
            let command = try Fixture.append(Int(index)...Int(index), to: self.one)
            return Fixture.entry(index, [try Fixture.bytes(command, at: 5)])
        }
        let good = try Machine()
        let bad = try Machine(faults: .applyOutOfOrder)
        for machine in [good, bad] {
            _ = try machine.applier.apply([GroupEntries(group: GroupID(1), entries: entries)])
        }
        #expect(try good.applier.head(of: self.one) != (try bad.applier.head(of: self.one)))
    }

    @Test func everyFaultHasANameOfItsOwn() {
        #expect(Set(ApplierFaults.all.map(\.name)).count == 5)
        #expect(ApplierFaults.all.reduce(into: ApplierFaults()) { $0.formUnion($1.fault) }.rawValue == 31)
    }
}
