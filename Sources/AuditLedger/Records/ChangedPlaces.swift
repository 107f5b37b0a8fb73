internal import Primitives

/// Names the places at which `before` and `after` of an event differ, as a record's member `changed`.
struct ChangedPlaces {
    /// Keys on the way to a place that differs; objects within objects are looked into as deep.
    private typealias Path = InlineArray<8, Range<Int>>

    /// `,"changed":[…]`, or nothing.
    private(set) var text: [UInt8] = []
    private var count = 0
    private var path = Path(repeating: 0..<0)

    /// Compares two values in canonical text that ``QuickCanonicalizer`` wrote; nothing changes unless both are objects.
    /// - Returns: False when more differs than is named one by one.
    mutating func find(_ before: Range<Int>, _ after: Range<Int>, in bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        self.text.removeAll(keepingCapacity: true)
        self.count = 0
        guard !before.isEmpty, !after.isEmpty, bytes[before.lowerBound] == UInt8(ascii: "{"),
            bytes[after.lowerBound] == UInt8(ascii: "{")
        else { return true }
        guard self.compare(before, after, bytes, depth: 0) else { return false }
        if self.count > 0 { self.text.append(UInt8(ascii: "]")) }
        return true
    }

    private mutating func compare(
        _ before: Range<Int>,
        _ after: Range<Int>,
        _ bytes: UnsafeBufferPointer<UInt8>,
        depth: Int
    ) -> Bool {
        var (left, right) = (CanonicalMembers(bytes, of: before), CanonicalMembers(bytes, of: after))
        var (old, new) = (left.next(), right.next())
        while let key = old?.key ?? new?.key {
            var order = old == nil ? 1 : -1
            if let old, let new {
                order = JSONText.compareUTF16(
                    UnsafeBufferPointer(rebasing: bytes[old.key]),
                    UnsafeBufferPointer(rebasing: bytes[new.key])
                )
            }
            self.path[depth] = order > 0 ? new?.key ?? key : key
            if order == 0, let first = old, let second = new {
                if !bytes.isSame(first.value, second.value) {
                    let isNested =
                        depth + 1 < Path.count && bytes[first.value.lowerBound] == UInt8(ascii: "{")
                        && bytes[second.value.lowerBound] == UInt8(ascii: "{")
                    let isNamed =
                        isNested
                        ? self.compare(first.value, second.value, bytes, depth: depth + 1)
                        : self.append(depth, bytes)
                    guard isNamed else { return false }
                }
                (old, new) = (left.next(), right.next())
            } else {
                guard self.append(depth, bytes) else { return false }
                if order > 0 { new = right.next() } else { old = left.next() }
            }
        }
        return true
    }

    /// Writes a JSON Pointer; the keys have no escapes, so they need none between quotes.
    private mutating func append(_ depth: Int, _ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        guard self.count < EventLimits.changedMax, self.text.count < EventLimits.recordBytesMax else { return false }
        if self.count == 0 {
            self.text.append(contentsOf: EventNames.putChanged)
        } else {
            self.text.append(UInt8(ascii: ","))
        }
        self.count += 1
        self.text.append(JSONText.quote)
        for step in 0...depth {
            self.text.append(UInt8(ascii: "/"))
            for byte in bytes[self.path[step]] {
                switch byte {
                case UInt8(ascii: "~"): self.text.append(contentsOf: [byte, UInt8(ascii: "0")])
                case UInt8(ascii: "/"): self.text.append(contentsOf: [UInt8(ascii: "~"), UInt8(ascii: "1")])
                default: self.text.append(byte)
                }
            }
        }
        self.text.append(JSONText.quote)
        return true
    }
}

/// The members of an object in canonical text that ``QuickCanonicalizer`` wrote, so that it need not be checked again.
struct CanonicalMembers {
    private let bytes: UnsafeBufferPointer<UInt8>
    private let end: Int
    private var place: Int

    init(_ bytes: UnsafeBufferPointer<UInt8>, of object: Range<Int>) {
        self.bytes = bytes
        self.place = object.lowerBound
        self.end = object.upperBound
    }

    /// - Returns: The key without its quotes.
    mutating func next() -> (key: Range<Int>, value: Range<Int>)? {
        // A brace or a comma, then a quote or the closing brace.
        self.place += 1
        guard self.place + 1 < self.end, self.bytes[self.place] == JSONText.quote else { return nil }
        let keyStart = self.place + 1
        self.skipString()
        let key = keyStart..<self.place - 1
        self.place += 1
        let valueStart = self.place
        self.skipValue()
        return (key, valueStart..<self.place)
    }

    private mutating func skipString() {
        self.place += 1
        while self.place < self.end, self.bytes[self.place] != JSONText.quote {
            self.place += self.bytes[self.place] == JSONText.backslash ? 2 : 1
        }
        self.place += 1
    }

    private mutating func skipValue() {
        var depth = 0
        while self.place < self.end {
            switch self.bytes[self.place] {
            case JSONText.quote:
                self.skipString()
                if depth == 0 { return }
                continue
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                // The end of the object around a number or a literal.
                if depth == 0 { return }
                depth -= 1
                if depth == 0 {
                    self.place += 1
                    return
                }
            case UInt8(ascii: ","):
                if depth == 0 { return }
            default: break
            }
            self.place += 1
        }
    }
}
