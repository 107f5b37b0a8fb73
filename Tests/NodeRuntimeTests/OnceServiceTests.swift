import Logging
import ServiceLifecycle
import Testing

@testable import NodeRuntime

/// Services that end by themselves.
@Suite("Services that end", .timeLimit(.minutes(10)))
struct OnceServiceTests {
    /// Whose shutdown lets another service end, and waits for that.
    private struct Opener: Service {
        let gate: AsyncStream<Void>.Continuation
        let ended: AsyncStream<Void>

        func run() async throws {
            try await gracefulShutdown()
            self.gate.finish()
            for await _ in self.ended {}
        }
    }

    private static func run(_ make: (@escaping @Sendable () async -> Void) -> any Service) async throws {
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
                    .init(service: Opener(gate: opening, ended: ended)),
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
}
