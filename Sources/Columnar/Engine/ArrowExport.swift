internal import CDuckDB

// Writing the Arrow C data interface, so that the engine reads our columns in place.

/// Owns the C structures of one schema.
@safe final class ArrowSchemaExport {
    private(set) var root: UnsafeMutablePointer<CArrowSchema>
    private var texts: [UnsafeMutablePointer<CChar>] = unsafe []
    private var structures: [UnsafeMutablePointer<CArrowSchema>] = unsafe []
    private var lists: [UnsafeMutablePointer<UnsafeMutablePointer<CArrowSchema>?>] = unsafe []

    init(_ fields: [ArrowField]) {
        unsafe self.root = UnsafeMutablePointer<CArrowSchema>.allocate(capacity: 1)
        unsafe self.root.initialize(to: CArrowSchema())
        unsafe self.structures.append(self.root)
        unsafe self.fill(self.root, format: "+s", name: "", nullable: false, children: fields)
    }

    deinit {
        for index in unsafe self.texts.indices { unsafe self.texts[index].deallocate() }
        for index in unsafe self.structures.indices { unsafe self.structures[index].deallocate() }
        for index in unsafe self.lists.indices { unsafe self.lists[index].deallocate() }
    }

    private func copy(_ text: String) -> UnsafePointer<CChar> {
        let bytes = text.utf8CString
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        for (index, byte) in bytes.enumerated() { unsafe copy[index] = byte }
        unsafe self.texts.append(copy)
        return unsafe UnsafePointer(copy)
    }

    private func fill(
        _ schema: UnsafeMutablePointer<CArrowSchema>,
        format: String,
        name: String,
        nullable: Bool,
        children: [ArrowField]
    ) {
        unsafe schema.pointee.format = unsafe self.copy(format)
        unsafe schema.pointee.name = unsafe self.copy(name)
        unsafe schema.pointee.flags = nullable ? 2 : 0
        // The structures belong to this object; a reader may call `release`, which only marks them as released.
        unsafe schema.pointee.release = releaseSchema
        guard !children.isEmpty else { return }
        let list = UnsafeMutablePointer<UnsafeMutablePointer<CArrowSchema>?>.allocate(capacity: children.count)
        unsafe self.lists.append(list)
        for (index, field) in children.enumerated() {
            let child = UnsafeMutablePointer<CArrowSchema>.allocate(capacity: 1)
            unsafe child.initialize(to: CArrowSchema())
            unsafe self.structures.append(child)
            unsafe list[index] = unsafe child
            unsafe self.fill(
                child,
                format: field.type.format,
                name: field.name,
                nullable: field.nullable,
                children: field.type.children
            )
        }
        unsafe schema.pointee.n_children = Int64(children.count)
        unsafe schema.pointee.children = unsafe list
    }
}

private func releaseSchema(_ schema: UnsafeMutablePointer<CArrowSchema>?) {
    unsafe schema?.pointee.release = nil
}

/// Owns the C structures of one batch and keeps its buffers alive until the engine releases the root.
@safe final class ArrowArrayExport {
    private var structures: [UnsafeMutablePointer<CArrowArray>] = unsafe []
    private var bufferLists: [UnsafeMutablePointer<UnsafeRawPointer?>] = unsafe []
    private var childLists: [UnsafeMutablePointer<UnsafeMutablePointer<CArrowArray>?>] = unsafe []
    private let columns: [ArrowColumn]

    private init(_ columns: [ArrowColumn]) { self.columns = columns }

    deinit {
        for index in unsafe self.structures.indices { unsafe self.structures[index].deallocate() }
        for index in unsafe self.bufferLists.indices { unsafe self.bufferLists[index].deallocate() }
        for index in unsafe self.childLists.indices { unsafe self.childLists[index].deallocate() }
    }

    /// Makes an array of `count` rows from row `start`. The receiver must call its `release`.
    static func make(_ columns: [ArrowColumn], from start: Int, count: Int) -> CArrowArray {
        let owner = ArrowArrayExport(columns)
        var root = unsafe CArrowArray()
        unsafe root.length = Int64(count)
        unsafe root.n_buffers = 1
        unsafe root.buffers = unsafe owner.bufferList([nil])
        unsafe root.n_children = Int64(columns.count)
        unsafe root.children = unsafe owner.childList(columns.map { unsafe owner.array($0, from: start, count: count) })
        // Retained here, released in `releaseArray`, which the engine calls exactly once.
        unsafe root.private_data = unsafe Unmanaged.passRetained(owner).toOpaque()
        unsafe root.release = releaseArray
        return unsafe root
    }

    private func array(_ column: ArrowColumn, from start: Int, count: Int) -> UnsafeMutablePointer<CArrowArray> {
        let array = UnsafeMutablePointer<CArrowArray>.allocate(capacity: 1)
        unsafe array.initialize(to: CArrowArray())
        unsafe self.structures.append(array)
        unsafe array.pointee.length = Int64(count)
        unsafe array.pointee.offset = Int64(start)
        unsafe array.pointee.null_count = column.type == .null ? Int64(count) : column.nullCount == 0 ? 0 : -1
        unsafe array.pointee.release = releaseChildArray
        var buffers: [UnsafeRawPointer?]
        switch column.type.layout {
        case .null: unsafe buffers = []
        case .structure, .fixedList: unsafe buffers = unsafe [column.validity?.address]
        case .bits, .fixed, .list: unsafe buffers = unsafe [column.validity?.address, column.values.address]
        case .variable:
            unsafe buffers = unsafe [column.validity?.address, column.values.address, column.data.address]
        case .union: unsafe buffers = unsafe [column.values.address, column.data.address]
        }
        unsafe array.pointee.n_buffers = Int64(buffers.count)
        unsafe array.pointee.buffers = unsafe self.bufferList(buffers)
        // Children are exported whole: offsets, and the parent's offset for structures, say which part counts.
        let children = unsafe column.children.map { unsafe self.array($0, from: 0, count: $0.count) }
        unsafe array.pointee.n_children = Int64(children.count)
        unsafe array.pointee.children = unsafe self.childList(children)
        return unsafe array
    }

    private func bufferList(_ buffers: [UnsafeRawPointer?]) -> UnsafeMutablePointer<UnsafeRawPointer?> {
        let list = unsafe UnsafeMutablePointer<UnsafeRawPointer?>.allocate(capacity: max(1, buffers.count))
        unsafe list[0] = nil
        for index in unsafe buffers.indices { unsafe list[index] = unsafe buffers[index] }
        unsafe self.bufferLists.append(list)
        return unsafe list
    }

    private func childList(
        _ children: [UnsafeMutablePointer<CArrowArray>]
    ) -> UnsafeMutablePointer<UnsafeMutablePointer<CArrowArray>?>? {
        guard unsafe !children.isEmpty else { return nil }
        let list = unsafe UnsafeMutablePointer<UnsafeMutablePointer<CArrowArray>?>.allocate(capacity: children.count)
        for index in unsafe children.indices { unsafe list[index] = unsafe children[index] }
        unsafe self.childLists.append(list)
        return unsafe list
    }
}

private func releaseArray(_ array: UnsafeMutablePointer<CArrowArray>?) {
    guard let array = unsafe array, let owner = unsafe array.pointee.private_data else { return }
    unsafe array.pointee.release = nil
    unsafe array.pointee.private_data = nil
    unsafe Unmanaged<ArrowArrayExport>.fromOpaque(owner).release()
}

private func releaseChildArray(_ array: UnsafeMutablePointer<CArrowArray>?) {
    unsafe array?.pointee.release = nil
}

extension ArrowType {
    /// Format string of the C data interface.
    var format: String {
        switch self {
        case .null: "n"
        case .bool: "b"
        case .int8: "c"
        case .uint8: "C"
        case .int16: "s"
        case .uint16: "S"
        case .int32: "i"
        case .uint32: "I"
        case .int64: "l"
        case .uint64: "L"
        case .float32: "f"
        case .float64: "g"
        case .decimal128(let precision, let scale): "d:\(precision),\(scale)"
        case .utf8: "u"
        case .binary: "z"
        case .fixedSizeBinary(let width): "w:\(width)"
        case .date32: "tdD"
        case .time32(let unit): unit == .second ? "tts" : "ttm"
        case .time64(let unit): unit == .microsecond ? "ttu" : "ttn"
        case .timestamp(let unit, let timezone):
            ["tss:", "tsm:", "tsu:", "tsn:"][unit.rawValue] + (timezone ?? "")
        case .intervalMonthDayNano: "tin"
        case .list: "+l"
        case .fixedSizeList(_, let size): "+w:\(size)"
        case .structure: "+s"
        case .map: "+m"
        case .denseUnion(let fields): "+ud:" + fields.indices.map { String($0) }.joined(separator: ",")
        }
    }
}
