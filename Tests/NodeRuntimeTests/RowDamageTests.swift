internal import AuditLedger
internal import Consensus
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

/// One bit of any key of a stopped replica is another: re-reading it names exactly that key.
@Suite("Every row of a stopped replica", .timeLimit(.minutes(10)))
struct RowDamageTests {
    /// A replica that stopped: everything that a node keeps, below its checksums.
    struct Stopped {
        let base = InMemoryStore()
        let lab: OrganizationEntry
        let system: OrganizationEntry

        var store: CheckedStore { CheckedStore(self.base) }

        init() async throws {
            let store = CheckedStore(self.base)
            let lane = try SerialThread(name: "row-damage")
            defer { lane.shutdown() }
            let applier = try ShardApplier(store: store, lanes: [lane])
            var indexes: [GroupID: UInt64] = [:]
            func apply(_ command: Command, in group: GroupID, second: Int64) async throws {
                var bytes = command.encoded(origin: .node(NodeID(1)))
                try Command.stamp(&bytes, at: Timestamp(microseconds: second * 1_000_000))
                let index = (indexes[group] ?? 0) + 1
                indexes[group] = index
                let membership = index == 1 ? Membership(voters: [NodeID(1)]) : nil
                let entry = CommittedEntry(
                    index: LogIndex(index),
                    term: Term(1),
                    commands: [bytes[...]],
                    membership: membership
                )
                let work = [GroupEntries(group: group, entries: [entry])]
                for answer in try await lane.run({ try applier.apply(work) }).joined() {
                    if case .refused(let refusal) = try CommandResult.decode(answer) { Issue.record("\(refusal)") }
                }
            }
            for command in try Self.systemCommands() { try await apply(command, in: .system, second: 10) }
            for command in try Self.labCommands() { try await apply(command, in: GroupID(1), second: 20) }
            let state = applier.directory.current
            self.lab = try #require(state.organizations.values.first)
            self.system = try #require(state.clusterLedger)
            try Self.addRowsOfTheNode(store, self.lab)
        }

        private static func systemCommands() throws -> [Command] {
            let node = NodeID(1)
            let key = try Self.signer().verifierKey
            return [
                .bootstrap(
                    BootstrapCommand(
                        clusterID: "lab",
                        dataGroups: 1,
                        operatorToken: .zero,
                        nodes: [RegisterNodeCommand(node: node, api: "a:1", peer: "p:1")],
                        placements: [
                            .init(group: .system, replicas: [node]), .init(group: GroupID(1), replicas: [node]),
                        ]
                    )
                ),
                .createOrganization(CreateOrganizationCommand(key: try Fixture.key("lab-a"), name: "A")),
                .publishKey(PublishKeyCommand(node: node, key: String(decoding: key.text, as: UTF8.self))),
            ]
        }

        private static func signer() throws -> NoteSignerKey {
            try NoteSignerKey(
                name: SigningKeyFile.name(cluster: "lab", node: NodeID(1)),
                type: .cosignature,
                seed: [UInt8](repeating: 3, count: 32)
            )
        }

        private static func labCommands() throws -> [Command] {
            let lab = OrganizationID(1)
            let key = try Fixture.key("lab-a")
            var commands: [Command] = [.setFeatureLevel(.three)]
            for number in 0..<20 {
                let draft = try Fixture.draft(
                    #"{"action":"weigh","entity_type":"sample","entity_id":"s-\#(number)"}"#
                )
                let idempotency = Idempotency(key: "k-\(number)", request: [UInt8(number)])
                commands.append(
                    .append(AppendCommand(organization: lab, idempotency: idempotency, drafts: [draft]))
                )
            }
            for subject in ["ada", "bob"] { commands.append(try self.personal(subject, lab, key)) }
            commands.append(
                .eraseSubject(
                    EraseSubjectCommand(
                        organization: lab,
                        organizationKey: key,
                        subject: "bob",
                        basis: "GDPR Art. 17",
                        reason: "asked by letter"
                    )
                )
            )
            return commands
        }

        private static func personal(
            _ subject: String,
            _ lab: OrganizationID,
            _ key: OrganizationKey
        ) throws -> Command {
            let event =
                #"{"action":"create","entity_type":"person","entity_id":"p","after":{"name":"N"},"#
                + #""personal":[{"path":"/after/name","subject":"\#(subject)"}]}"#
            let context = EventContext(
                organization: key,
                request: RequestInfo(id: "r-1"),
                defaultActor: Actor(kind: .apiKey, id: "t-1"),
                format: .second,
                saltSeed: [UInt8](repeating: 7, count: 32)
            )
            let (draft, values) = try EventDraft.parseSealing(Array(event.utf8), defaults: context)
            let sealing = try SubjectKey([UInt8](repeating: 9, count: 32))
            let name = try #require(SubjectKeyName(hex: sealing.fingerprint))
            let sealed = values.map {
                SealedValue(
                    draft: 0,
                    path: $0.field.path,
                    subject: $0.field.subject,
                    key: name,
                    bytes: sealing.seal($0)
                )
            }
            return .append(AppendCommand(organization: lab, idempotency: nil, drafts: [draft], sealed: sealed))
        }

        /// What a node keeps for itself.
        private static func addRowsOfTheNode(_ store: CheckedStore, _ lab: OrganizationEntry) throws {
            try NodeIdentity(founding: NodeIdentityTests.configuration()).claim(store)
            let reader = LedgerReader(store: store, organization: lab.id)
            let origin = try LogOrigin(cluster: "lab", organization: lab.key)
            let rows = CheckpointStore(store: store)
            var batch = WriteBatch()
            var notes: [SignedCheckpoint] = []
            for size in [UInt64(5), 20] {
                let root = try reader.root(at: size)
                var note = try SignedCheckpoint(Checkpoint(origin: origin, size: size, root: root))
                try note.cosign(try Self.signer(), timeSeconds: 30)
                notes.append(note)
                let row = StoredCheckpoint(size: size, isWitnessed: false, note: note.encoded)
                batch.put(.checkpoints, key: CheckpointStore.key(lab.id, size), value: CheckpointStore.encode(row))
            }
            CheckpointStore.put(signed: notes[1].checkpoint.head, of: lab.id, into: &batch)
            let scrub = ScrubRow()
            batch.put(.scrubState, key: ScrubRow.key(lab.id), value: scrub.encoded())
            try store.write(batch)
            var other = try SignedCheckpoint(Checkpoint(origin: origin, size: 5, root: .zero))
            try other.cosign(try Self.signer(), timeSeconds: 31)
            let fork = try ForkProof(notes[0], other)
            _ = try rows.add(fork: fork, of: lab.id, at: Timestamp(microseconds: 1))
            let ring = SubjectKeyRing(store: store, wrapping: [UInt8](repeating: 5, count: 32))
            let digest = LedgerHash.leaf(Array("ada".utf8))
            let subject = SubjectKeyRing.Subject(organization: lab.id, digest: digest)
            let key = try SubjectKey([UInt8](repeating: 9, count: 32))
            _ = try ring.keep([(subject: subject, key: key)]) { _ in false }
        }

        /// What re-reading the replica finds, as a node's scrub does it.
        func scrub(_ entry: OrganizationEntry) throws -> LedgerFinding? {
            let snapshot = try self.store.snapshot()
            let ledger = try LedgerVerifier.verify(store: snapshot, organization: entry.id, key: entry.key)
            if let finding = ledger.finding { return finding }
            return try RowAudit(store: snapshot).run(entry).finding
        }

        /// Every row, and the organization whose re-reading must find damage in it.
        func rows() throws -> [(family: ColumnFamily, key: [UInt8], value: [UInt8], entry: OrganizationEntry)] {
            var rows: [(ColumnFamily, [UInt8], [UInt8], OrganizationEntry)] = []
            for family in ColumnFamily.allCases {
                try self.base.scan(family, from: [], to: nil) { key, value in
                    // Rows of the data group begin with 1 in both: the group and the organization.
                    let isLab = key.starts(with: [0, 0, 0, 1]) && family != .meta
                    rows.append((family, key, value, isLab ? self.lab : self.system))
                    return true
                }
            }
            return rows
        }

        func put(_ family: ColumnFamily, _ key: [UInt8], _ value: [UInt8]) throws {
            var batch = WriteBatch()
            batch.put(family, key: key, value: value)
            try self.base.write(batch)
        }

        func delete(_ family: ColumnFamily, _ key: [UInt8]) throws {
            var batch = WriteBatch()
            batch.delete(family, key: key)
            try self.base.write(batch)
        }
    }

    private static func place(_ family: ColumnFamily, _ key: [UInt8]) -> String {
        func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        return switch family {
        case .records: "records/\(number(key[4...]))"
        case .treeNodes: "tree_nodes/\(key[4])/\(number(key[5...]))"
        case .ledgerHeads: "ledger_heads"
        default: RowAudit.place(family, key)
        }
    }

    /// Families that a node's store has and that hold nothing: their content is in the segment log.
    private static let unused = Set(ColumnFamily.allCases.filter { $0.rawValue.hasPrefix("raft_") })

    @Test(arguments: [UInt64(1), 2]) func oneFlippedBitIsNamedByItsKey(seed: UInt64) async throws {
        var generator = SeededGenerator(seed: seed)
        let stopped = try await Stopped()
        #expect(try stopped.scrub(stopped.lab) == nil)
        #expect(try stopped.scrub(stopped.system) == nil)
        let rows = try stopped.rows()
        #expect(Set(rows.map(\.family)) == Set(ColumnFamily.allCases).subtracting(Self.unused))
        // Each kind of state row that this replica has.
        let kinds = Set(rows.filter { $0.family == .groupState }.map { $0.key[4] })
        #expect(kinds.isSuperset(of: [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 13, 14, 15, 16]), "\(kinds.sorted())")
        for (family, key, value, entry) in rows {
            guard !value.isEmpty else { continue }
            var bad = value
            let byte = Int.random(in: 0..<bad.count, using: &generator)
            bad[byte] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            try stopped.put(family, key, bad)
            let place = Self.place(family, key)
            let finding = try stopped.scrub(entry)
            #expect(finding?.place == place, "seed \(seed), byte \(byte): \(String(describing: finding))")
            try stopped.put(family, key, value)
        }
        #expect(try stopped.scrub(stopped.lab) == nil)
        #expect(try stopped.scrub(stopped.system) == nil)
    }

    /// The stored idempotency key and the hash of the request: nothing in the ledger knows them.
    @Test func everyBitOfAStoredAnswerIsChecked() async throws {
        let stopped = try await Stopped()
        let row = try #require(try stopped.rows().first { $0.family == .idempotency })
        for bit in 0..<row.value.count * 8 {
            var bad = row.value
            bad[bit / 8] ^= 1 << UInt8(bit % 8)
            try stopped.put(.idempotency, row.key, bad)
            let finding = try stopped.scrub(stopped.lab)
            #expect(finding?.place == RowAudit.place(.idempotency, row.key), "bit \(bit)")
        }
        try stopped.put(.idempotency, row.key, row.value)
        for bit in 32..<row.key.count * 8 {
            var key = row.key
            key[bit / 8] ^= 1 << UInt8(bit % 8)
            try stopped.delete(.idempotency, row.key)
            try stopped.put(.idempotency, key, row.value)
            let finding = try stopped.scrub(stopped.lab)
            #expect(finding?.place == RowAudit.place(.idempotency, key), "bit \(bit) of the key")
            try stopped.delete(.idempotency, key)
        }
        try stopped.put(.idempotency, row.key, row.value)
        #expect(try stopped.scrub(stopped.lab) == nil)
    }

    @Test func aDamagedRowIsNeverAnswered() async throws {
        let stopped = try await Stopped()
        for row in try stopped.rows() where RowChecksum.families.contains(row.family) {
            var bad = row.value
            bad[0] ^= 1
            try stopped.put(row.family, row.key, bad)
            let store = stopped.store
            #expect(throws: StorageError.self) { try store.get(row.key, in: row.family) }
            #expect(throws: StorageError.self) { try store.get([row.key], in: row.family) }
            #expect(throws: StorageError.self) { try store.scan(row.family, from: [], to: nil) { _, _ in true } }
            try stopped.put(row.family, row.key, row.value)
        }
        // A value under another key is no answer either.
        let rows = try stopped.rows().filter { $0.family == .idempotency }
        try stopped.put(.idempotency, rows[0].key, rows[1].value)
        #expect(try stopped.scrub(stopped.lab)?.place == RowAudit.place(.idempotency, rows[0].key))
    }

    @Test func aNodeThatForgotWhatItHasReadRefusesUntilItIsRead() async throws {
        let stopped = try await Stopped()
        let row = try #require(try stopped.rows().first { $0.family == .scrubState })
        try stopped.put(.scrubState, row.key, [0] + row.value.dropFirst())
        let register = try DamageRegister(store: stopped.store)
        #expect(register.finding(of: stopped.lab.id)?.place == "scrub_state")
        // The row is whole again and says so after a restart too.
        #expect(try stopped.scrub(stopped.lab) == nil)
        #expect(try DamageRegister(store: stopped.store).contains(stopped.lab.id))
    }

    @Test func aDamagedCheckpointGivesWayToAnother() async throws {
        let stopped = try await Stopped()
        let rows = CheckpointStore(store: stopped.store)
        let row = try #require(try stopped.rows().last { $0.family == .checkpoints })
        let note = try SignedCheckpoint(parsing: try #require(try rows.latest(of: stopped.lab.id)).note)
        var bad = row.value
        bad[9] ^= 4
        try stopped.put(.checkpoints, row.key, bad)
        #expect(try rows.latest(of: stopped.lab.id)?.size == 5)
        try rows.keep([(stopped.lab.id, note, false)]) { _ in false }
        #expect(try rows.latest(of: stopped.lab.id)?.size == 20)
        #expect(try stopped.scrub(stopped.lab) == nil)
    }
}

/// A data directory of the format before gets its checksums, also when that is cut short.
struct RowChecksumUpgradeTests {
    /// What a node of the format before left: the same rows without checksums.
    private static func old() async throws -> (old: InMemoryStore, rows: Int) {
        let stopped = try await RowDamageTests.Stopped()
        let old = InMemoryStore()
        var rows = 0
        for family in ColumnFamily.allCases {
            try stopped.store.scan(family, from: [], to: nil) { key, value in
                var value = value
                if key == Array("identity".utf8) { value[3] = 2 }
                var batch = WriteBatch()
                batch.put(family, key: key, value: value)
                try old.write(batch)
                rows += 1
                return true
            }
        }
        return (old, rows)
    }

    private static func count(_ store: some KeyValueReader) throws -> Int {
        var count = 0
        for family in ColumnFamily.allCases {
            try store.scan(family, from: [], to: nil) { _, _ in
                count += 1
                return true
            }
        }
        return count
    }

    @Test func everyRowIsReadableAfterwards() async throws {
        let (old, rows) = try await Self.old()
        let store = try NodeIdentity.openRows(old, directory: "/data")
        #expect(try Self.count(store) == rows)
        #expect(try NodeIdentity.read(store, directory: "/data")?.clusterID == "lab")
        // Once is enough.
        let again = try NodeIdentity.openRows(old, directory: "/data")
        #expect(try Self.count(again) == rows)
    }

    @Test func oneThatWasCutShortGoesOn() async throws {
        let (old, rows) = try await Self.old()
        for number in 1..<40 {
            let failing = try FaultInjectingStore(try InMemoryStore(copying: old))
            failing.arm(StoreFault(.write, number: number))
            let isThrough = (try? NodeIdentity.openRows(failing, directory: "/data")) != nil
            try failing.crash(keepingUnsynced: number / 2)
            let store = try NodeIdentity.openRows(try failing.reopened(), directory: "/data")
            #expect(try Self.count(store) == rows, "write \(number) failed")
            if isThrough { return }
        }
        Issue.record("never got through")
    }

    @Test func anIdentityWhoseVersionWasChangedIsNotConverted() async throws {
        let stopped = try await RowDamageTests.Stopped()
        let key = Array("identity".utf8)
        var value = try #require(try stopped.base.get(key, in: .meta))
        value[3] ^= 1
        try stopped.put(.meta, key, value)
        let before = try Self.count(stopped.base)
        #expect(throws: NodeError.self) { try NodeIdentity.openRows(stopped.base, directory: "/data") }
        #expect(try Self.count(stopped.base) == before)
    }
}
