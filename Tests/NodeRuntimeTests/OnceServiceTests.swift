import Logging
import ServiceLifecycle
import Testing

@testable import NodeRuntime

/// Services that end by themselves.
@Suite("Services that end", .timeLimit(.minutes(10)))
struct OnceServiceTests {
    /// Whose shutdown lets another service end, and waits for that; or until the group cancels it, which the group does when
    /// it takes that end for a failure.
    private struct Opener: Service {
        let gate: AsyncStream<Void>.Continuation
        let ended: AsyncStream<Void>
        let isToBeCancelled: Bool

        func run() async throws {
            try await gracefulShutdown()
            self.gate.finish()
            for await _ in self.ended {}
            guard self.isToBeCancelled else { return }
            let (never, continuation) = AsyncStream.makeStream(of: Void.self)
            for await _ in never {}
            withExtendedLifetime(continuation) {}
        }
    }

    private static func run(
        isFailure: Bool = false,
        _ make: (@escaping @Sendable () async -> Void) -> any Service
    ) async throws {
        let (gate, opening) = AsyncStream.makeStream(of: Void.self)
        let (ended, ending) = AsyncStream.makeStream(of: Void.self)
        let once = make {
            for await _ in gate {}
            ending.finish()
        }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [
                    .init(service: once, successTerminationBehavior: .ignore),
                    .init(service: Opener(gate: opening, ended: ended, isToBeCancelled: isFailure)),
                ],
                logger: Logger(label: "test")
            )
        )
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }

    @Test func mayEndInTheMiddleOfAShutdown() async throws {
        try await Self.run { body in OnceService { await body() } }
    }

    /// What it is for: a service that just returns is taken for a failure then.
    @Test func areTakenForFailuresOtherwise() async throws {
        await #expect(throws: ServiceGroupError.self) {
            try await Self.run(isFailure: true) { body in LoopService { await body() } }
        }
    }
}
