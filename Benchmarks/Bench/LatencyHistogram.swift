/// Counts of durations in buckets of whole microseconds, at most 3 % wide.
struct LatencyHistogram: Sendable {
    private static let halfBits = 5
    private static let half = 1 << Self.halfBits
    private static let bucketsMax = 1_024

    private var counts = [UInt64](repeating: 0, count: Self.bucketsMax)
    /// How many durations were recorded.
    private(set) var count: UInt64 = 0
    private(set) var maxMicroseconds: UInt64 = 0

    mutating func record(microseconds: UInt64) {
        self.counts[Self.bucket(microseconds)] += 1
        self.count += 1
        self.maxMicroseconds = max(self.maxMicroseconds, microseconds)
    }

    mutating func merge(_ other: Self) {
        for index in self.counts.indices { self.counts[index] += other.counts[index] }
        self.count += other.count
        self.maxMicroseconds = max(self.maxMicroseconds, other.maxMicroseconds)
    }

    /// The duration, in microseconds, that the share `quantile` (0–1) of the recorded ones does not exceed.
    func value(at quantile: Double) -> Double {
        guard self.count > 0 else { return 0 }
        let rank = max(1, UInt64((Double(self.count) * quantile).rounded(.up)))
        var seen: UInt64 = 0
        for (index, count) in self.counts.enumerated() {
            seen += count
            if seen >= rank { return min(Self.upperBound(index), Double(self.maxMicroseconds)) }
        }
        return Double(self.maxMicroseconds)
    }

    /// Values below 64 have a bucket each; from there on each power of two has 32 buckets.
    private static func bucket(_ value: UInt64) -> Int {
        guard value >= 2 * Self.half else { return Int(value) }
        let shift = (UInt64.bitWidth - 1 - value.leadingZeroBitCount) - Self.halfBits
        return min(shift * Self.half + Int(value >> UInt64(shift)), Self.bucketsMax - 1)
    }

    private static func upperBound(_ bucket: Int) -> Double {
        guard bucket >= 2 * Self.half else { return Double(bucket) }
        let shift = bucket / Self.half - 1
        return Double((UInt64(bucket - shift * Self.half + 1) << UInt64(shift)) - 1)
    }
}
