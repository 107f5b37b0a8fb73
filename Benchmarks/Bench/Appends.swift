internal import HTTPTypes
internal import NIOCore
internal import Primitives

/// Events of about one size, made from numbers: the same client and iteration give the same event.
struct EventMaker: Sendable {
    /// Bytes of one event's JSON.
    let sizeBytes: Int

    private static let actions = [
        "register", "receive", "aliquot", "label", "store", "retrieve", "measure", "review", "approve", "reject",
        "transfer", "dispose",
    ]
    private static let entityTypes = ["sample", "request", "instrument", "protocol", "result"]
    private static let entitiesCount = 5_000
    private static let actorsCount = 64

    /// Writes one event, without a line feed.
    func write(_ number: UInt64, into buffer: inout ByteBuffer) {
        var generator = SeededGenerator(seed: number)
        let entity = Int.random(in: 0..<Self.entitiesCount, using: &generator)
        let action = Self.actions[Int(generator.next() % UInt64(Self.actions.count))]
        let type = Self.entityTypes[entity % Self.entityTypes.count]
        let actor = generator.next() % UInt64(Self.actorsCount)
        let volume = generator.next() % 10_000
        let begin = buffer.writerIndex
        buffer.writeString(
            """
            {"actor":{"kind":"user","id":"u-\(actor)","name":"Person \(actor)","role":"technician"},\
            "action":"\(action)","entity_type":"\(type)","entity_id":"\(type)-\(entity)",\
            "before":{"state":"stored","volume_ul":\(volume + 5)},\
            "after":{"state":"\(action)","volume_ul":\(volume),"number":\(number % 1_000_000_007)},\
            "severity":"info","reason":"
            """
        )
        let tailBytes = 2
        let padding = self.sizeBytes - (buffer.writerIndex - begin) - tailBytes
        if padding > 0 { buffer.writeRepeatingByte(UInt8(ascii: "x"), count: padding) }
        buffer.writeString("\"}")
    }
}

/// Appends to organizations in turns: one event a request, or a batch of them.
struct Appends: Workload {
    private let cluster: Cluster
    private let placements: [Cluster.Placement]
    private let batch: Int
    private let toLeader: Bool
    /// Made beforehand and sent again and again, so that making them is no part of the measurement.
    private let bodies: [ByteBuffer]

    /// - Parameters:
    ///   - batch: Events of one request; 1 sends a single event, more send newline-delimited JSON.
    ///   - toLeader: True: to the node that leads the organization's group. False: to any node, in turns.
    init(cluster: Cluster, placements: [Cluster.Placement], maker: EventMaker, batch: Int, toLeader: Bool) {
        self.cluster = cluster
        self.placements = placements
        self.batch = batch
        self.toLeader = toLeader
        let eventsMade = 24_000
        self.bodies = (0..<min(eventsMade / batch, 4_096)).map { body in
            var bytes = ByteBuffer()
            for event in 0..<batch {
                maker.write(UInt64(body * batch + event), into: &bytes)
                if batch > 1 { bytes.writeInteger(UInt8(ascii: "\n")) }
            }
            return bytes
        }
    }

    func perform(client: Int, iteration: Int) async throws -> Int {
        let placement = self.placements[(client + iteration) % self.placements.count]
        let clientStep = 7_919
        let body = self.bodies[(client * clientStep + iteration) % self.bodies.count]
        let spread = client + (self.toLeader ? 0 : iteration)
        _ = try await self.cluster.post(
            "/v1/organizations/\(placement.key)/records",
            type: self.batch > 1 ? "application/x-ndjson" : "application/json",
            body: body,
            expecting: .created,
            over: self.cluster.connections.pick(spread, to: self.toLeader ? placement.leader : nil)
        )
        return self.batch
    }
}
