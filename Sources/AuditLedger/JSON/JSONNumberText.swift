/// The text of numbers: the JSON grammar, and what ECMAScript writes (RFC 8785 section 3.2.2.3).
enum JSONNumberText {
    /// The greatest integer whose neighbours a double still tells apart: 2^53−1.
    static let integerMax: UInt64 = 9_007_199_254_740_991

    /// What the grammar says about a number.
    struct Shape {
        var end: Int
        /// Neither fraction nor exponent.
        var isInteger: Bool
        var isNegative: Bool
        /// The integer's absolute value, or nil when it has more than 18 digits.
        var magnitude: UInt64?
    }

    /// Reads a number by the grammar of RFC 8259.
    /// - Returns: nil when there is none at `start`.
    static func shape(_ bytes: [UInt8], from start: Int, end: Int) -> Shape? {
        var next = start
        let isNegative = next < end && bytes[next] == UInt8(ascii: "-")
        if isNegative { next += 1 }
        let digitsStart = next
        var magnitude = UInt64(0)
        while next < end, self.isDigit(bytes[next]) {
            if next - digitsStart < 18 { magnitude = magnitude * 10 + UInt64(bytes[next] - 0x30) }
            next += 1
        }
        let digits = next - digitsStart
        guard digits > 0, digits == 1 || bytes[digitsStart] != 0x30 else { return nil }
        var isInteger = true
        if next < end, bytes[next] == UInt8(ascii: ".") {
            isInteger = false
            next += 1
            let fractionStart = next
            while next < end, self.isDigit(bytes[next]) { next += 1 }
            guard next > fractionStart else { return nil }
        }
        if next < end, bytes[next] | 0x20 == UInt8(ascii: "e") {
            isInteger = false
            next += 1
            if next < end, bytes[next] == UInt8(ascii: "+") || bytes[next] == UInt8(ascii: "-") { next += 1 }
            let exponentStart = next
            while next < end, self.isDigit(bytes[next]) { next += 1 }
            guard next > exponentStart else { return nil }
        }
        return Shape(
            end: next,
            isInteger: isInteger,
            isNegative: isNegative,
            magnitude: digits <= 18 ? magnitude : nil
        )
    }

    static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }

    /// Why a number of this shape is not exact by the ledger's rule, or nil when it is.
    static func inexactness(_ bytes: [UInt8], _ start: Int, _ shape: Shape) -> String? {
        if shape.isInteger {
            guard let magnitude = shape.magnitude, magnitude <= self.integerMax else {
                return "the integer is outside ±(2^53−1); give it as a string"
            }
            guard magnitude != 0 || !shape.isNegative else { return "negative zero is written 0" }
            return nil
        }
        let given = bytes[start..<shape.end]
        guard let value = self.double(given) else { return "the number is beyond the range of a double" }
        let canonical = self.ecmaScript(value)
        guard given.elementsEqual(canonical) else {
            return "the number is not in its shortest exact form (RFC 8785); write it so, or as a string"
        }
        return nil
    }

    /// The nearest finite double of a text in JSON's grammar.
    static func double(_ text: ArraySlice<UInt8>) -> Double? {
        guard let value = Double(String(decoding: text, as: UTF8.self)), value.isFinite else { return nil }
        return value
    }

    /// ECMAScript's `Number::toString` for a finite double (ECMA-262 section 6.1.6.1.20).
    static func ecmaScript(_ value: Double) -> [UInt8] {
        guard value != 0 else { return [0x30] }
        var digits: [UInt8] = []
        var exponent = 0
        // The standard library gives the shortest digits that read back as the same double, nearest first; only the
        // layout differs.
        var point: Int?
        var text = Array(value.magnitude.description.utf8)[...]
        if let mark = text.firstIndex(of: UInt8(ascii: "e")) {
            exponent = Int(String(decoding: text[(mark + 1)...], as: UTF8.self)) ?? 0
            text = text[..<mark]
        }
        for byte in text {
            if byte == UInt8(ascii: ".") { point = digits.count } else { digits.append(byte) }
        }
        // The value is 0.d1d2d3… × 10^pointPosition.
        var pointPosition = (point ?? digits.count) + exponent
        while digits.count > 1, digits.first == 0x30 {
            digits.removeFirst()
            pointPosition -= 1
        }
        while digits.count > 1, digits.last == 0x30 { digits.removeLast() }
        return self.layOut(digits, pointPosition: pointPosition, isNegative: value < 0)
    }

    private static func layOut(_ digits: [UInt8], pointPosition: Int, isNegative: Bool) -> [UInt8] {
        var output: [UInt8] = isNegative ? [UInt8(ascii: "-")] : []
        let count = digits.count
        switch pointPosition {
        case count...21 where count <= 21:
            output += digits
            output += [UInt8](repeating: 0x30, count: pointPosition - count)
        case 1...21:
            output += digits[..<pointPosition]
            output.append(UInt8(ascii: "."))
            output += digits[pointPosition...]
        case -5...0:
            output += [0x30, UInt8(ascii: ".")]
            output += [UInt8](repeating: 0x30, count: -pointPosition)
            output += digits
        default:
            output.append(digits[0])
            if count > 1 {
                output.append(UInt8(ascii: "."))
                output += digits[1...]
            }
            output.append(UInt8(ascii: "e"))
            output.append(UInt8(ascii: pointPosition > 0 ? "+" : "-"))
            output += Array(String(abs(pointPosition - 1)).utf8)
        }
        return output
    }
}
