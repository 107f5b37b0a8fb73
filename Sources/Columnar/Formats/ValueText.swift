// Values as text: the one place that knows how dates, decimals and the like are spelt.

extension ArrowColumn {
    /// Appends the value at `row`, which is not null, as plain text (no quotes around it).
    func appendPlain(_ row: Int, to bytes: inout [UInt8]) {
        switch self.type {
        case .utf8:
            let (start, count) = self.extent(row)
            unsafe self.data.withBytes { unsafe bytes.append(contentsOf: $0[start..<start + count]) }
        case .binary, .fixedSizeBinary:
            if case .bytes(let value) = self.value(row) { appendBase64(value, to: &bytes) }
        case .list, .fixedSizeList, .structure, .map:
            self.appendJSON(row, isJSON: false, to: &bytes)
        default: bytes.append(contentsOf: self.scalarText(row).utf8)
        }
    }

    /// Appends the value at `row` as JSON.
    /// - Parameter isJSON: The column holds JSON text, which is embedded as it is.
    package func appendJSON(_ row: Int, isJSON: Bool, to bytes: inout [UInt8]) {
        guard !self.isNull(row) else {
            bytes.append(contentsOf: "null".utf8)
            return
        }
        switch self.type {
        case .null: bytes.append(contentsOf: "null".utf8)
        case .bool, .int8, .int16, .int32, .int64, .uint8, .uint16, .uint32, .uint64, .decimal128:
            bytes.append(contentsOf: self.scalarText(row).utf8)
        case .float32, .float64:
            let finite: Bool =
                self.type == .float32
                ? self.values.load(row, as: Float.self).isFinite : self.values.load(row, as: Double.self).isFinite
            // JSON has no word for infinity and not-a-number.
            bytes.append(contentsOf: (finite ? self.scalarText(row) : "null").utf8)
        case .utf8:
            let (start, count) = self.extent(row)
            unsafe self.data.withBytes {
                let text = unsafe UnsafeRawBufferPointer(rebasing: $0[start..<start + count])
                if isJSON {
                    // Control characters stand only between tokens of JSON text; a line break would end an NDJSON line.
                    for index in text.indices { bytes.append(unsafe max(text[index], 0x20)) }
                } else {
                    unsafe appendJSONString(text, to: &bytes)
                }
            }
        case .list, .fixedSizeList, .structure, .map: self.appendNestedJSON(row, to: &bytes)
        default:
            bytes.append(UInt8(ascii: "\""))
            self.appendPlain(row, to: &bytes)
            bytes.append(UInt8(ascii: "\""))
        }
    }

    private func appendNestedJSON(_ row: Int, to bytes: inout [UInt8]) {
        switch self.type {
        case .list, .fixedSizeList:
            var range = (start: 0, count: 0)
            if case .fixedSizeList(_, let size) = self.type {
                range = (row * size, size)
            } else {
                range = self.extent(row)
            }
            bytes.append(UInt8(ascii: "["))
            for index in range.start..<range.start + range.count {
                if index > range.start { bytes.append(UInt8(ascii: ",")) }
                self.children[0].appendJSON(index, isJSON: false, to: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .structure(let fields):
            bytes.append(UInt8(ascii: "{"))
            for (index, field) in fields.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                appendJSONString(field.name, to: &bytes)
                bytes.append(UInt8(ascii: ":"))
                self.children[index].appendJSON(row, isJSON: field.isJSON, to: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        case .map: self.appendMapJSON(row, to: &bytes)
        default: break
        }
    }

    /// An object when the keys are texts, otherwise a list of pairs.
    private func appendMapJSON(_ row: Int, to bytes: inout [UInt8]) {
        let (start, count) = self.extent(row)
        let entries = self.children[0].children
        guard entries.count == 2 else { return }
        let isObject = entries[0].type == .utf8
        bytes.append(UInt8(ascii: isObject ? "{" : "["))
        for index in start..<start + count {
            if index > start { bytes.append(UInt8(ascii: ",")) }
            if !isObject { bytes.append(UInt8(ascii: "[")) }
            entries[0].appendJSON(index, isJSON: false, to: &bytes)
            bytes.append(UInt8(ascii: isObject ? ":" : ","))
            entries[1].appendJSON(index, isJSON: false, to: &bytes)
            if !isObject { bytes.append(UInt8(ascii: "]")) }
        }
        bytes.append(UInt8(ascii: isObject ? "}" : "]"))
    }

    private func scalarText(_ row: Int) -> String {
        switch self.type {
        case .float32: return self.values.load(row, as: Float.self).description
        case .float64: return self.values.load(row, as: Double.self).description
        default: break
        }
        switch self.value(row) {
        case .bool(let bit): return bit ? "true" : "false"
        case .int(let number): return String(number)
        case .uint(let number): return String(number)
        case .decimal(let unscaled, let scale): return decimalText(unscaled, scale: scale)
        case .date(let days): return dateText(days)
        case .time(let time, let unit): return timeText(time, unit)
        case .timestamp(let time, let unit, _): return timestampText(time, unit)
        case .interval(let months, let days, let nanoseconds):
            return intervalText(months: months, days: days, nanoseconds: nanoseconds)
        default: return ""
        }
    }
}

/// Appends a quoted, escaped text.
func appendJSONString(_ text: UnsafeRawBufferPointer, to bytes: inout [UInt8]) {
    bytes.append(UInt8(ascii: "\""))
    var start = 0
    for index in text.indices {
        let byte = unsafe text[index]
        guard byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else { continue }
        unsafe bytes.append(contentsOf: text[start..<index])
        start = index + 1
        bytes.append(UInt8(ascii: "\\"))
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes.append(byte)
        case 0x0A: bytes.append(UInt8(ascii: "n"))
        case 0x0D: bytes.append(UInt8(ascii: "r"))
        case 0x09: bytes.append(UInt8(ascii: "t"))
        default:
            let digits = Array("0123456789abcdef".utf8)
            bytes.append(contentsOf: "u00".utf8)
            bytes.append(digits[Int(byte >> 4)])
            bytes.append(digits[Int(byte & 15)])
        }
    }
    unsafe bytes.append(contentsOf: text[start...])
    bytes.append(UInt8(ascii: "\""))
}

func appendJSONString(_ text: String, to bytes: inout [UInt8]) {
    let utf8 = Array(text.utf8)
    unsafe utf8.withUnsafeBytes { unsafe appendJSONString($0, to: &bytes) }
}

func appendBase64(_ value: [UInt8], to bytes: inout [UInt8]) {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    for start in stride(from: 0, to: value.count, by: 3) {
        let part = value[start..<min(start + 3, value.count)]
        var word = 0
        for index in 0..<3 { word = word << 8 | (index < part.count ? Int(part[start + index]) : 0) }
        for index in 0..<4 {
            let isPadding = index > part.count
            bytes.append(isPadding ? UInt8(ascii: "=") : alphabet[word >> (18 - 6 * index) & 63])
        }
    }
}

/// All digits, none invented: `12345` with scale 2 is `123.45`.
func decimalText(_ unscaled: Int128, scale: Int) -> String {
    guard scale > 0 else { return String(unscaled) }
    var digits = String(unscaled.magnitude)
    if digits.count <= scale { digits = String(repeating: "0", count: scale + 1 - digits.count) + digits }
    let point = digits.index(digits.endIndex, offsetBy: -scale)
    return (unscaled < 0 ? "-" : "") + digits[..<point] + "." + digits[point...]
}

private func padded(_ number: Int64, _ width: Int) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, width - text.count)) + text
}

/// `YYYY-MM-DD` of the proleptic Gregorian calendar.
/// - Source: H. Hinnant, «chrono-Compatible Low-Level Date Algorithms», civil_from_days
func civilText(days: Int64) -> String {
    let shifted = days + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthIndex = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * monthIndex + 2) / 5 + 1
    let month = monthIndex < 10 ? monthIndex + 3 : monthIndex - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    let yearText = year < 0 ? "-" + padded(-year, 6) : year > 9_999 ? "+" + padded(year, 6) : padded(year, 4)
    return "\(yearText)-\(padded(month, 2))-\(padded(day, 2))"
}

/// A date; the engine's infinite dates are words.
func dateText(_ days: Int32) -> String {
    if days == Int32.max { return "infinity" }
    if days == -Int32.max { return "-infinity" }
    return civilText(days: Int64(days))
}

/// `HH:MM:SS`, with a fraction when there is one.
func timeText(_ time: Int64, _ unit: ArrowTimeUnit) -> String {
    let seconds = time / unit.perSecond
    let clock = "\(padded(seconds / 3_600, 2)):\(padded(seconds / 60 % 60, 2)):\(padded(seconds % 60, 2))"
    let fraction = time % unit.perSecond
    guard fraction > 0 else { return clock }
    return clock + "." + padded(fraction, unit.rawValue * 3)
}

/// RFC 3339 in UTC, with a fraction when there is one; the engine's infinite times are words.
func timestampText(_ time: Int64, _ unit: ArrowTimeUnit) -> String {
    if time == Int64.max { return "infinity" }
    if time == -Int64.max { return "-infinity" }
    let perDay = unit.perSecond * 86_400
    var days = time / perDay
    var rest = time % perDay
    if rest < 0 {
        days -= 1
        rest += perDay
    }
    return civilText(days: days) + "T" + timeText(rest, unit) + "Z"
}

/// ISO 8601 duration.
func intervalText(months: Int32, days: Int32, nanoseconds: Int64) -> String {
    var text = "P"
    if months != 0 { text += "\(months)M" }
    if days != 0 { text += "\(days)D" }
    if nanoseconds != 0 {
        let magnitude = nanoseconds.magnitude
        var seconds = String(magnitude / 1_000_000_000)
        let fraction = Int64(magnitude % 1_000_000_000)
        if fraction > 0 {
            var digits = padded(fraction, 9)
            while digits.hasSuffix("0") { digits.removeLast() }
            seconds += "." + digits
        }
        text += "T" + (nanoseconds < 0 ? "-" : "") + seconds + "S"
    }
    return text == "P" ? "PT0S" : text
}
