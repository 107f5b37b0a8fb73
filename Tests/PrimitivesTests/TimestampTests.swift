import Foundation
import Primitives
import Testing

@Suite struct TimestampTests {
    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (1_769_846_700_000_123, "2026-01-31T08:05:00.000123Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (-2_203_891_200_000_000, "1900-03-01T00:00:00.000000Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
        ] as [(Int64, String)]
    )
    func textAndValueAgree(_ value: Int64, _ text: String) {
        #expect(Timestamp(microseconds: value).description == text)
        #expect(Timestamp(text)?.rawValue == value)
        #expect(text.utf8.count == Timestamp.textByteCount)
    }

    /// Dates are counted here day by day, not by the formula under test.
    @Test func everyDayFrom1900To2110HasItsText() {
        var day = Int64(-25_567)
        for year in 1900...2110 {
            let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
            for (month, days) in [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].enumerated() {
                for number in 1...days {
                    let text = Timestamp(microseconds: day * 86_400_000_000).description
                    let wanted = [(year, 4), (month + 1, 2), (number, 2)].map { value, digits in
                        String(repeating: "0", count: digits - String(value).count) + String(value)
                    }
                    .joined(separator: "-")
                    if text.prefix(10) != wanted { Issue.record("\(text) is not \(wanted)") }
                    day += 1
                }
            }
        }
    }

    @Test(arguments: UInt64(1)...10) func everyValueComesBackFromItsText(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let range = Int64(-2_208_988_800_000_000)...253_402_300_799_999_999
        for _ in 0..<1000 {
            let stamp = Timestamp(microseconds: Int64.random(in: range, using: &generator))
            let text = stamp.description
            #expect(Timestamp(text) == stamp, "seed \(seed): \(text)")
            let other = Timestamp(microseconds: Int64.random(in: range, using: &generator))
            #expect((stamp < other) == (text < other.description), "seed \(seed): \(text) \(other)")
        }
    }

    @Test(arguments: [
        ("2026-01-31T10:05:00+02:00", "2026-01-31T08:05:00.000000Z"),
        ("2026-01-31T00:30:00-05:30", "2026-01-31T06:00:00.000000Z"),
        ("2026-01-01T00:00:00+00:01", "2025-12-31T23:59:00.000000Z"),
        ("2026-01-31t08:05:00z", "2026-01-31T08:05:00.000000Z"),
        ("2026-01-31 08:05:00.5Z", "2026-01-31T08:05:00.500000Z"),
        ("2026-01-31T08:05:00.123456789Z", "2026-01-31T08:05:00.123456Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000Z"),
        ("2010-03-31T16:59:42+01:00", "2010-03-31T15:59:42.000000Z"),
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"),
    ]) func readsOtherFormsOfRFC3339(_ text: String, _ wanted: String) {
        #expect(Timestamp(text)?.description == wanted)
    }

    @Test(arguments: [
        "", "2026", "2026-01-31", "2026-01-31T08:05Z", "2026-01-31T08:05:00", "2026-01-31T08:05:00+0200",
        "2026-02-29T00:00:00Z", "2024-02-30T00:00:00Z", "1900-02-29T00:00:00Z", "2026-04-31T00:00:00Z",
        "2026-00-01T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z",
        "2026-01-31T24:00:00Z", "2026-01-31T08:60:00Z", "2026-01-31T08:05:61Z", "2026-01-31T08:05:00.Z",
        "2026-01-31T08:05:00.1234567890Z", "2026-01-31T08:05:00+24:00", "2026-01-31T08:05:00+02:60",
        "2026-01-31T08:05:00Z ", " 2026-01-31T08:05:00Z", "26-01-31T08:05:00Z", "2026-1-31T08:05:00Z",
        "2026-01-31T08:05:00ZZ", "+026-01-31T08:05:00Z", "2026-01-31T08:05:00\u{660}Z", "2026/01/31T08:05:00Z",
        "9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00+00:01",
    ]) func rejects(_ text: String) {
        #expect(Timestamp(text) == nil)
    }

    @Test(arguments: UInt64(1)...5) func neverTrapsOnNoise(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let whole = Array("2026-01-31T08:05:00.000123+02:00".utf8)
        for _ in 0..<2000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            bytes.removeLast(Int.random(in: 0...bytes.count, using: &generator))
            if let stamp = Timestamp(bytes) { #expect(Timestamp(stamp.description) == stamp, "seed \(seed)") }
        }
    }
}
