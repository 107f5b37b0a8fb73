/// A moment in UTC as microseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// Its text is RFC 3339 with six fractional digits and `Z`: `2026-01-31T08:05:00.000123Z`. Years 0000 to 9999.
package struct Timestamp: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Microseconds since the epoch; negative before it.
    package var rawValue: Int64

    package init(rawValue: Int64) { self.rawValue = rawValue }
    package init(microseconds: Int64) { self.rawValue = microseconds }

    /// The text of every timestamp has this many bytes.
    package static let textByteCount = 27

    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

    package var description: String {
        var text: [UInt8] = []
        text.reserveCapacity(Self.textByteCount)
        self.appendText(to: &text)
        return String(decoding: text, as: UTF8.self)
    }

    /// Appends the RFC 3339 text, 27 bytes, to `bytes`.
    package func appendText(to bytes: inout [UInt8]) {
        let second = Int64(1_000_000)
        let day = 86_400 * second
        let dayNumber = Self.floorDivide(self.rawValue, day)
        let inDay = self.rawValue - dayNumber * day
        let date = Self.civil(fromDays: dayNumber)
        let seconds = inDay / second
        Self.append(date.year, digits: 4, to: &bytes)
        bytes.append(UInt8(ascii: "-"))
        Self.append(date.month, digits: 2, to: &bytes)
        bytes.append(UInt8(ascii: "-"))
        Self.append(date.day, digits: 2, to: &bytes)
        bytes.append(UInt8(ascii: "T"))
        Self.append(seconds / 3600, digits: 2, to: &bytes)
        bytes.append(UInt8(ascii: ":"))
        Self.append(seconds / 60 % 60, digits: 2, to: &bytes)
        bytes.append(UInt8(ascii: ":"))
        Self.append(seconds % 60, digits: 2, to: &bytes)
        bytes.append(UInt8(ascii: "."))
        Self.append(inDay % second, digits: 6, to: &bytes)
        bytes.append(UInt8(ascii: "Z"))
    }

    /// Reads an RFC 3339 date and time with any zone offset and up to nine fractional digits (cut to six).
    ///
    /// A leap second (`:60`) reads as the last microsecond-exact second before it plus one.
    /// - Returns: nil for any other text, impossible dates included.
    package init?(_ text: some Collection<UInt8>) {
        var reader = Reader(bytes: Array(text))
        guard
            let year = reader.number(4), reader.take("-"),
            let month = reader.number(2), reader.take("-"), (1...12).contains(month),
            let day = reader.number(2), day >= 1, day <= Self.daysIn(month: month, year: year),
            reader.take("T") || reader.take("t") || reader.take(" "),
            let hour = reader.number(2), hour <= 23, reader.take(":"),
            let minute = reader.number(2), minute <= 59, reader.take(":"),
            let second = reader.number(2), second <= 60,
            let fraction = reader.fraction(),
            let offsetMinutes = reader.offset(),
            reader.isAtEnd
        else { return nil }
        let days = Self.days(fromYear: year, month: month, day: day)
        let seconds = ((days * 24 + hour) * 60 + minute - offsetMinutes) * 60 + second
        let value = seconds * 1_000_000 + fraction
        let shown = Self.civil(fromDays: Self.floorDivide(value, 86_400_000_000))
        guard (0...9999).contains(shown.year) else { return nil }
        self.rawValue = value
    }

    package init?(_ text: String) { self.init(text.utf8) }

    private static func append(_ value: Int64, digits: Int, to bytes: inout [UInt8]) {
        var divisor = Int64(1)
        for _ in 1..<digits { divisor *= 10 }
        while divisor > 0 {
            bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value / divisor % 10))
            divisor /= 10
        }
    }

    private static func floorDivide(_ value: Int64, _ divisor: Int64) -> Int64 {
        let quotient = value / divisor
        return value % divisor < 0 ? quotient - 1 : quotient
    }

    private static func isLeap(_ year: Int64) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }

    private static func daysIn(month: Int64, year: Int64) -> Int64 {
        switch month {
        case 2: self.isLeap(year) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    /// Days since the epoch of a proleptic Gregorian date: whole 400-year eras, years begin in March.
    private static func days(fromYear year: Int64, month: Int64, day: Int64) -> Int64 {
        let shifted = month <= 2 ? year - 1 : year
        let era = self.floorDivide(shifted, 400)
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146_097 + dayOfEra - 719_468
    }

    private static func civil(fromDays days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468
        let era = self.floorDivide(shifted, 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
    }

    private struct Reader {
        var bytes: [UInt8]
        var next = 0

        var isAtEnd: Bool { self.next == self.bytes.count }

        mutating func take(_ character: Unicode.Scalar) -> Bool {
            guard self.next < self.bytes.count, self.bytes[self.next] == UInt8(ascii: character) else { return false }
            self.next += 1
            return true
        }

        mutating func number(_ digits: Int) -> Int64? {
            guard self.next + digits <= self.bytes.count else { return nil }
            var value = Int64(0)
            for offset in 0..<digits {
                let byte = self.bytes[self.next + offset]
                guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
                value = value * 10 + Int64(byte - UInt8(ascii: "0"))
            }
            self.next += digits
            return value
        }

        /// Microseconds after the full second; zero when there is no fraction.
        mutating func fraction() -> Int64? {
            guard self.take(".") else { return 0 }
            var value = Int64(0)
            var count = 0
            while let digit = self.number(1) {
                if count < 6 { value = value * 10 + digit }
                count += 1
            }
            guard (1...9).contains(count) else { return nil }
            while count < 6 {
                value *= 10
                count += 1
            }
            return value
        }

        /// Minutes east of UTC.
        mutating func offset() -> Int64? {
            if self.take("Z") || self.take("z") { return 0 }
            let sign: Int64
            if self.take("+") {
                sign = 1
            } else if self.take("-") {
                sign = -1
            } else {
                return nil
            }
            guard let hours = self.number(2), hours <= 23, self.take(":"), let minutes = self.number(2), minutes <= 59
            else { return nil }
            return sign * (hours * 60 + minutes)
        }
    }
}
