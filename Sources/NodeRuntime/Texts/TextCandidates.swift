internal import Columnar
internal import Primitives
internal import QueryRouter

/// The rows of `audit_log` that a search need read, as a statement over them. Pure.
struct TextCandidates: Sendable, Equatable {
    /// When more than this part of the rows would have to be read, all are offered: a frequent text fills a page soon, and
    /// then a statement that sees the whole table stops.
    static let shareMax = 4
    /// Most bits that a statement has; when there are more granules, several share a bit.
    static let bitsMax = 1 << 17

    /// A condition on `sequence`.
    let condition: String

    /// - Parameters:
    ///   - granules: Those of the blocks that are indexed in which something can be found.
    ///   - position: The last record of the store.
    /// - Returns: nil when all rows may as well be read.
    init?(granules: [UInt64], _ search: TextSearch, _ geometry: TextGeometry, position: SequenceNumber) {
        let end = UInt64(granules.count * 64) << geometry.granuleShift
        let first = max(1, search.first?.rawValue ?? 1)
        let last = min(position.rawValue, search.last?.rawValue ?? .max)
        guard first <= last else { return nil }
        // As many bits as a power of two, so that every sequence has one without a comparison.
        var bits = [Bool](repeating: false, count: 64)
        while UInt64(bits.count) <= max(position.rawValue, end) >> geometry.granuleShift { bits += bits }
        var (lowest, highest): (UInt64?, UInt64) = (nil, 0)
        var rows: UInt64 = 0
        for index in 0..<granules.count * 64 where granules[index / 64] & 1 << UInt64(index % 64) != 0 {
            let start = UInt64(index) << geometry.granuleShift
            let stop = start + (1 << geometry.granuleShift) - 1
            guard stop >= first, start <= last else { continue }
            bits[index] = true
            rows += 1 << geometry.granuleShift
            if lowest == nil { lowest = start }
            highest = stop
        }
        // What is not indexed yet is read.
        if last >= end {
            for index in granules.count * 64..<bits.count { bits[index] = true }
            rows += last - max(first, end) + 1
            if lowest == nil { lowest = end }
            highest = last
        }
        guard rows * UInt64(Self.shareMax) <= last - first + 1 else { return nil }
        guard let lowest else {
            self.condition = "false"
            return
        }
        var shift = geometry.granuleShift
        while bits.count > Self.bitsMax {
            bits = (0..<bits.count / 2).map { bits[$0 * 2] || bits[$0 * 2 + 1] }
            shift += 1
        }
        let text = String(decoding: bits.map { UInt8(ascii: $0 ? "1" : "0") }, as: UTF8.self)
        self.condition = """
            sequence BETWEEN \(max(first, lowest)) AND \(min(highest, last)) \
            AND get_bit('\(text)'::BIT, (sequence >> \(shift) & \(bits.count - 1))::INTEGER) = 1
            """
    }
}
