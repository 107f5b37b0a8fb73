internal import HTTPTypes
internal import NIOCore
internal import Testing

@testable internal import Transport

@Suite("gRPC: frames, statuses, time-outs")
struct GRPCTests {
    private static func frame(_ bytes: [UInt8], flag: UInt8 = 0) -> ByteBuffer {
        var buffer = ByteBuffer()
        GRPCFrameReader.writePrefix(length: bytes.count, to: &buffer)
        buffer.setInteger(flag, at: 0)
        buffer.writeBytes(bytes)
        return buffer
    }

    @Test func cutsMessagesWhereverTheBytesAreSplit() throws {
        let messages: [[UInt8]] = [[1, 2, 3], [], Array(repeating: 7, count: 300)]
        var body = ByteBuffer()
        for message in messages { body.writeImmutableBuffer(Self.frame(message)) }
        for step in [1, 2, 5, 7, 64, body.readableBytes] {
            var reader = GRPCFrameReader(messageBytesMax: 300)
            var found: [[UInt8]] = []
            var rest = body
            while rest.readableBytes > 0 {
                guard let part = rest.readSlice(length: min(step, rest.readableBytes)) else { break }
                reader.feed(part)
                while let message = try reader.next() { found.append(Array(message.readableBytesView)) }
            }
            #expect(found == messages, "step \(step)")
            #expect(reader.isBetweenMessages)
        }
    }

    @Test func knowsWhenABodyEndsInsideOfAMessage() throws {
        var reader = GRPCFrameReader(messageBytesMax: 100)
        var half = Self.frame([1, 2, 3, 4])
        half.moveWriterIndex(to: 7)
        reader.feed(half)
        let next = try reader.next()
        #expect(next == nil)
        #expect(!reader.isBetweenMessages)
    }

    @Test func refusesWhatIsTooLongBeforeItHasCome() {
        var reader = GRPCFrameReader(messageBytesMax: 100)
        var prefix = ByteBuffer()
        GRPCFrameReader.writePrefix(length: 101, to: &prefix)
        reader.feed(prefix)
        #expect(throws: GRPCStatus(.resourceExhausted, "a message of 101 bytes; at most 100 are taken")) {
            try reader.next()
        }
    }

    @Test func refusesCompressedMessages() {
        var reader = GRPCFrameReader(messageBytesMax: 100)
        reader.feed(Self.frame([1], flag: 1))
        let status = #expect(throws: GRPCStatus.self) { try reader.next() }
        #expect(status?.code == .unimplemented)
    }

    @Test func escapesMessagesAndCutsThemBetweenCharacters() throws {
        #expect(GRPCStatus.escaped("a b%\n") == "a b%25%0A")
        #expect(GRPCStatus.escaped("ä") == "%C3%A4")
        let long = GRPCStatus.escaped(String(repeating: "ä", count: 4_000))
        #expect(long.utf8.count <= GRPCStatus.messageBytesMax)
        #expect(long.hasSuffix("%A4"))
        let fields = GRPCStatus(.notFound, "gone").fields
        let names = [try #require(HTTPField.Name("grpc-status")), try #require(HTTPField.Name("grpc-message"))]
        #expect(names.map { fields[$0] } == ["5", "gone"])
        #expect(GRPCStatus.ok.fields[names[1]] == nil)
    }

    @Test(arguments: [
        ("3H", Duration.seconds(10_800)), ("2M", .seconds(120)), ("30S", .seconds(30)), ("5m", .milliseconds(5)),
        ("7u", .microseconds(7)), ("9n", .nanoseconds(9)),
    ])
    func readsTimeouts(_ text: String, _ wanted: Duration) { #expect(GRPCStatus.timeout(text) == wanted) }

    @Test(arguments: ["", "S", "5", "-1S", "+1S", "123456789S", "1x", "1 S"])
    func takesNoMalformedTimeout(_ text: String) { #expect(GRPCStatus.timeout(text) == nil) }
}
