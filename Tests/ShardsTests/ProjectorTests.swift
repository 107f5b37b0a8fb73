internal import AuditLedger
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import Shards

@Suite("The projector", .timeLimit(.minutes(10)))
struct ProjectorTests {
    private static let organization = OrganizationID(7)
    private static let other = OrganizationID(8)

    @Test func projectsEachRecordOnceInBoundedBatches() async throws {
        let configure = { (configuration: inout Projector.Configuration) in configuration.batchRecordsMax = 10 }
        try await ProjectorBench.run(configure: configure) { bench in
            try bench.grow(Self.organization, by: 35)
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(35))
            #expect(bench.projections.rows(of: Self.organization) == Array(1...35))
            #expect(bench.projections.state.withLock { $0.batchSizes } == [10, 10, 10, 5])
            try bench.grow(Self.organization, by: 5)
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(40))
            #expect(bench.projections.rows(of: Self.organization) == Array(1...40))
            #expect(bench.projections.state.withLock { $0.violations } == [])
            let counters = ProjectorCounters(records: 40, batches: 5, failures: 0, rebuilds: 0)
            #expect(bench.projector.counters == counters)
            #expect(bench.projector.knownPosition(of: Self.organization) == SequenceNumber(40))
            #expect(bench.projector.knownPosition(of: Self.other) == nil)
        }
    }

    @Test func boundsBatchesByBytesToo() async throws {
        let configure = { (configuration: inout Projector.Configuration) in configuration.batchBytesMax = 1 }
        try await ProjectorBench.run(configure: configure) { bench in
            try bench.grow(Self.organization, by: 3)
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(3))
            #expect(bench.projections.state.withLock { $0.batchSizes } == [1, 1, 1])
        }
    }

    @Test func goesOnFromTheStoresOwnPosition() async throws {
        try await ProjectorBench.run { bench in
            try bench.grow(Self.organization, by: 6)
            bench.projections.state.withLock { $0.rows[Self.organization] = (1...4).map { SequenceNumber($0) } }
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(6))
            #expect(bench.projections.rows(of: Self.organization) == Array(1...6))
            #expect(bench.projections.state.withLock { $0.batchSizes } == [2])
        }
    }

    /// What the fake is for: it sees a record that comes twice.
    @Test func aRecordThatComesTwiceIsSeen() async throws {
        let projections = FakeProjections()
        let record = StoredRecord(sequence: SequenceNumber(1), bytes: [])
        try await projections.project([record], to: Self.organization, isUrgent: false)
        try await projections.project([record], to: Self.organization, isUrgent: false)
        #expect(projections.state.withLock { $0.violations.count } == 1)
    }

    @Test func answersAWaiterWhenItsSequenceIsReachedAndNotBefore() async throws {
        try await ProjectorBench.run { bench in
            try bench.grow(Self.organization, by: 2)
            let answered = Flag()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(3))
                    answered.raise()
                }
                try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(2))
                #expect(!answered.isRaised)
                bench.projections.hold()
                try bench.grow(Self.organization, by: 1)
                bench.projector.advanced(Self.organization)
                // A second waiter wakes the projector at once, should the first one not wait yet.
                group.addTask { try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(3)) }
                await bench.projections.heldCall()
                #expect(!answered.isRaised)
                bench.projections.letGo()
                try await group.waitForAll()
            }
            #expect(answered.isRaised)
            #expect(bench.projections.rows(of: Self.organization) == [1, 2, 3])
        }
    }

    @Test func aCancelledWaiterIsAnsweredAtOnceAndTheWorkGoesOn() async throws {
        try await ProjectorBench.run { bench in
            try bench.grow(Self.organization, by: 2)
            bench.projections.hold()
            await withTaskGroup(of: (any Error)?.self) { group in
                group.addTask {
                    do {
                        try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(2))
                        return nil
                    } catch {
                        return error
                    }
                }
                await bench.projections.heldCall()
                group.cancelAll()
                let answer = await group.next()
                #expect(answer.flatMap { $0 } is CancellationError)
            }
            bench.projections.letGo()
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(2))
            #expect(bench.projections.rows(of: Self.organization) == [1, 2])
        }
    }

    @Test func aStoreThatFailsOnceIsResetAndRebuilt() async throws {
        try await ProjectorBench.run { bench in
            try bench.grow(Self.organization, by: 4)
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(4))
            try bench.grow(Self.organization, by: 2)
            bench.projections.state.withLock { $0.failuresLeft = 1 }
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(6))
            #expect(bench.projections.rows(of: Self.organization) == Array(1...6))
            #expect(bench.projections.state.withLock { $0.resets } == 1)
            #expect(bench.projector.counters.rebuilds == 1)
            #expect(bench.projector.counters.failures == 1)
            #expect(bench.failures.count == 1)
        }
    }

    @Test func aStoreThatAlwaysFailsFailsItsWaitersAndRecoversLater() async throws {
        try await ProjectorBench.run { bench in
            try bench.grow(Self.organization, by: 2)
            bench.projections.state.withLock { $0.failuresLeft = .max }
            let error = await #expect(throws: ShardError.self) {
                try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(2))
            }
            #expect(error?.code == .projection)
            #expect(error?.cause is FakeProjections.Failure)
            #expect(bench.failures.count == 2)
            bench.projections.state.withLock { $0.failuresLeft = 0 }
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(2))
            #expect(bench.projections.rows(of: Self.organization) == [1, 2])
        }
    }

    @Test func aStoreAheadOfItsLedgerIsReset() async throws {
        try await ProjectorBench.run { bench in
            try bench.grow(Self.organization, by: 3)
            bench.projections.state.withLock { $0.rows[Self.organization] = (1...9).map { SequenceNumber($0) } }
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(3))
            #expect(bench.projections.rows(of: Self.organization) == [1, 2, 3])
            #expect(bench.projections.state.withLock { $0.resets } == 1)
        }
    }

    @Test func aLedgerThatCannotBeReadDoesNotCostTheColumnarStore() async throws {
        try await ProjectorBench.run { bench in
            try bench.grow(Self.organization, by: 3)
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(3))
            try bench.grow(Self.organization, by: 1)
            bench.store.arm(StoreFault(.read))
            let error = await #expect(throws: ShardError.self) {
                try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(4))
            }
            #expect(error?.code == .storage)
            #expect(bench.projections.state.withLock { $0.resets } == 0)
            #expect(bench.projections.rows(of: Self.organization) == [1, 2, 3])
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(4))
            #expect(bench.projections.rows(of: Self.organization) == [1, 2, 3, 4])
        }
    }

    @Test func aDamagedLedgerIsSaidToBeDamaged() async throws {
        try await ProjectorBench.run { bench in
            try bench.grow(Self.organization, by: 3)
            var batch = WriteBatch()
            batch.delete(.records, key: LedgerKeys.record(Self.organization, SequenceNumber(2)))
            try bench.store.write(batch)
            let error = await #expect(throws: ShardError.self) {
                try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(3))
            }
            #expect(error?.code == .damaged)
            #expect(bench.projections.state.withLock { $0.resets } == 0)
        }
    }

    @Test(arguments: [false, true])
    func stopsWithoutOpeningTheStoresThatAreLeft(isStopped: Bool) async throws {
        let projections = Mutex<FakeProjections?>(nil)
        let configure = { (configuration: inout Projector.Configuration) in
            configuration.concurrencyMax = 1
            configuration.restFactor = 0
        }
        try await ProjectorBench.run(configure: configure) { bench in
            projections.withLock { $0 = bench.projections }
            bench.projections.hold()
            try bench.grow(Self.organization, by: 1)
            let others = (100..<150).map { OrganizationID($0) }
            for other in others { try bench.grow(other, by: 1) }
            await withTaskGroup(of: Void.self) { group in
                group.addTask { _ = await Self.code(bench, Self.organization, SequenceNumber(1)) }
                await bench.projections.heldCall()
                for other in others { bench.projector.advanced(other) }
                if isStopped { bench.projector.stop() }
                if !isStopped { bench.projections.letGo() }
            }
            // Otherwise they are all worked on: the counter counts.
            if !isStopped { try await bench.projector.waitUntilProjected(others[49], SequenceNumber(1)) }
        }
        let questions = projections.withLock { $0 }?.state.withLock { $0.questions } ?? 0
        #expect(isStopped ? questions == 1 : questions >= 2, "\(questions) stores were opened")
    }

    @Test func stopAnswersAllWaitersAndLaterOnes() async throws {
        try await ProjectorBench.run { bench in
            try bench.grow(Self.organization, by: 1)
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(1))
            try bench.grow(Self.other, by: 1)
            bench.projections.hold()
            await withTaskGroup(of: ShardError.Code?.self) { group in
                for organization in [Self.other, Self.other] {
                    group.addTask { await Self.code(bench, organization, SequenceNumber(1)) }
                }
                await bench.projections.heldCall()
                bench.projector.stop()
                for await code in group { #expect(code == .stopped) }
            }
            bench.projections.letGo()
            #expect(await Self.code(bench, Self.organization, SequenceNumber(1)) == .stopped)
        }
    }

    private static func code(
        _ bench: ProjectorBench,
        _ organization: OrganizationID,
        _ sequence: SequenceNumber
    ) async -> ShardError.Code? {
        do {
            try await bench.projector.waitUntilProjected(organization, sequence)
            return nil
        } catch {
            return (error as? ShardError)?.code
        }
    }

    @Test func aWaiterDoesNotLinger() async throws {
        try await ProjectorBench.run { bench in
            try bench.grow(Self.organization, by: 1)
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(1))
            #expect(bench.clock.sleepCount == 0)
            #expect(bench.clock.now == ManualClock.Instant(offset: .zero))
            #expect(bench.projections.state.withLock { $0.urgencies } == [true])
        }
    }

    @Test func newRecordsLingerUntilTheirTimeIsOver() async throws {
        let configure = { (configuration: inout Projector.Configuration) in configuration.linger = .milliseconds(200) }
        try await ProjectorBench.run(configure: configure) { bench in
            bench.projections.hold()
            try bench.grow(Self.organization, by: 1)
            bench.projector.advanced(Self.organization)
            for step in 1...10 {
                await bench.clock.sleeper()
                #expect(bench.projections.rows(of: Self.organization) == [], "step \(step)")
                if step == 5 {
                    // What comes meanwhile goes with it.
                    try bench.grow(Self.organization, by: 2)
                    bench.projector.advanced(Self.organization)
                }
                bench.clock.advance(by: .milliseconds(20))
            }
            await bench.projections.heldCall()
            bench.projections.letGo()
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(3))
            #expect(bench.projections.state.withLock { $0.batchSizes } == [3])
            #expect(bench.projections.state.withLock { $0.urgencies } == [false])
            #expect(bench.clock.sleepCount == 10)
        }
    }

    @Test func aLargeBacklogEndsTheLingering() async throws {
        let configure = { (configuration: inout Projector.Configuration) in
            configuration.linger = .milliseconds(200)
            configuration.backlogRecords = 3
        }
        try await ProjectorBench.run(configure: configure) { bench in
            bench.projections.hold()
            try bench.grow(Self.organization, by: 3)
            bench.projector.advanced(Self.organization, by: 2)
            await bench.clock.sleeper()
            bench.projector.advanced(Self.organization, by: 1)
            bench.clock.advance(by: .milliseconds(20))
            await bench.projections.heldCall()
            #expect(bench.clock.sleepCount == 1)
            bench.projections.letGo()
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(3))
            #expect(bench.projections.state.withLock { $0.urgencies } == [false])
        }
    }

    @Test func worksOnAFewOrganizationsAtOnce() async throws {
        let configure = { (configuration: inout Projector.Configuration) in configuration.concurrencyMax = 2 }
        try await ProjectorBench.run(configure: configure) { bench in
            let organizations = (1...UInt32(6)).map { OrganizationID($0) }
            for organization in organizations { try bench.grow(organization, by: 3) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for organization in organizations {
                    group.addTask { try await bench.projector.waitUntilProjected(organization, SequenceNumber(3)) }
                }
                try await group.waitForAll()
            }
            for organization in organizations { #expect(bench.projections.rows(of: organization) == [1, 2, 3]) }
            #expect(bench.projections.state.withLock { $0.runningMax } <= 2)
        }
    }

    @Test func smallBatchesOfManyOrganizationsRestBetween() async throws {
        let configure = { (configuration: inout Projector.Configuration) in
            configuration.concurrencyMax = 1
            configuration.linger = .zero
            configuration.restFactor = 4
        }
        try await ProjectorBench.run(configure: configure) { bench in
            for organization in [Self.organization, Self.other] { try bench.grow(organization, by: 2) }
            bench.projections.hold()
            bench.projector.advanced(Self.organization)
            await bench.projections.heldCall()
            bench.projector.advanced(Self.other)
            // The batch takes 10 ms, so its worker rests for 40.
            bench.clock.advance(by: .milliseconds(10))
            bench.projections.letGo()
            for step in 1...2 {
                await bench.clock.sleeper()
                #expect(bench.projections.rows(of: Self.organization) == [1, 2], "step \(step)")
                #expect(bench.projections.rows(of: Self.other) == [], "step \(step)")
                if step == 2 { bench.projections.hold() }
                bench.clock.advance(by: .milliseconds(20))
            }
            await bench.projections.heldCall()
            bench.projections.letGo()
            try await bench.projector.waitUntilProjected(Self.other, SequenceNumber(2))
            #expect(bench.projections.state.withLock { $0.urgencies } == [false, false])
        }
    }

    @Test(arguments: [true, false])
    func aQueryAndAMuchGrownOrganizationEndARest(isQuery: Bool) async throws {
        let configure = { (configuration: inout Projector.Configuration) in
            configuration.concurrencyMax = 1
            configuration.linger = .zero
            configuration.restFactor = 1_000
            configuration.backlogRecords = 9
        }
        try await ProjectorBench.run(configure: configure) { bench in
            let third = OrganizationID(9)
            for organization in [Self.organization, Self.other, third] { try bench.grow(organization, by: 2) }
            bench.projections.hold()
            bench.projector.advanced(Self.organization)
            await bench.projections.heldCall()
            bench.projector.advanced(Self.other)
            bench.projector.advanced(third)
            bench.clock.advance(by: .milliseconds(10))
            bench.projections.letGo()
            await bench.clock.sleeper()
            bench.projections.hold()
            try await withThrowingTaskGroup(of: Void.self) { group in
                if isQuery {
                    // Runs at once, up to where it waits.
                    group.addImmediateTask { try await bench.projector.waitUntilProjected(third, SequenceNumber(2)) }
                } else {
                    for _ in 0..<2 { bench.projector.advanced(third, by: 4) }
                }
                bench.clock.advance(by: .milliseconds(20))
                await bench.projections.heldCall()
                bench.clock.advance(by: .milliseconds(10))
                bench.projections.letGo()
                try await group.waitForAll()
            }
            // The next rest, before the organization whose turn it would have been.
            await bench.clock.sleeper()
            #expect(bench.projections.rows(of: third) == [1, 2])
            #expect(bench.projections.rows(of: Self.other) == [])
        }
    }

    @Test func aForgottenPositionIsAskedAgain() async throws {
        try await ProjectorBench.run { bench in
            try bench.grow(Self.organization, by: 3)
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(3))
            // Somebody deleted the file.
            bench.projections.state.withLock { $0.rows[Self.organization] = [] }
            bench.projector.forgetPosition(of: Self.organization)
            try await bench.projector.waitUntilProjected(Self.organization, SequenceNumber(3))
            #expect(bench.projections.rows(of: Self.organization) == [1, 2, 3])
        }
    }
}
