import AuditLedger
import Primitives
import Testing

@Suite struct HistoryTests {
    private func value(_ text: String) throws -> JSONValue { try JSONParser.parse(Array(text.utf8)) }

    private func change(
        _ sequence: UInt64,
        _ action: String,
        before: String = "null",
        after: String = "null",
        id: String = "S-1",
        outcome: Outcome = .success
    ) throws -> EntityChange {
        EntityChange(
            name: EntityName(type: "sample", id: id),
            sequence: SequenceNumber(sequence),
            recordedAt: Timestamp(microseconds: Int64(sequence) * 1_000_000),
            action: action,
            actor: "jane",
            outcome: outcome,
            before: try self.value(before),
            after: try self.value(after)
        )
    }

    private func folded(_ changes: [EntityChange]) -> EntityState? {
        changes.reduce(nil) { EntityFold.apply($1, to: $0) }
    }

    @Test func creatingTakesTheWholeStateAndUpdatesReplaceMembers() throws {
        let state = try self.folded([
            self.change(1, "create", after: #"{"state":"new","volume":"5 ml","box":{"row":1,"column":2}}"#),
            self.change(2, "update", before: #"{"state":"new"}"#, after: #"{"state":"stored"}"#),
            self.change(3, "update", before: #"{"box":{"row":1}}"#, after: #"{"box":{"row":7}}"#),
        ])
        #expect(
            try state?.value == self.value(#"{"box":{"column":2,"row":7},"state":"stored","volume":"5 ml"}"#)
        )
        #expect(state?.version == 3)
        #expect(state?.firstSequence == SequenceNumber(1))
        #expect(state?.lastSequence == SequenceNumber(3))
    }

    @Test func membersThatOnlyBeforeNamesAreRemoved() throws {
        let state = try self.folded([
            self.change(1, "create", after: #"{"a":1,"b":2,"c":{"d":3,"e":4}}"#),
            self.change(2, "update", before: #"{"a":1,"b":2}"#, after: #"{"b":5}"#),
            self.change(3, "update", before: #"{"c":{"d":3,"e":4}}"#, after: #"{"c":{"e":4}}"#),
            self.change(4, "detach", before: #"{"b":5}"#),
        ])
        #expect(try state?.value == self.value(#"{"c":{"e":4}}"#))
    }

    @Test func whatSomebodySawOrTookAwayChangesNoState() throws {
        let made = try self.change(1, "create", after: #"{"a":1}"#)
        let state = EntityFold.apply(made, to: nil)
        for action in ReservedRecords.actions {
            let act = try self.change(2, action, after: #"{"seen":true}"#)
            #expect(EntityFold.apply(act, to: state) == state, "\(action)")
            #expect(EntityFold.apply(act, to: nil) == nil, "\(action)")
        }
        var erasure = try self.change(2, "erase_requested", after: #"{"basis":"Art. 17"}"#)
        #expect(EntityFold.apply(erasure, to: state) != state, "the word alone reserves nothing")
        erasure.name = EntityName(type: "data_subject", id: "ada")
        #expect(EntityFold.apply(erasure, to: nil) == nil)
        #expect(try EntityFold.apply(self.change(2, "role_change", after: #"{"a":2}"#), to: state) != state)
        #expect(
            Set(ReservedRecords.actions).isSuperset(of: ["login", "read_ledger", "authorization_denied", "export"])
        )
    }

    @Test func actsThatWereDeniedOrFailedChangeNothing() throws {
        let first = try self.change(1, "create", after: #"{"a":1}"#)
        let state = EntityFold.apply(first, to: nil)
        for outcome in [Outcome.denied, .failed] {
            let act = try self.change(2, "update", after: #"{"a":2}"#, outcome: outcome)
            #expect(EntityFold.apply(act, to: state) == state)
            #expect(EntityFold.apply(act, to: nil) == nil)
        }
    }

    @Test func deletingArchivingAndRestoringChangeTheStatusAndKeepWhatWasKnown() throws {
        let created = try self.change(1, "create", after: #"{"a":1}"#)
        let archived = try self.folded([created, self.change(2, "archive")])
        #expect(archived?.status == .archived)
        let restored = try self.folded([created, self.change(2, "archive"), self.change(3, "restore")])
        #expect(restored?.status == .present)
        let deleted = try self.folded([created, self.change(2, "delete")])
        #expect(deleted?.status == .deleted)
        #expect(try deleted?.value == self.value(#"{"a":1}"#))
    }

    @Test func aValueDoesNotDependOnTheOrderInWhichItsMembersCame() throws {
        let one = try self.folded([
            self.change(1, "create", after: "{}"), self.change(2, "update", after: #"{"b":1}"#),
            self.change(3, "update", after: #"{"a":2}"#),
        ])
        let other = try self.folded([
            self.change(1, "create", after: "{}"), self.change(2, "update", after: #"{"a":2}"#),
            self.change(3, "update", after: #"{"b":1}"#),
        ])
        #expect(one?.value == other?.value)
    }

    @Test func composedAndDecomposedNamesAreTwoEntities() throws {
        var state = OrganizationState()
        try state.apply(try self.change(1, "create", after: "1", id: "\u{e9}"))
        try state.apply(try self.change(2, "create", after: "2", id: "e\u{301}"))
        #expect(state.count == 2)
    }

    @Test func refusesARecordOutOfOrderAndMoreEntitiesThanAllowed() throws {
        var state = OrganizationState(entitiesMax: 1)
        try state.apply(try self.change(1, "create", after: "1"))
        #expect(throws: OrganizationState.Failure.self) { try state.apply(try self.change(3, "update", after: "1")) }
        #expect(throws: OrganizationState.Failure.self) {
            try state.apply(try self.change(2, "create", after: "1", id: "S-2"))
        }
        #expect(state.sequence == SequenceNumber(1))
        try state.apply(try self.change(2, "update", after: "2"))
        #expect(state.count == 1)
    }

    @Test func digestsDifferWheneverAnythingDiffers() throws {
        func digest(_ changes: [EntityChange]) throws -> Digest {
            var state = OrganizationState()
            for change in changes { try state.apply(change) }
            return state.digest
        }
        let base = try [self.change(1, "create", after: #"{"a":1}"#), self.change(2, "update", after: #"{"b":1}"#)]
        let sound = try digest(base)
        #expect(try digest(base) == sound)
        var other = base
        other[1].after = try self.value(#"{"b":2}"#)
        #expect(try digest(other) != sound)
        other = base
        other[1].actor = "joe"
        #expect(try digest(other) != sound)
        #expect(try digest([base[0]]) != sound)
    }

    @Test func differencesNameEveryPlaceAndBothStates() throws {
        var earlier = OrganizationState()
        try earlier.apply(try self.change(1, "create", after: #"{"a":1,"b":{"c":1,"d":2},"x/y":1}"#))
        var later = earlier
        try later.apply(
            try self.change(2, "update", before: #"{"a":1,"x/y":1}"#, after: #"{"b":{"c":5},"x/y":2}"#)
        )
        try later.apply(try self.change(3, "create", after: "1", id: "S-2"))
        let differences = later.changes(since: earlier)
        #expect(differences.map(\.name.id) == [Array("S-1".utf8), Array("S-2".utf8)])
        #expect(differences[0].values.map(\.path) == ["/a", "/b/c", "/x~1y"])
        #expect(differences[0].values.map { $0.to == nil } == [true, false, false])
        #expect(differences[1].from == nil)
        #expect(differences[1].values.map(\.path) == [""])
        #expect(later.changes(since: later).isEmpty)
        #expect(earlier.changes(since: later).count == 2)
    }

    @Test func momentsAreSequencesOrTimes() {
        #expect(HistoryMoment("17") == .sequence(SequenceNumber(17)))
        #expect(HistoryMoment("2026-05-16T14:22:11Z") != nil)
        for text in ["", "-1", "yesterday", "2026-05-16", "1.5"] { #expect(HistoryMoment(text) == nil, "\(text)") }
        let moment = HistoryMoment.time(Timestamp(microseconds: 5))
        #expect(moment.includes(SequenceNumber(9), recordedAt: Timestamp(microseconds: 5)))
        #expect(!moment.includes(SequenceNumber(1), recordedAt: Timestamp(microseconds: 6)))
        #expect(
            HistoryMoment.sequence(SequenceNumber(2)).includes(
                SequenceNumber(2),
                recordedAt: Timestamp(microseconds: 9)
            )
        )
    }
}
