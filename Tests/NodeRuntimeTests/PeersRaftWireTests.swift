internal import Consensus
internal import Foundation
internal import NIOCore
internal import Primitives
internal import SwiftProtobuf
internal import Testing

@testable internal import NodeRuntime

@Suite("Consensus messages between peers")
struct PeersRaftWireTests {
    private let from = NodeID(1)
    private let to = NodeID(2)

    private func message(_ body: RaftMessage.Body, group: UInt32 = 3) -> GroupMessage {
        GroupMessage(
            group: GroupID(group),
            message: RaftMessage(from: self.from, to: self.to, term: Term(9), body: body)
        )
    }

    private func append(_ payloads: [[UInt8]], after previous: UInt64 = 40) -> RaftMessage.Body {
        let entries = payloads.enumerated().map { place, payload in
            LogEntry(
                index: LogIndex(previous + UInt64(place) + 1),
                term: Term(8),
                kind: payload.isEmpty ? .empty : .commands,
                payload: payload
            )
        }
        return .append(
            RaftMessage.Append(
                previousIndex: LogIndex(previous),
                previousTerm: Term(7),
                entries: entries,
                commit: LogIndex(39),
                wantsAnswer: payloads.isEmpty
            )
        )
    }

    private var everyKind: [GroupMessage] {
        let vote = RaftMessage.VoteRequest(lastIndex: LogIndex(40), lastTerm: Term(8))
        let rejection = RaftMessage.AppendRejection(
            previousIndex: LogIndex(40),
            hintIndex: LogIndex(20),
            hintTerm: Term(5)
        )
        let bodies: [RaftMessage.Body] = [
            .preVoteRequest(vote), .preVoteResponse(granted: true), .preVoteResponse(granted: false),
            .voteRequest(vote), .voteResponse(granted: true), .voteResponse(granted: false), self.append([]),
            self.append([[], [1, 2, 3], [0]]), .appendAccepted(match: LogIndex(.max)), .appendAccepted(match: .zero),
            .appendRejected(rejection), .heartbeat(commit: LogIndex(5)), .heartbeat(commit: .zero), .heartbeatResponse,
        ]
        return bodies.enumerated().map { self.message($1, group: UInt32($0)) }
    }

    private func decode(_ frame: ByteBuffer) throws -> [GroupMessage] {
        var reader = RaftFrameReader()
        return try reader.feed(frame).flatMap { try RaftWire.messages(in: $0, from: self.from, to: self.to) }
    }

    @Test func everyKindOfMessageComesBackAsItWent() throws {
        let frame = try RaftWire.frame(self.everyKind, from: self.from, to: self.to)
        #expect(try self.decode(frame) == self.everyKind)
    }

    @Test func framesOfAnotherSenderOrReceiverAreRefused() throws {
        for (from, to) in [(NodeID(3), self.to), (self.from, NodeID(3)), (self.to, self.from)] {
            let frame = try RaftWire.frame(self.everyKind, from: from, to: to)
            #expect(throws: MalformedBytes.self) { try self.decode(frame) }
        }
    }

    @Test func aTruncatedFrameIsMalformedOrAShorterOneButNeverSomethingElse() throws {
        let all = self.everyKind
        var frame = try RaftWire.frame(all, from: self.from, to: self.to)
        frame.moveReaderIndex(forwardBy: RaftWire.lengthByteCount)
        var refused = 0
        for count in 0..<frame.readableBytes {
            let cut = try #require(frame.getSlice(at: frame.readerIndex, length: count))
            do {
                let messages = try RaftWire.messages(in: cut, from: self.from, to: self.to)
                #expect(messages == Array(all.prefix(messages.count)), "cut to \(count) bytes")
                #expect(messages.count < all.count, "cut to \(count) bytes")
            } catch {
                #expect(error is MalformedBytes)
                refused += 1
            }
        }
        #expect(refused > frame.readableBytes / 2)
    }

    @Test(arguments: [UInt64(1), 2, 3])
    func garbageNeverTraps(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let good = try RaftWire.frame(self.everyKind, from: self.from, to: self.to)
        for _ in 0..<500 {
            var bytes = Array(good.readableBytesView.dropFirst(RaftWire.lengthByteCount))
            for _ in 0..<3 {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            do {
                _ = try RaftWire.messages(in: ByteBuffer(bytes: bytes), from: self.from, to: self.to)
            } catch {
                #expect(error is MalformedBytes, "seed \(seed)")
            }
        }
    }

    private func wire(_ change: (inout WireRaftFrame) -> Void) throws -> ByteBuffer {
        var frame = WireRaftFrame()
        frame.from = self.from.rawValue
        frame.to = self.to.rawValue
        change(&frame)
        let data: Data = try frame.serializedBytes()
        return ByteBuffer(bytes: data)
    }

    @Test func messagesWithoutABodyAndEntriesOutOfPlaceAreMalformed() throws {
        var entry = WireEntry()
        entry.index = 41
        entry.term = 8
        entry.kind = 1
        let changes: [(String, (inout WireEntry) -> Void)] = [
            ("index too large", { $0.index = 42 }), ("index too small", { $0.index = 40 }),
            ("kind unknown", { $0.kind = 2 }), ("kind beyond a byte", { $0.kind = 0x101 }),
            ("term absurd", { $0.term = .max }),
        ]
        func frame(_ entry: WireEntry) throws -> ByteBuffer {
            try self.wire { frame in
                var append = WireAppendRequest()
                append.previousIndex = 40
                append.entries = [entry]
                var message = WireGroupMessage()
                message.append = append
                frame.messages = [message]
            }
        }
        #expect(try RaftWire.messages(in: try frame(entry), from: self.from, to: self.to).count == 1)
        for (what, change) in changes {
            var bad = entry
            change(&bad)
            let bytes = try frame(bad)
            #expect(throws: MalformedBytes.self, "\(what)") {
                try RaftWire.messages(in: bytes, from: self.from, to: self.to)
            }
        }
        let empty = try self.wire { $0.messages = [WireGroupMessage()] }
        #expect(throws: MalformedBytes.self) { try RaftWire.messages(in: empty, from: self.from, to: self.to) }
    }

    /// A receiver refuses a frame over its limit, so a sender must not make one of many messages.
    @Test func muchIsSentInSeveralFramesInItsOrder() throws {
        let large = [UInt8](repeating: 7, count: 1000)
        let messages =
            (0..<7).map { self.message(self.append([large], after: UInt64($0)), group: UInt32($0)) }
            + [self.message(.heartbeatResponse)]
        let frames = try RaftWire.frames(messages, from: self.from, to: self.to, payloadBytesTarget: 2100)
        #expect(frames.count == 4)
        #expect(try frames.flatMap { try self.decode($0) } == messages)
        // One that is too large alone still travels.
        #expect(try RaftWire.frames(messages, from: self.from, to: self.to, payloadBytesTarget: 10).count == 8)
        #expect(try RaftWire.frames(messages, from: self.from, to: self.to).count == 1)
    }
}

@Suite("Cutting a stream into frames")
struct PeersRaftFrameReaderTests {
    private static func stream(_ frames: [[UInt8]]) -> [UInt8] {
        var buffer = ByteBuffer()
        for frame in frames {
            buffer.writeInteger(UInt32(frame.count))
            buffer.writeBytes(frame)
        }
        return Array(buffer.readableBytesView)
    }

    private static let frames: [[UInt8]] = [[1, 2, 3], [], [4], Array(repeating: 9, count: 20)]

    private func read(_ chunks: [ArraySlice<UInt8>], frameBytesMax: Int = 20) throws -> [[UInt8]] {
        var reader = RaftFrameReader(frameBytesMax: frameBytesMax)
        return try chunks.flatMap { try reader.feed(ByteBuffer(bytes: $0)) }.map { Array($0.readableBytesView) }
    }

    @Test func framesComeOutWhereverTheStreamIsCut() throws {
        let stream = Self.stream(Self.frames)
        for cut in 0...stream.count {
            #expect(try self.read([stream[..<cut], stream[cut...]]) == Self.frames, "\(cut)")
        }
        #expect(try self.read(stream.map { [$0][...] }) == Self.frames)
        #expect(try self.read([stream[...]]) == Self.frames)
    }

    @Test func anIncompleteFrameIsKeptBack() throws {
        let stream = Self.stream(Self.frames)
        #expect(try self.read([stream.dropLast()]) == Array(Self.frames.dropLast()))
    }

    @Test func aLengthOverTheLimitIsMalformedBeforeItsBytesAreAwaited() throws {
        let stream = Self.stream(Self.frames)
        #expect(throws: MalformedBytes.self) { try self.read([stream[...]], frameBytesMax: 19) }
        for length: [UInt8] in [[0xFF, 0xFF, 0xFF, 0xFF], [0x80, 0, 0, 0], [0, 0, 0, 21]] {
            #expect(throws: MalformedBytes.self) { try self.read([length[...]]) }
        }
    }
}
