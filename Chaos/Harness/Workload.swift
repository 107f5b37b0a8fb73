internal import Foundation
internal import HTTPTypes
internal import Linearizability
internal import NIOCore
internal import NodeRuntime
internal import Primitives
internal import Synchronization

/// Clients that append and read, each one request at a time, and what they saw.
final class Workload: Sendable {
    struct Totals: Sendable {
        var appends = 0
        var reads = 0
        var unknown = 0
        var refused = 0
        var slowest = Duration.zero
    }

    private struct State {
        var history: [String: [ClientOperation<LedgerModel>]] = [:]
        var totals = Totals()
        var isOver = false
        var lastMarker: UInt64 = 0
    }

    let organizations: [String]
    private let context: ClientContext
    private let state = Mutex(State())
    private let clock = ContinuousClock()  // ambient-ok: the harness measures real time
    private let startedAt: ContinuousClock.Instant
    /// How long one operation goes on trying.
    private let patience: Duration

    init(organizations: [String], context: ClientContext, patience: Duration) {
        self.organizations = organizations
        self.context = context
        self.startedAt = self.clock.now
        self.patience = patience
    }

    var totals: Totals { self.state.withLock { $0.totals } }
    var history: [String: [ClientOperation<LedgerModel>]] { self.state.withLock { $0.history } }

    func stop() { self.state.withLock { $0.isOver = true } }

    /// Runs `clients` clients until ``stop()``, then lets them finish what they have begun.
    func run(clients: Int, seed: UInt64) async {
        await withDiscardingTaskGroup { group in
            for client in 0..<clients {
                group.addTask { await self.live(client, seed: seed &+ UInt64(client) &* 7919) }
            }
        }
    }

    private func live(_ client: Int, seed: UInt64) async {
        // A connection of its own, to another node first than its neighbours'.
        var context = self.context
        let first = client % context.addresses.count
        context.addresses = Array(context.addresses[first...] + context.addresses[..<first])
        guard let connection = try? ClusterClient(context: context) else { return }
        defer { connection.close() }
        var generator = SeededGenerator(seed: seed)
        while !self.state.withLock({ $0.isOver }) {
            let organization = self.organizations[Int(generator.next() % UInt64(self.organizations.count))]
            if generator.next() % 4 == 0 {
                await self.read(client, organization, by: connection)
            } else {
                await self.append(client, organization, by: connection)
            }
            try? await Task.sleep(for: .milliseconds(Int(generator.next() % 30)))
        }
    }

    private var nanoseconds: UInt64 {
        let passed = self.startedAt.duration(to: self.clock.now).components
        return UInt64(passed.seconds) * 1_000_000_000 + UInt64(passed.attoseconds / 1_000_000_000)
    }

    private struct Receipt: Decodable { var sequence: UInt64 }
    private struct Page: Decodable {
        struct Item: Decodable { var record: Stored }
        struct Stored: Decodable {
            var sequence: UInt64
            var entity_id: String
        }
        var records: [Item]
    }

    private func append(_ client: Int, _ organization: String, by connection: ClusterClient) async {
        let marker = self.state.withLock { state in
            state.lastMarker += 1
            return state.lastMarker
        }
        let body = #"{"action":"update","entity_type":"sample","entity_id":"\#(marker)","after":{"marker":\#(marker)}}"#
        var request = APIRequest(.post, "/v1/organizations/\(organization)/records", body: ByteBuffer(string: body))
        request.idempotencyKey = "chaos-\(marker)"
        request.timeout = .seconds(4)
        request.budget = self.patience
        let calledAt = self.nanoseconds
        do {
            let bytes = try await connection.send(request).bytes
            let receipt = try JSONDecoder().decode(Receipt.self, from: Data(bytes))
            self.note(
                ClientOperation(
                    client: client,
                    input: .append(marker: marker),
                    output: .appended(sequence: receipt.sequence),
                    calledAt: calledAt,
                    returnedAt: self.nanoseconds
                ),
                of: organization
            )
        } catch {
            // Whatever was said last, an earlier try may have been taken.
            self.note(
                ClientOperation(
                    client: client,
                    input: .append(marker: marker),
                    output: nil,
                    calledAt: calledAt,
                    returnedAt: calledAt
                ),
                of: organization
            )
        }
    }

    private func read(_ client: Int, _ organization: String, by connection: ClusterClient) async {
        let target = APIRequest.target(
            "/v1/organizations/\(organization)/records",
            [("order", "desc"), ("limit", "1"), ("consistency", "linearizable")]
        )
        var request = APIRequest(.get, target)
        request.timeout = .seconds(4)
        request.budget = .seconds(4)
        let calledAt = self.nanoseconds
        do {
            let bytes = try await connection.send(request).bytes
            let last = try JSONDecoder().decode(Page.self, from: Data(bytes)).records.first?.record
            self.note(
                ClientOperation(
                    client: client,
                    input: .read,
                    output: .read(size: last?.sequence ?? 0, last: last.flatMap { UInt64($0.entity_id) } ?? 0),
                    calledAt: calledAt,
                    returnedAt: self.nanoseconds
                ),
                of: organization
            )
        } catch {
            // A read that failed says nothing.
            self.state.withLock { $0.totals.refused += 1 }
        }
    }

    private func note(_ operation: ClientOperation<LedgerModel>, of organization: String) {
        self.state.withLock { state in
            state.history[organization, default: []].append(operation)
            switch (operation.input, operation.output) {
            case (.append, nil): state.totals.unknown += 1
            case (.append, _): state.totals.appends += 1
            case (.read, _): state.totals.reads += 1
            }
            if operation.output != nil {
                let took = Duration.nanoseconds(Int64(operation.returnedAt - operation.calledAt))
                state.totals.slowest = max(state.totals.slowest, took)
            }
        }
    }
}
