internal import CDuckDB

// Reading the Arrow C data interface: what the engine exports becomes Swift values and copied buffers.

extension ArrowSchema {
    /// Reads a structure whose children are the columns.
    init(reading schema: CArrowSchema) throws {
        var fields: [ArrowField] = []
        for index in 0..<Int(unsafe schema.n_children) {
            guard let child = unsafe schema.children[index] else { continue }
            fields.append(try unsafe ArrowField(reading: child.pointee, depth: 0))
        }
        self.init(fields: fields)
    }
}

/// Flag of a nullable field in the C data interface.
private let nullableFlag: Int64 = 2

extension ArrowField {
    fileprivate init(reading schema: CArrowSchema, depth: Int) throws {
        guard depth <= ArrowLimits.depthMax else { throw ColumnarError(.unsupported, "types nested too deeply") }
        let name = unsafe schema.name.map { unsafe String(cString: $0) } ?? ""
        guard let formatPointer = unsafe schema.format else {
            throw ColumnarError(.internalFailure, "a column without a format")
        }
        // An enumeration arrives as indices into a dictionary of texts; the columns hold the texts.
        if unsafe schema.dictionary != nil {
            self.init(name, .utf8, nullable: unsafe schema.flags & nullableFlag != 0)
            return
        }
        let format = unsafe String(cString: formatPointer)
        var children: [ArrowField] = []
        for index in 0..<Int(unsafe schema.n_children) {
            guard let child = unsafe schema.children[index] else { continue }
            children.append(try unsafe ArrowField(reading: child.pointee, depth: depth + 1))
        }
        guard let type = ArrowType(format: format, children: children) else {
            throw ColumnarError(.unsupported, "column \(name) has a type that is not carried (Arrow format \(format))")
        }
        self.init(name, type, nullable: unsafe schema.flags & nullableFlag != 0)
    }
}

extension ArrowType {
    /// The type behind a format string of the C data interface; nil: not carried.
    init?(format: String, children: [ArrowField]) {
        let simple: [String: ArrowType] = [
            "n": .null, "b": .bool, "c": .int8, "C": .uint8, "s": .int16, "S": .uint16, "i": .int32, "I": .uint32,
            "l": .int64, "L": .uint64, "f": .float32, "g": .float64, "u": .utf8, "z": .binary, "tdD": .date32,
            "tts": .time32(.second), "ttm": .time32(.millisecond), "ttu": .time64(.microsecond),
            "ttn": .time64(.nanosecond), "tin": .intervalMonthDayNano,
        ]
        if let type = simple[format] {
            self = type
        } else if format == "+l", children.count == 1 {
            self = .list(children[0])
        } else if format == "+s" {
            self = .structure(children)
        } else if format == "+m", children.count == 1, children[0].type.children.count == 2 {
            self = .map(children[0], keysSorted: false)
        } else {
            let parts = format.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { return nil }
            let numbers = parts[1].split(separator: ",").map { Int($0) }
            switch parts[0] {
            case "d":
                guard numbers.count >= 2, let precision = numbers[0], let scale = numbers[1],
                    numbers.count == 2 || numbers[2] == 128
                else { return nil }
                self = .decimal128(precision: precision, scale: scale)
            case "w":
                guard let width = numbers.first.flatMap({ $0 }) else { return nil }
                self = .fixedSizeBinary(width)
            case "+w":
                guard let size = numbers.first.flatMap({ $0 }), children.count == 1 else { return nil }
                self = .fixedSizeList(children[0], size)
            case "tss", "tsm", "tsu", "tsn":
                let units: [Substring: ArrowTimeUnit] = [
                    "tss": .second, "tsm": .millisecond, "tsu": .microsecond, "tsn": .nanosecond,
                ]
                guard let unit = units[parts[0]] else { return nil }
                self = .timestamp(unit, timezone: parts[1].isEmpty ? nil : String(parts[1]))
            default: return nil
            }
        }
    }
}

extension ColumnAssembler {
    /// Appends rows of an array that the engine exported. The engine is trusted to honour the C data interface.
    func append(_ array: UnsafeMutablePointer<CArrowArray>, from start: Int, count: Int, depth: Int) throws {
        guard depth <= ArrowLimits.depthMax else { throw ColumnarError(.unsupported, "types nested too deeply") }
        let buffers = Int(unsafe array.pointee.n_buffers)
        func buffer(_ index: Int) -> UnsafeRawPointer? {
            index < buffers ? unsafe array.pointee.buffers[index] : nil
        }
        let offset = Int(unsafe array.pointee.offset)
        if let dictionary = unsafe array.pointee.dictionary {
            let width = try unsafe self.indexWidth(array: array, dictionary: dictionary)
            unsafe self.appendDictionary(
                dictionary,
                indices: buffer(1),
                indexWidth: width,
                validity: buffer(0),
                start: start + offset,
                count: count
            )
            return
        }
        var part = unsafe Part(start: start + offset, count: count)
        if self.type != .null, unsafe array.pointee.null_count != 0 { unsafe part.validity = unsafe buffer(0) }
        switch self.type.layout {
        case .null, .structure, .fixedList: break
        case .bits, .fixed, .list: unsafe part.values = unsafe buffer(1)
        case .variable:
            unsafe part.values = unsafe buffer(1)
            unsafe part.data = unsafe buffer(2)
        case .union: throw ColumnarError(.unsupported, "unions of the engine are not carried")
        }
        let range = self.append(part)
        let children = Int(unsafe array.pointee.n_children)
        guard children == self.type.children.count else {
            throw ColumnarError(.internalFailure, "the engine exported \(children) children for \(self.type)")
        }
        for index in 0..<children {
            guard let child = unsafe array.pointee.children[index] else { continue }
            try unsafe self.child(index).append(child, from: range.start, count: range.count, depth: depth + 1)
        }
    }

    /// Bytes of one index. The array does not say; the engine takes the smallest that the dictionary needs.
    private func indexWidth(
        array: UnsafeMutablePointer<CArrowArray>,
        dictionary: UnsafeMutablePointer<CArrowArray>
    ) throws -> Int {
        guard self.type == .utf8 else { throw ColumnarError(.unsupported, "a dictionary of other than texts") }
        let entries = unsafe dictionary.pointee.length
        return entries <= 0xFF ? 1 : entries <= 0xFFFF ? 2 : 4
    }

    private func appendDictionary(
        _ dictionary: UnsafeMutablePointer<CArrowArray>,
        indices: UnsafeRawPointer?,
        indexWidth: Int,
        validity: UnsafeRawPointer?,
        start: Int,
        count: Int
    ) {
        guard let offsets = unsafe dictionary.pointee.buffers[1], let indices = unsafe indices else { return }
        let data = unsafe dictionary.pointee.buffers[2]
        var lengths: [Int32] = [0]
        let bytes = ArrowMemoryBuilder()
        let entries = Int(unsafe dictionary.pointee.length)
        for row in start..<start + count {
            let present = unsafe validity.map {
                unsafe $0.load(fromByteOffset: row >> 3, as: UInt8.self) & (1 << UInt8(row & 7)) != 0
            }
            if present ?? true, let data = unsafe data {
                let index: Int
                switch indexWidth {
                case 1: index = unsafe Int(indices.loadUnaligned(fromByteOffset: row, as: UInt8.self))
                case 2: index = unsafe Int(indices.loadUnaligned(fromByteOffset: row * 2, as: UInt16.self))
                default: index = unsafe Int(indices.loadUnaligned(fromByteOffset: row * 4, as: UInt32.self))
                }
                if index < entries {
                    let from = unsafe Int(offsets.loadUnaligned(fromByteOffset: index * 4, as: Int32.self))
                    let to = unsafe Int(offsets.loadUnaligned(fromByteOffset: index * 4 + 4, as: Int32.self))
                    unsafe bytes.append(UnsafeRawBufferPointer(start: data + from, count: to - from))
                }
            }
            lengths.append(Int32(bytes.count))
        }
        let validityBits = ArrowMemoryBuilder()
        unsafe validityBits.appendBits(validity, from: start, count: count, at: 0)
        let text = bytes.finish()
        let validityBuffer = validityBits.finish()
        unsafe lengths.withUnsafeBytes { lengths in
            _ = unsafe self.append(
                Part(
                    start: 0,
                    count: count,
                    validity: validity == nil ? nil : validityBuffer.address,
                    values: lengths.baseAddress,
                    data: text.address
                )
            )
        }
        withExtendedLifetime((text, validityBuffer)) {}
    }
}
