package import Primitives

/// One entry of a group's log.
package struct LogEntry: Sendable, Hashable {
    /// What an entry carries; the raw value is the byte on disk and on the wire and never changes.
    package enum Kind: UInt8, Sendable, Hashable {
        /// Nothing: a new leader's first entry (Raft section 8).
        case empty = 0
        /// A batch of commands in the form of ``CommandBatch``.
        case commands = 1
        /// A ``MembershipChange`` in its own form.
        case membership = 2
    }

    package let index: LogIndex
    /// The term of the leader that made the entry.
    package let term: Term
    package let kind: Kind
    package let payload: [UInt8]

    package init(index: LogIndex, term: Term, kind: Kind, payload: [UInt8]) {
        self.index = index
        self.term = term
        self.kind = kind
        self.payload = payload
    }

    /// What an entry counts for in every limit, in bytes: its payload and a fixed cost.
    package var costBytes: Int { self.payload.count + Self.overheadBytes }

    /// Bytes that an entry counts for besides its payload.
    package static let overheadBytes = 32
}

/// The form in which one entry carries several commands: a count (u32) and each command after its length (u32).
package enum CommandBatch {
    /// Bytes that each command takes besides its own.
    package static let overheadBytes = 4

    /// - Returns: The payload of one entry that carries `commands` in their order.
    package static func encode(_ commands: [[UInt8]]) -> [UInt8] {
        var size = 4
        for command in commands { size += Self.overheadBytes + command.count }
        return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            var next = 0
            func put(_ value: UInt32) {
                buffer[next] = UInt8(truncatingIfNeeded: value >> 24)
                buffer[next + 1] = UInt8(truncatingIfNeeded: value >> 16)
                buffer[next + 2] = UInt8(truncatingIfNeeded: value >> 8)
                buffer[next + 3] = UInt8(truncatingIfNeeded: value)
                next += 4
            }
            put(UInt32(commands.count))
            for command in commands {
                put(UInt32(command.count))
                if command.isEmpty { continue }
                _ = UnsafeMutableBufferPointer(rebasing: buffer[next...]).initialize(fromContentsOf: command)
                next += command.count
            }
            count = next
        }
    }

    /// - Returns: The commands, as slices that share the payload.
    package static func decode(_ payload: [UInt8]) throws(MalformedBytes) -> [ArraySlice<UInt8>] {
        var reader = ByteReader(payload)
        let count = try reader.read(UInt32.self)
        guard Int(count) <= reader.remaining / Self.overheadBytes else {
            throw MalformedBytes(what: "count of commands", offset: 0)
        }
        var commands: [ArraySlice<UInt8>] = []
        commands.reserveCapacity(Int(count))
        for _ in 0..<count { commands.append(try reader.readPrefixed()) }
        try reader.finish("batch of commands")
        return commands
    }
}

/// What a replica must remember besides its log: written before anything that promises it is sent.
package struct HardState: Sendable, Hashable {
    /// The latest term this replica has seen.
    package var term: Term
    /// The candidate that got this replica's vote in `term`.
    package var vote: NodeID?

    package init(term: Term = .zero, vote: NodeID? = nil) {
        self.term = term
        self.vote = vote
    }
}
