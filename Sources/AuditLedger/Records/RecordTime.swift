internal import Primitives

/// Reads times in the forms that records and most clients use, without the generality of RFC 3339.
enum RecordTime {
    /// The moment of `YYYY-MM-DDThh:mm:ss[.f…]Z` with up to nine fractional digits (cut to six).
    /// - Returns: nil for any other text, which may still be a time of RFC 3339.
    static func parse(_ bytes: [UInt8], _ range: Range<Int>) -> Timestamp? {
        bytes.withUnsafeBufferPointer { self.parse($0, range) }
    }

    /// The same for bytes that are lent.
    static func parse(_ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> Timestamp? {
        let start = range.lowerBound
        guard range.count >= 20, range.count <= 30,
            bytes[start + 4] == UInt8(ascii: "-"), bytes[start + 7] == UInt8(ascii: "-"),
            bytes[start + 10] == UInt8(ascii: "T"), bytes[start + 13] == UInt8(ascii: ":"),
            bytes[start + 16] == UInt8(ascii: ":"), bytes[range.upperBound - 1] == UInt8(ascii: "Z")
        else { return nil }
        let year = self.number(bytes, start, 4)
        let month = self.number(bytes, start + 5, 2)
        let day = self.number(bytes, start + 8, 2)
        let hour = self.number(bytes, start + 11, 2)
        let minute = self.number(bytes, start + 14, 2)
        let second = self.number(bytes, start + 17, 2)
        guard year >= 0, (1...12).contains(month), day >= 1, day <= self.daysIn(month: month, year: year),
            (0...23).contains(hour), (0...59).contains(minute), (0...59).contains(second),
            let fraction = self.fraction(bytes, start + 19..<range.upperBound - 1)
        else { return nil }
        let seconds = ((self.days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
        return Timestamp(microseconds: seconds * 1_000_000 + fraction)
    }

    /// The value of digits, or a negative number when one is none.
    private static func number(_ bytes: UnsafeBufferPointer<UInt8>, _ start: Int, _ count: Int) -> Int64 {
        var value = Int64(0)
        var place = start
        while place < start + count {
            let byte = bytes[place]
            guard byte >= 0x30, byte <= 0x39 else { return -1 }
            value = value * 10 + Int64(byte - 0x30)
            place += 1
        }
        return value
    }

    /// Microseconds of `.f…`, zero of nothing.
    private static func fraction(_ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> Int64? {
        guard !range.isEmpty else { return 0 }
        let digits = range.count - 1
        guard bytes[range.lowerBound] == UInt8(ascii: "."), (1...9).contains(digits) else { return nil }
        guard self.number(bytes, range.lowerBound + 1, digits) >= 0 else { return nil }
        var value = self.number(bytes, range.lowerBound + 1, min(digits, 6))
        var count = digits
        while count < 6 {
            value *= 10
            count += 1
        }
        return value
    }

    private static func daysIn(month: Int64, year: Int64) -> Int64 {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    /// Days since 1970-01-01 of a Gregorian date of the years 0 to 9999; years are counted from March.
    private static func days(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        // One era of 400 years is added, so that every part is positive.
        let shifted = (month <= 2 ? year - 1 : year) + 400
        let era = shifted / 400
        let yearOfEra = shifted % 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468 - 146_097
    }
}
