internal import Primitives
internal import QueryRouter
internal import Synchronization

/// The tables of organizations as one worker process told them, until it says that they have changed.
///
/// A statement needs them before anything else; asking for them each time costs more than many a statement. Gone
/// with the process that they are from.
final class KnownTables: Sendable {
    /// Organizations that are remembered; beyond it all are asked for again.
    static let organizationsMax = 4_096

    private struct State {
        var tables: [OrganizationID: ShardTables] = [:]
        /// Counts what was forgotten, so that no answer is kept that was on its way meanwhile.
        var turn: UInt64 = 0
    }

    private let state = Mutex(State())

    /// The tables; nil: they must be asked for.
    func find(_ organization: OrganizationID) -> ShardTables? { self.state.withLock { $0.tables[organization] } }

    /// To be taken before they are asked for.
    var turn: UInt64 { self.state.withLock { $0.turn } }

    /// Remembers an answer, unless something was forgotten since `turn`.
    func keep(_ tables: ShardTables, of organization: OrganizationID, askedIn turn: UInt64) {
        self.state.withLock { state in
            guard state.turn == turn else { return }
            if state.tables.count >= Self.organizationsMax { state.tables = [:] }
            state.tables[organization] = tables
        }
    }

    func forget(_ organization: OrganizationID) {
        self.state.withLock { state in
            state.turn += 1
            state.tables[organization] = nil
        }
    }

    /// The body of a frame that tells of an organization.
    static func encode(_ organization: OrganizationID) -> [UInt8] {
        var writer = ByteWriter(capacity: 4)
        writer.write(organization.rawValue)
        return writer.bytes
    }

    /// - Returns: Nil for anything else.
    static func decode(_ body: [UInt8]) -> OrganizationID? {
        var reader = ByteReader(body)
        guard body.count == 4, let number = try? reader.read(UInt32.self) else { return nil }
        return OrganizationID(number)
    }
}
