internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Storage
internal import Testing

@testable internal import Shards

extension SystemState {
    /// Applies a command of the form that does not say who gives it.
    mutating func apply(_ command: Command, stampedAt stamp: Timestamp, into batch: inout WriteBatch) -> CommandResult {
        var records: [EventDraft] = []
        let decoded = Command.Decoded(command: command, stampedAt: stamp, origin: nil)
        return self.apply(decoded, into: &batch, records: &records)
    }
}

@Suite struct SystemStateTests {
    private let token = Digest(words: (1, 2, 3, 4))

    private func bootstrapped(_ store: InMemoryStore) throws -> SystemState {
        var state = SystemState()
        var batch = WriteBatch()
        let begin = BootstrapCommand(clusterID: "c", dataGroups: 3, operatorToken: self.token)
        #expect(state.apply(.bootstrap(begin), stampedAt: Timestamp(microseconds: 10), into: &batch) == .done)
        try store.write(batch)
        return state
    }

    private func create(
        _ key: String,
        _ state: inout SystemState,
        at stamp: Int64,
        _ store: InMemoryStore
    ) throws -> CommandResult {
        var batch = WriteBatch()
        let command = CreateOrganizationCommand(key: try #require(OrganizationKey(key)), name: key)
        let result = state.apply(.createOrganization(command), stampedAt: Timestamp(microseconds: stamp), into: &batch)
        try store.write(batch)
        return result
    }

    @Test func whatIsReadBackEqualsWhatWasApplied() throws {
        let store = InMemoryStore()
        var state = try self.bootstrapped(store)
        for key in ["lab-a", "lab-b", "lab-c", "lab-d"] { _ = try self.create(key, &state, at: 20, store) }
        var batch = WriteBatch()
        let grant = Grant(role: .writer, organizations: [try #require(OrganizationKey("lab-b"))])
        let command = CreateTokenCommand(id: "t1", hash: Digest(words: (9, 9, 9, 9)), name: "bench", grant: grant)
        #expect(state.apply(.createToken(command), stampedAt: Timestamp(microseconds: 30), into: &batch) == .done)
        try store.write(batch)
        #expect(try SystemState(reading: store) == state)
    }

    @Test func aSecondBootstrapChangesNothing() throws {
        let store = InMemoryStore()
        var state = try self.bootstrapped(store)
        let before = state
        var batch = WriteBatch()
        let other = BootstrapCommand(clusterID: "other", dataGroups: 9, operatorToken: nil)
        #expect(state.apply(.bootstrap(other), stampedAt: Timestamp(microseconds: 5), into: &batch) == .done)
        #expect(state == before)
        #expect(batch.isEmpty)
    }

    @Test func organizationsTakeTurnsOverTheGroupsAndKeepTheirPlace() throws {
        let store = InMemoryStore()
        var state = try self.bootstrapped(store)
        var groups: [UInt32] = []
        for key in ["a", "b", "c", "d"] {
            guard case .organization(let entry) = try self.create(key, &state, at: 20, store) else {
                Issue.record("not created: \(key)")
                return
            }
            groups.append(entry.group.rawValue)
        }
        #expect(groups == [1, 2, 3, 1])
        #expect(try self.create("b", &state, at: 21, store) == .refused(.organizationExists))
    }

    @Test func creationTimesNeverGoBackEvenAfterARestart() throws {
        let store = InMemoryStore()
        var state = try self.bootstrapped(store)
        _ = try self.create("a", &state, at: 500, store)
        var restarted = try SystemState(reading: store)
        guard case .organization(let live) = try self.create("b", &state, at: 100, store),
            case .organization(let afterRestart) = try self.create("b", &restarted, at: 100, InMemoryStore())
        else {
            Issue.record("not created")
            return
        }
        #expect(live.createdAt == Timestamp(microseconds: 500))
        #expect(afterRestart == live)
    }

    @Test func nothingIsCreatedBeforeTheClusterHasBegun() throws {
        var state = SystemState()
        #expect(try self.create("a", &state, at: 1, InMemoryStore()) == .refused(.notBootstrapped))
    }

    @Test func theLastOperatorTokenStays() throws {
        let store = InMemoryStore()
        var state = try self.bootstrapped(store)
        var batch = WriteBatch()
        let revoke = Command.revokeToken(RevokeTokenCommand(id: SystemState.bootstrapTokenID))
        #expect(
            state.apply(revoke, stampedAt: Timestamp(microseconds: 40), into: &batch) == .refused(.lastOperatorToken)
        )
        let second = CreateTokenCommand(
            id: "t2",
            hash: Digest(words: (5, 5, 5, 5)),
            name: "",
            grant: Grant(role: .operator)
        )
        #expect(state.apply(.createToken(second), stampedAt: Timestamp(microseconds: 41), into: &batch) == .done)
        #expect(state.apply(revoke, stampedAt: Timestamp(microseconds: 42), into: &batch) == .done)
        #expect(state.tokens[self.token] == nil)
    }

    @Test func aGrantForAnUnknownOrganizationIsRefused() throws {
        var state = try self.bootstrapped(InMemoryStore())
        var batch = WriteBatch()
        let grant = Grant(role: .reader, organizations: [try #require(OrganizationKey("nowhere"))])
        let command = CreateTokenCommand(id: "t", hash: Digest(words: (7, 7, 7, 7)), name: "", grant: grant)
        let result = state.apply(.createToken(command), stampedAt: Timestamp(microseconds: 1), into: &batch)
        #expect(result == .refused(.organizationNotFound))
    }
}
