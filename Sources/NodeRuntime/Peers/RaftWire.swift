internal import Consensus
internal import Foundation
internal import NIOCore
internal import NIOFoundationCompat
internal import Primitives
internal import SwiftProtobuf

/// The wire form of consensus messages: protobuf frames, each after its length as a UInt32.
enum RaftWire {
    /// Largest frame that is taken from a peer, in bytes; two of the largest entries fit.
    static let frameBytesMax = 64 << 20
    /// Bytes of the length before each frame.
    static let lengthByteCount = 4

    /// Payload bytes after which a new frame is begun; a single larger message still travels, alone.
    static let framePayloadBytesTarget = 8 << 20

    /// Everything that `from` has for `to`, in its order, in as few frames as their size allows.
    static func frames(
        _ messages: [GroupMessage],
        from: NodeID,
        to: NodeID,
        payloadBytesTarget: Int = framePayloadBytesTarget
    ) throws -> [ByteBuffer] {
        var frames: [ByteBuffer] = []
        var first = messages.startIndex
        var bytes = 0
        for (place, message) in messages.enumerated() {
            let size = self.payloadBytes(message)
            if place > first, bytes + size > payloadBytesTarget {
                frames.append(try self.frame(Array(messages[first..<place]), from: from, to: to))
                first = place
                bytes = 0
            }
            bytes += size
        }
        frames.append(try self.frame(Array(messages[first...]), from: from, to: to))
        return frames
    }

    private static func payloadBytes(_ message: GroupMessage) -> Int {
        guard case .append(let append) = message.message.body else { return 0 }
        return append.entries.reduce(0) { $0 + $1.costBytes }
    }

    /// One frame, its length before it.
    static func frame(_ messages: [GroupMessage], from: NodeID, to: NodeID) throws -> ByteBuffer {
        var frame = WireRaftFrame()
        frame.from = from.rawValue
        frame.to = to.rawValue
        frame.messages = messages.map(self.wire)
        let data: Data = try frame.serializedBytes()
        var buffer = ByteBuffer()
        buffer.reserveCapacity(self.lengthByteCount + data.count)
        buffer.writeInteger(UInt32(data.count))
        buffer.writeData(data)
        return buffer
    }

    private static func wire(_ message: GroupMessage) -> WireGroupMessage {
        var wire = WireGroupMessage()
        wire.group = message.group.rawValue
        wire.term = message.message.term.rawValue
        switch message.message.body {
        case .preVoteRequest(let request): wire.preVoteRequest = self.wire(request)
        case .preVoteResponse(let granted): wire.preVoteGranted = granted
        case .voteRequest(let request): wire.voteRequest = self.wire(request)
        case .voteResponse(let granted): wire.voteGranted = granted
        case .append(let append): wire.append = self.wire(append)
        case .appendAccepted(let match): wire.appendAccepted = match.rawValue
        case .appendRejected(let rejection):
            var answer = WireAppendRejection()
            answer.previousIndex = rejection.previousIndex.rawValue
            answer.hintIndex = rejection.hintIndex.rawValue
            answer.hintTerm = rejection.hintTerm.rawValue
            wire.appendRejected = answer
        case .heartbeat(let commit): wire.heartbeat = commit.rawValue
        case .heartbeatResponse: wire.heartbeatResponse = true
        }
        return wire
    }

    private static func wire(_ request: RaftMessage.VoteRequest) -> WireVoteRequest {
        var wire = WireVoteRequest()
        wire.lastIndex = request.lastIndex.rawValue
        wire.lastTerm = request.lastTerm.rawValue
        return wire
    }

    private static func wire(_ append: RaftMessage.Append) -> WireAppendRequest {
        var wire = WireAppendRequest()
        wire.previousIndex = append.previousIndex.rawValue
        wire.previousTerm = append.previousTerm.rawValue
        wire.commit = append.commit.rawValue
        wire.wantsAnswer = append.wantsAnswer
        wire.entries = append.entries.map { entry in
            var wireEntry = WireEntry()
            wireEntry.index = entry.index.rawValue
            wireEntry.term = entry.term.rawValue
            wireEntry.kind = UInt32(entry.kind.rawValue)
            wireEntry.payload = Data(entry.payload)
            return wireEntry
        }
        return wire
    }

    /// Reads one frame's bytes (without the length).
    /// - Throws: ``MalformedBytes`` for anything that is not a frame of `peer` for `node`.
    static func messages(in bytes: ByteBuffer, from peer: NodeID, to node: NodeID) throws -> [GroupMessage] {
        let frame: WireRaftFrame
        do {
            frame = try WireRaftFrame(serializedBytes: Data(buffer: bytes))
        } catch {
            throw MalformedBytes(what: "raft frame", offset: 0)
        }
        guard frame.from == peer.rawValue, frame.to == node.rawValue else {
            throw MalformedBytes(what: "addresses of a raft frame", offset: 0)
        }
        return try frame.messages.map { try self.message($0, from: peer, to: node) }
    }

    private static func message(_ wire: WireGroupMessage, from: NodeID, to: NodeID) throws -> GroupMessage {
        let body: RaftMessage.Body
        switch wire.body {
        case .preVoteRequest(let request): body = .preVoteRequest(self.voteRequest(request))
        case .preVoteGranted(let granted): body = .preVoteResponse(granted: granted)
        case .voteRequest(let request): body = .voteRequest(self.voteRequest(request))
        case .voteGranted(let granted): body = .voteResponse(granted: granted)
        case .append(let append): body = .append(try self.append(append))
        case .appendAccepted(let match): body = .appendAccepted(match: LogIndex(match))
        case .appendRejected(let rejection):
            body = .appendRejected(
                RaftMessage.AppendRejection(
                    previousIndex: LogIndex(rejection.previousIndex),
                    hintIndex: LogIndex(rejection.hintIndex),
                    hintTerm: Term(rejection.hintTerm)
                )
            )
        case .heartbeat(let commit): body = .heartbeat(commit: LogIndex(commit))
        case .heartbeatResponse: body = .heartbeatResponse
        case nil: throw MalformedBytes(what: "raft message", offset: 0)
        }
        return GroupMessage(
            group: GroupID(wire.group),
            message: RaftMessage(from: from, to: to, term: Term(wire.term), body: body)
        )
    }

    private static func voteRequest(_ wire: WireVoteRequest) -> RaftMessage.VoteRequest {
        RaftMessage.VoteRequest(lastIndex: LogIndex(wire.lastIndex), lastTerm: Term(wire.lastTerm))
    }

    private static func append(_ wire: WireAppendRequest) throws -> RaftMessage.Append {
        var next = wire.previousIndex
        let entries = try wire.entries.map { entry in
            next &+= 1
            guard let kind = LogEntry.Kind(rawValue: UInt8(truncatingIfNeeded: entry.kind)), entry.kind <= 0xFF,
                entry.index == next, entry.term <= UInt64.max / 2
            else { throw MalformedBytes(what: "log entry", offset: 0) }
            return LogEntry(
                index: LogIndex(entry.index),
                term: Term(entry.term),
                kind: kind,
                payload: [UInt8](entry.payload)
            )
        }
        return RaftMessage.Append(
            previousIndex: LogIndex(wire.previousIndex),
            previousTerm: Term(wire.previousTerm),
            entries: entries,
            commit: LogIndex(wire.commit),
            wantsAnswer: wire.wantsAnswer
        )
    }
}
