internal import Consensus
internal import NIOCore
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

/// Messages of every kind, with small and with the largest numbers.
enum FrameFixture {
    static let from = NodeID(1)
    static let to = NodeID(2)

    static func message(_ body: RaftMessage.Body, group: UInt32 = 3, term: UInt64 = 9) -> HostMessage {
        .raft(
            GroupMessage(
                group: GroupID(group),
                message: RaftMessage(from: self.from, to: self.to, term: Term(term), body: body)
            )
        )
    }

    static func append(_ payloads: [[UInt8]], after previous: UInt64 = 40) -> RaftMessage.Body {
        let entries = payloads.enumerated().map { place, payload in
            LogEntry(
                index: LogIndex(previous + UInt64(place) + 1),
                term: Term(7 + UInt64(place) / 2),
                kind: payload.isEmpty ? .empty : .commands,
                payload: payload
            )
        }
        return .append(
            RaftMessage.Append(
                session: LogIndex(12),
                beat: 77,
                previousIndex: LogIndex(previous),
                previousTerm: Term(7),
                entries: entries,
                commit: LogIndex(39),
                wantsAnswer: payloads.isEmpty
            )
        )
    }

    static var bodies: [RaftMessage.Body] {
        let most = LogIndex(RaftFrame.numberMax)
        let vote = RaftMessage.VoteRequest(
            session: LogIndex(33),
            lastIndex: LogIndex(40),
            lastTerm: Term(8),
            commit: LogIndex(300),
            commitTerm: Term(7)
        )
        var transfer = vote
        transfer.isTransfer = true
        let membership = Membership(voters: [1, 2, 300].map { NodeID($0) }, learners: [NodeID(7)])
        let mark = SnapshotMark(index: LogIndex(128), term: Term(8), membership: membership)
        return [
            .preVoteRequest(vote), .preVoteRequest(transfer), .preVoteResponse(granted: true),
            .preVoteResponse(granted: false), .voteRequest(vote), .voteRequest(transfer),
            .voteResponse(RaftMessage.VoteAnswer(isGranted: true, lastIndex: most, lastTerm: Term(8))),
            .voteResponse(RaftMessage.VoteAnswer(isGranted: false, lastIndex: .zero, lastTerm: .zero)),
            self.append([]), self.append([[], [1, 2, 3], [0]]),
            .appendAccepted(RaftMessage.AppendAcceptance(session: .zero, beat: 0, match: .zero)),
            .appendAccepted(RaftMessage.AppendAcceptance(session: most, beat: RaftFrame.numberMax, match: most)),
            .appendRejected(
                RaftMessage.AppendRejection(
                    session: LogIndex(1),
                    beat: 2,
                    previousIndex: LogIndex(40),
                    hintIndex: LogIndex(20),
                    hintTerm: Term(5)
                )
            ),
            .heartbeat(RaftMessage.Heartbeat(session: LogIndex(1), beat: 2, commit: LogIndex(5))),
            .heartbeat(RaftMessage.Heartbeat(session: .zero, beat: 0, commit: .zero, sleepAt: .zero)),
            .heartbeat(RaftMessage.Heartbeat(session: most, beat: 1, commit: most, sleepAt: most)),
            .heartbeatResponse(RaftMessage.HeartbeatResponse(session: LogIndex(128), beat: 127)),
            .snapshot(RaftMessage.SnapshotOffer(session: LogIndex(1), beat: 2, mark: mark)),
            .timeoutNow, .readRequest(token: .max), .readResponse(token: 0, index: nil),
            .readResponse(token: .max, index: LogIndex(6)),
        ]
    }

    static var everyKind: [HostMessage] {
        self.bodies.enumerated().map { self.message($1, group: UInt32($0)) } + [
            .beat(NodeBeat(epoch: .max)), .removed(RemovalNotice(group: GroupID(.max), index: LogIndex(4))),
        ]
    }

    static func frames(
        _ messages: [HostMessage],
        from: NodeID = from,
        to: NodeID = to,
        bytesTarget: Int = RaftFrame.bytesTarget
    ) -> [ByteBuffer] {
        var writer = RaftFrameWriter(from: from, to: to, bytesTarget: bytesTarget)
        for message in messages { writer.add(message) }
        return writer.finish()
    }

    /// One frame without its length.
    static func frame(_ messages: [HostMessage]) -> [UInt8] {
        Array(self.frames(messages)[0].readableBytesView.dropFirst(RaftFrame.lengthByteCount))
    }

    static func decode(_ frame: [UInt8]) throws(RaftFrameError) -> [HostMessage] {
        try RaftFrame.decode(ByteBuffer(bytes: frame), from: self.from, to: self.to)
    }

    static func read(_ stream: [ByteBuffer]) throws(RaftFrameError) -> [HostMessage] {
        var cutter = RaftFrameCutter()
        var messages: [HostMessage] = []
        for bytes in stream {
            for frame in try cutter.feed(bytes) {
                messages += try RaftFrame.decode(frame, from: self.from, to: self.to)
            }
        }
        return messages
    }
}

@Suite("Consensus messages between peers")
struct PeersRaftFrameTests {
    private typealias Fixture = FrameFixture

    private func code(of frame: [UInt8]) -> RaftFrameError.Code? {
        do throws(RaftFrameError) {
            _ = try Fixture.decode(frame)
            return nil
        } catch {
            return error.code
        }
    }

    @Test func everyKindOfMessageComesBackAsItWent() throws {
        #expect(try Fixture.read(Fixture.frames(Fixture.everyKind)) == Fixture.everyKind)
        for message in Fixture.everyKind { #expect(try Fixture.decode(Fixture.frame([message])) == [message]) }
    }

    /// The form on the wire never changes within a version.
    @Test func theBytesOfEachKindAreAsEver() {
        func hex(_ message: HostMessage) -> String {
            Fixture.frame([message]).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        }
        // Version, sender, receiver, and the count in five bytes.
        let head = "0101028180808000"
        let heartbeat = RaftMessage.Heartbeat(
            session: LogIndex(1),
            beat: 300,
            commit: LogIndex(5),
            sleepAt: LogIndex(6)
        )
        #expect(hex(Fixture.message(.heartbeat(heartbeat))) == head + "28030901ac020506")
        #expect(hex(Fixture.message(.timeoutNow, group: 128)) == head + "0b800109")
        #expect(
            hex(Fixture.message(Fixture.append([[], [1, 2, 3], [0]])))
                == head + "0503090c4d28072703" + "000000" + "01000301020" + "3" + "01010100"
        )
        #expect(hex(.beat(NodeBeat(epoch: 5))) == head + "0e05")
        #expect(hex(.removed(RemovalNotice(group: GroupID(2), index: LogIndex(4)))) == head + "0f0204")
    }

    /// What a heartbeat of one group adds to those of a thousand others.
    @Test func heartbeatsOfManyGroupsArePackedTightly() {
        let heartbeats = (0..<1000).map { group in
            let body = RaftMessage.Heartbeat(session: .zero, beat: 40_000, commit: LogIndex(90_000))
            return Fixture.message(.heartbeat(body), group: UInt32(group), term: 12)
        }
        let frames = Fixture.frames(heartbeats)
        #expect(frames.count == 1)
        #expect(frames[0].readableBytes <= 11 * heartbeats.count)
    }

    @Test func framesOfAnotherSenderOrReceiverAreRefused() {
        for (from, to) in [(NodeID(3), Fixture.to), (Fixture.from, NodeID(3)), (Fixture.to, Fixture.from)] {
            let frames = Fixture.frames(Fixture.everyKind, from: from, to: to)
            let error = #expect(throws: RaftFrameError.self) { try Fixture.read(frames) }
            #expect(error?.code == .wrongAddress)
        }
    }

    @Test func aFrameThatEndsTooEarlyOrTooLateIsRefused() {
        let frame = Fixture.frame(Fixture.everyKind)
        for count in 0..<frame.count { #expect(self.code(of: Array(frame[..<count])) != nil, "cut to \(count) bytes") }
        #expect(self.code(of: frame + [0]) == .malformed)
        #expect(self.code(of: frame) == nil)
    }

    @Test func everyKindOfNonsenseHasItsCode() {
        let head: [UInt8] = [1, 1, 2]
        let cases: [(String, [UInt8], RaftFrameError.Code)] = [
            ("version to come", [2, 1, 2, 0], .unknownVersion),
            ("version nought", [0, 1, 2, 0], .unknownVersion),
            ("kind nought", head + [1, 0, 0, 0], .unknownKind),
            ("kind to come", head + [1, 16, 0, 0], .unknownKind),
            ("unknown flag", head + [1, 0x4B, 0, 0], .unknownKind),
            ("more messages than bytes", head + [0xFF, 0xFF, 0x7F, 11, 0, 0], .truncated),
            ("number without end", head + [UInt8](repeating: 0xFF, count: 11), .malformed),
            ("number over 64 bits", head + [UInt8](repeating: 0xFF, count: 9) + [2], .malformed),
            ("group over 32 bits", head + [1, 11, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F, 0], .malformed),
            ("absurd term", head + [1, 11, 0] + [UInt8](repeating: 0xFF, count: 9) + [1], .malformed),
            // Session, beat, previous index and term, commit, count.
            ("more entries than bytes", head + [1, 5, 0, 0, 0, 0, 0, 0, 0, 0x7F, 0, 0, 0], .truncated),
            ("payload longer than the frame", head + [1, 5, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0x7F], .truncated),
            ("entry of an unknown kind", head + [1, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0x66, 0, 0], .unknownKind),
            (
                "membership of absurd length", head + [1, 10, 0, 0, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x08, 0],
                .oversized
            ),
            ("membership that is none", head + [1, 10, 0, 0, 0, 0, 0, 0, 1, 0xFF], .malformed),
        ]
        for (what, frame, code) in cases { #expect(self.code(of: frame) == code, "\(what)") }
        #expect(self.code(of: head + [1, 11, 0, 0]) == nil)
    }

    /// Arithmetic on what a frame brings must not trap in the core.
    @Test func theLargestNumbersLeaveRoomForArithmetic() throws {
        var entry: [UInt8] = [1, 1, 2, 1, 5, 0, 0, 0, 0]
        let most: [UInt8] = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40]
        entry += most + most + [0, 1, 1]
        #expect(self.code(of: entry + [0, 0]) == nil)
        #expect(self.code(of: entry + [1, 0]) == .malformed)
    }

    @Test(arguments: [UInt64(1), 2, 3, 4])
    func garbageNeverTraps(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let good = Fixture.frame(Fixture.everyKind)
        var refused = 0
        for _ in 0..<2000 {
            var bytes = good
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes.removeSubrange(Int.random(in: 0..<bytes.count, using: &generator)...)
                case 1: bytes.insert(0xFF, at: Int.random(in: 0...bytes.count, using: &generator))
                default:
                    guard !bytes.isEmpty else { continue }
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
                }
                if bytes.isEmpty { break }
            }
            if self.code(of: bytes) != nil { refused += 1 }
        }
        #expect(refused > 1000, "seed \(seed)")
        for _ in 0..<2000 {
            let count = Int.random(in: 0..<60, using: &generator)
            let noise = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            // Past the addresses, so that the messages are reached.
            _ = self.code(of: [1, 1, 2] + noise)
        }
    }

    @Test(arguments: [UInt64(11), 12])
    func messagesDrawnAtRandomComeBackAsTheyWent(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let bodies = Fixture.bodies
        for _ in 0..<200 {
            let messages: [HostMessage] = (0..<Int.random(in: 1...40, using: &generator)).map { _ in
                let payloads = (0..<Int.random(in: 0...5, using: &generator)).map { _ in
                    [UInt8](repeating: 7, count: Int.random(in: 0...700, using: &generator))
                }
                let previous = UInt64.random(in: 0...RaftFrame.numberMax / 2, using: &generator)
                let body =
                    Bool.random(using: &generator)
                    ? Fixture.append(payloads, after: previous)
                    : bodies[Int.random(in: 0..<bodies.count, using: &generator)]
                return Fixture.message(
                    body,
                    group: .random(in: 0...UInt32.max, using: &generator),
                    term: .random(in: 0...RaftFrame.numberMax, using: &generator)
                )
            }
            let target = Int.random(in: 1...4000, using: &generator)
            let frames = Fixture.frames(messages, bytesTarget: target)
            #expect(try Fixture.read(frames) == messages, "seed \(seed)")
        }
    }

    /// A receiver refuses a frame over its limit, so a sender must not make one of many messages.
    @Test func muchIsSentInSeveralFramesInItsOrder() throws {
        let large = [UInt8](repeating: 7, count: 1000)
        let messages =
            (0..<7).map { Fixture.message(Fixture.append([large], after: UInt64($0)), group: UInt32($0)) }
            + [Fixture.message(.timeoutNow)]
        let frames = Fixture.frames(messages, bytesTarget: 2200)
        #expect(frames.count == 4)
        #expect(try Fixture.read(frames) == messages)
        // One that is too large alone still travels.
        #expect(Fixture.frames(messages, bytesTarget: 10).count == 8)
        #expect(Fixture.frames(messages).count == 1)
        #expect(Fixture.frames([]).isEmpty)
    }
}

@Suite("Cutting a stream into frames")
struct PeersRaftFrameCutterTests {
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
        var cutter = RaftFrameCutter(frameBytesMax: frameBytesMax)
        return try chunks.flatMap { try cutter.feed(ByteBuffer(bytes: $0)) }.map { Array($0.readableBytesView) }
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

    @Test func aLengthOverTheLimitIsRefusedBeforeItsBytesAreAwaited() {
        let stream = Self.stream([[UInt8](repeating: 1, count: 21)])
        let error = #expect(throws: RaftFrameError.self) { try self.read([stream.prefix(4)]) }
        #expect(error?.code == .oversized)
        #expect(throws: Never.self) { try self.read([stream.prefix(4)], frameBytesMax: 21) }
    }
}
