internal import AuditLedger
internal import Primitives

/// The kinds of values that columns are made for.
enum ValueKind: String, Sendable, Hashable, CaseIterable {
    case boolean
    /// JSON has one kind of number, and its canonical form writes 1.0 as 1.
    case number
    /// A text that is a moment: `YYYY-MM-DDThh:mm:ss`, perhaps a fraction, then `Z` or an offset from UTC.
    case timestamp
    case text
    /// Arrays, and objects below the depth to which members have columns.
    case json

    /// The kind of a value; nil for null.
    init?(of value: JSONValue) {
        switch value {
        case .null: return nil
        case .bool: self = .boolean
        case .number: self = .number
        case .string(let bytes): self = Self.isTimestamp(bytes) ? .timestamp : .text
        case .array, .object: self = .json
        }
    }

    /// Whether the text is of the form that the timestamp columns of ``TypeView`` show, and a time.
    static func isTimestamp(_ bytes: [UInt8]) -> Bool {
        guard (20...35).contains(bytes.count), bytes[4] == UInt8(ascii: "-"), bytes[10] == UInt8(ascii: "T"),
            // A leap second is a time, but none that the engine knows.
            bytes[17] != UInt8(ascii: "6"), !bytes.starts(with: [0x30, 0x30, 0x30, 0x30])
        else { return false }
        let hasOffset = [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(bytes[bytes.count - 6])
        return (bytes.last == UInt8(ascii: "Z") || hasOffset) && Timestamp(bytes) != nil
    }
}

/// A column of a view: the values of one kind at one place of the states.
struct TypeColumn: Sendable, Hashable {
    let name: String
    let kind: ValueKind
    /// JSON Pointer (RFC 6901) to the place, as bytes, because `String` takes canonically equivalent texts as equal.
    let pointer: [UInt8]
    /// The record that brought it.
    let sequence: SequenceNumber
}

/// A type of entities, and the view that shows its entities.
struct EntityType: Sendable, Hashable {
    let type: [UInt8]
    /// The name of its view.
    let view: String
    /// The first record of such an entity.
    let sequence: SequenceNumber
    var columns: [TypeColumn] = []
}

/// The types of entities of an organization and the columns of their views, found from its records in their order. Pure.
///
/// What was found never changes and never goes: columns are only added. The result depends on the records alone, not on how
/// many are given at once, so that all replicas find the same.
struct TypeCatalog: Sendable {
    /// Most views; entities of further types are in `entities` only.
    static let typesMax = 200
    /// Most columns that are found for one view; what is beyond is in `state` only.
    static let columnsMax = 200
    /// Members of objects have columns of their own to this depth.
    static let depthMax = 3
    /// The longest JSON Pointer of a column, in bytes.
    static let pointerBytesMax = 400

    /// What was added.
    enum Finding: Sendable, Hashable {
        case type(EntityType)
        case column(TypeColumn, of: [UInt8])
    }

    /// In the order in which they appeared.
    private(set) var types: [EntityType] = []
    /// Types and columns in all.
    private(set) var count = 0
    private var places: [[UInt8]: Int] = [:]
    private var viewNames: Set<String>
    private var columnNames: [Set<String>] = []
    /// Kinds at each place of each type, by pointer.
    private var kinds: [[[UInt8]: Set<ValueKind>]] = []
    private let fixedColumns: Set<String>

    /// - Parameters:
    ///   - tables: Names that no view may have.
    ///   - columns: Names of the columns that every view begins with.
    init(tables: Set<String>, columns: Set<String>) {
        self.viewNames = tables
        self.fixedColumns = columns
    }

    /// The type behind a view.
    func type(ofView name: String) -> EntityType? { self.types.first { $0.view == name } }

    /// Looks at a record that changed its entity.
    /// - Returns: What it brought that was not there.
    mutating func observe(_ change: EntityChange) -> [Finding] {
        var findings: [Finding] = []
        if self.places[change.name.type] == nil {
            guard let type = self.makeType(change) else { return [] }
            self.add(type)
            findings.append(.type(type))
        }
        guard let place = self.places[change.name.type], case .object(let members) = change.after else {
            return findings
        }
        var found: [(pointer: [UInt8], kind: ValueKind)] = []
        self.walk(members, of: place, at: [], depth: 1, &found)
        for (pointer, kind) in found where self.types[place].columns.count < Self.columnsMax {
            let column = TypeColumn(
                name: self.columnName(pointer, kind, of: place),
                kind: kind,
                pointer: pointer,
                sequence: change.sequence
            )
            self.add(column, to: place)
            findings.append(.column(column, of: change.name.type))
        }
        return findings
    }

    /// Takes what was found earlier, in the order in which it was.
    mutating func restore(_ finding: Finding) {
        switch finding {
        case .type(let type): self.add(type)
        case .column(let column, let type):
            if let place = self.places[type] { self.add(column, to: place) }
        }
    }

    private mutating func add(_ type: EntityType) {
        self.places[type.type] = self.types.count
        self.types.append(type)
        self.viewNames.insert(type.view)
        self.columnNames.append(self.fixedColumns)
        self.kinds.append([:])
        self.count += 1
    }

    private mutating func add(_ column: TypeColumn, to place: Int) {
        self.types[place].columns.append(column)
        self.columnNames[place].insert(column.name)
        self.kinds[place][column.pointer, default: []].insert(column.kind)
        self.count += 1
    }

    private func makeType(_ change: EntityChange) -> EntityType? {
        guard self.types.count < Self.typesMax, Self.isPrintable(change.name.type) else { return nil }
        let name = SQLName.free(SQLName.make(change.name.type, word: "type"), among: self.viewNames)
        return EntityType(type: change.name.type, view: name, sequence: change.sequence)
    }

    /// Collects the places that have no column yet; most records have none.
    private func walk(
        _ members: [JSONMember],
        of place: Int,
        at pointer: [UInt8],
        depth: Int,
        _ found: inout [(pointer: [UInt8], kind: ValueKind)]
    ) {
        for member in members {
            guard let kind = ValueKind(of: member.value), Self.isPrintable(member.key) else { continue }
            let inner = Self.child(of: pointer, member.key)
            guard inner.count <= Self.pointerBytesMax else { continue }
            if case .object(let innerMembers) = member.value, depth < Self.depthMax {
                self.walk(innerMembers, of: place, at: inner, depth: depth + 1, &found)
                continue
            }
            let known = self.kinds[place][inner] ?? []
            // A text column holds every text, also one that is a time.
            if known.contains(kind) || (kind == .timestamp && known.contains(.text)) { continue }
            found.append((inner, kind))
        }
    }

    /// The member's name, those of nested ones with two underscores between; `__v2` and so on for another kind of value.
    private func columnName(_ pointer: [UInt8], _ kind: ValueKind, of place: Int) -> String {
        let steps = Self.steps(of: pointer)
        let parts = steps.map { SQLName.make($0, word: "column") }
        var name = parts.count == 1 ? parts[0] : SQLName.cut(parts.joined(separator: "__"))
        if let earlier = self.kinds[place][pointer], !earlier.isEmpty { name += "__v\(earlier.count + 1)" }
        return SQLName.free(name, among: self.columnNames[place])
    }

    /// A name that goes into a statement must not end it.
    private static func isPrintable(_ name: [UInt8]) -> Bool { name.allSatisfy { $0 >= 0x20 && $0 != 0x7F } }

    private static func child(of pointer: [UInt8], _ key: [UInt8]) -> [UInt8] {
        var child = pointer
        child.append(UInt8(ascii: "/"))
        for byte in key {
            switch byte {
            case UInt8(ascii: "~"): child += [byte, UInt8(ascii: "0")]
            case UInt8(ascii: "/"): child += [UInt8(ascii: "~"), UInt8(ascii: "1")]
            default: child.append(byte)
            }
        }
        return child
    }

    private static func steps(of pointer: [UInt8]) -> [[UInt8]] {
        pointer.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).dropFirst().map { step in
            var key: [UInt8] = []
            var isEscape = false
            for byte in step {
                if isEscape {
                    key.append(byte == UInt8(ascii: "0") ? UInt8(ascii: "~") : UInt8(ascii: "/"))
                    isEscape = false
                } else if byte == UInt8(ascii: "~") {
                    isEscape = true
                } else {
                    key.append(byte)
                }
            }
            return key
        }
    }
}
