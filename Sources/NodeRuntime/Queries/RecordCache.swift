internal import NIOCore
internal import Primitives
internal import Synchronization

/// Answers to reads of single records, kept because records never change.
///
/// Two generations: when the young one is full it becomes the old one, and what was not asked for again goes with the next turn. Holds at most twice
/// ``generationBytesMax``.
final class RecordCache: Sendable {
    private struct Key: Hashable {
        let organization: OrganizationID
        let sequence: SequenceNumber
    }

    private struct State {
        var young: [Key: ByteBuffer] = [:]
        var old: [Key: ByteBuffer] = [:]
        var youngBytes = 0
    }

    /// Bytes of answers that one generation may hold.
    static let generationBytesMax = 16 << 20

    private let state = Mutex(State())

    /// The body of the answer, when it is kept.
    func body(of organization: OrganizationID, _ sequence: SequenceNumber) -> ByteBuffer? {
        let key = Key(organization: organization, sequence: sequence)
        return self.state.withLock { state in
            if let body = state.young[key] { return body }
            guard let body = state.old[key] else { return nil }
            Self.add(body, key, &state)
            return body
        }
    }

    func keep(_ body: ByteBuffer, of organization: OrganizationID, _ sequence: SequenceNumber) {
        let key = Key(organization: organization, sequence: sequence)
        self.state.withLock { Self.add(body, key, &$0) }
    }

    private static func add(_ body: ByteBuffer, _ key: Key, _ state: inout State) {
        if state.youngBytes + body.readableBytes > Self.generationBytesMax {
            state.old = state.young
            state.young = [:]
            state.youngBytes = 0
        }
        guard state.young.updateValue(body, forKey: key) == nil else { return }
        state.youngBytes += body.readableBytes
    }
}
