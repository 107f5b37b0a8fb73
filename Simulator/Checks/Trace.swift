internal import Primitives

/// What happened, as a hash that two runs of a seed must share, and as text for whoever looks into a failure.
struct Trace {
    /// The kinds of events; their numbers go into the hash.
    enum Kind: String, CaseIterable {
        case start, crash, stop, pause, resume, send, lose, deliver, write, apply, install, role, membership, fault
        case propose, answer, read, request, heal, violation, sleep, compact

        fileprivate var number: UInt64 { UInt64(Kind.allCases.firstIndex(of: self) ?? 0) }
    }

    /// FNV-1a over the words of all events.
    private(set) var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    private(set) var count = 0
    /// Whether lines are printed.
    let isPrinting: Bool
    private let numbers: [Kind: UInt64]

    init(isPrinting: Bool) {
        self.isPrinting = isPrinting
        self.numbers = Dictionary(uniqueKeysWithValues: Kind.allCases.map { ($0, $0.number) })
    }

    private mutating func mix(_ word: UInt64) {
        self.hash = (self.hash ^ word) &* 0x0000_0100_0000_01B3
        self.hash ^= self.hash >> 29
    }

    /// Notes an event; `words` are hashed, `text` is made only when lines are printed.
    mutating func note(
        _ kind: Kind,
        at time: VirtualTime,
        node: NodeID?,
        _ first: UInt64 = 0,
        _ second: UInt64 = 0,
        _ text: @autoclosure () -> String
    ) {
        self.count += 1
        self.mix(self.numbers[kind] ?? 0)
        self.mix(UInt64(bitPattern: time))
        self.mix(node?.rawValue ?? 0)
        self.mix(first)
        self.mix(second)
        guard self.isPrinting else { return }
        let place = node.map { "n\($0)" } ?? "--"
        let millis = String(Double(time) / 1_000)
        print("\(pad(millis, to: 10)) \(pad(place, to: 4)) \(pad(kind.rawValue, to: 10)) \(text())")
    }
}

/// Adds blanks at the end until the text has `width` characters.
func pad(_ text: String, to width: Int) -> String {
    text.count >= width ? text : text + String(repeating: " ", count: width - text.count)
}
