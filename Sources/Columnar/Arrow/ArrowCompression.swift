internal import CCompression

/// How the buffers of a message are compressed, each by itself.
///
/// - Source: Arrow columnar format, Message.fbs, BodyCompression; lz4frame.h 1.9, zstd.h 1.5
package enum ArrowCompression: String, Sendable, CaseIterable {
    case lz4
    case zstd

    /// The number of the codec in the format.
    var wireNumber: UInt8 { self == .lz4 ? 0 : 1 }

    init?(wireNumber: UInt8) {
        switch wireNumber {
        case 0: self = .lz4
        case 1: self = .zstd
        default: return nil
        }
    }

    /// Bytes before a compressed buffer: how long it was.
    private static let prefixBytes = 8
    /// What the prefix says of a buffer that is as it was.
    private static let isPlain: Int64 = -1
    /// Fast: the network is the reason to compress at all.
    private static let zstdLevel: Int32 = 1

    /// A buffer with its prefix; one that would not become smaller stays as it is.
    /// - Throws: ``ColumnarError`` `.internalFailure` when the library fails.
    func compressed(_ plain: ArrowBuffer) throws -> ArrowBuffer {
        let bound = self == .lz4 ? LZ4F_compressFrameBound(plain.count, nil) : ZSTD_compressBound(plain.count)
        let memory = ArrowMemoryBuilder(capacity: Self.prefixBytes + bound)
        memory.append(value: Int64(plain.count).littleEndian)
        let written = unsafe plain.withBytes { source in
            unsafe memory.appendUninitialized(bound) { target in
                switch self {
                case .lz4:
                    let count = unsafe LZ4F_compressFrame(
                        target.baseAddress,
                        target.count,
                        source.baseAddress,
                        source.count,
                        nil
                    )
                    return LZ4F_isError(count) == 0 ? count : -1
                case .zstd:
                    let count = unsafe ZSTD_compress(
                        target.baseAddress,
                        target.count,
                        source.baseAddress,
                        source.count,
                        Self.zstdLevel
                    )
                    return ZSTD_isError(count) == 0 ? count : -1
                }
            }
        }
        guard written >= 0 else { throw ColumnarError(.internalFailure, "compressing with \(self.rawValue) failed") }
        if written < plain.count { return memory.finish() }
        let stored = ArrowMemoryBuilder(capacity: Self.prefixBytes + plain.count)
        stored.append(value: Self.isPlain.littleEndian)
        stored.append(plain)
        return stored.finish()
    }

    /// What ``compressed(_:)`` made of a buffer.
    /// - Parameter bytesMax: Most bytes that the result may have; a prefix that says more is refused before memory is taken.
    /// - Throws: ``ColumnarError`` `.invalidArrow`.
    func decompressed(_ buffer: ArrowBuffer, bytesMax: Int) throws -> ArrowBuffer {
        guard buffer.count > 0 else { return .empty }
        guard buffer.count >= Self.prefixBytes else {
            throw ColumnarError(.invalidArrow, "a compressed buffer without its length")
        }
        let length = Int64(littleEndian: buffer.load(0, as: Int64.self))
        let rest = buffer.range(from: Self.prefixBytes, count: buffer.count - Self.prefixBytes)
        if length == Self.isPlain { return rest }
        guard length >= 0, length <= Int64(bytesMax) else {
            throw ColumnarError(.invalidArrow, "a compressed buffer of more than \(bytesMax) bytes")
        }
        guard length > 0 else { return .empty }
        let memory = ArrowMemoryBuilder(capacity: Int(length))
        let written = unsafe rest.withBytes { source in
            unsafe memory.appendUninitialized(Int(length)) { target in
                self == .lz4 ? unsafe Self.inflateLZ4(source, target) : unsafe Self.inflateZstd(source, target)
            }
        }
        guard written == Int(length) else { throw ColumnarError(.invalidArrow, "a damaged compressed buffer") }
        return memory.finish()
    }

    private static func inflateZstd(
        _ source: UnsafeRawBufferPointer,
        _ target: UnsafeMutableRawBufferPointer
    ) -> Int {
        let count = unsafe ZSTD_decompress(target.baseAddress, target.count, source.baseAddress, source.count)
        return ZSTD_isError(count) == 0 ? count : -1
    }

    private static func inflateLZ4(
        _ source: UnsafeRawBufferPointer,
        _ target: UnsafeMutableRawBufferPointer
    ) -> Int {
        var context: OpaquePointer?
        guard unsafe LZ4F_isError(LZ4F_createDecompressionContext(&context, UInt32(LZ4F_VERSION))) == 0 else {
            return -1
        }
        defer { unsafe _ = LZ4F_freeDecompressionContext(context) }
        var (taken, made) = (0, 0)
        while taken < source.count {
            var sourceCount = source.count - taken
            var targetCount = target.count - made
            let state = unsafe LZ4F_decompress(
                context,
                target.baseAddress.map { unsafe $0 + made },
                &targetCount,
                source.baseAddress.map { unsafe $0 + taken },
                &sourceCount,
                nil
            )
            guard LZ4F_isError(state) == 0 else { return -1 }
            taken += sourceCount
            made += targetCount
            if state == 0 { return taken == source.count ? made : -1 }
            // Neither input taken nor output made: the frame says less than it holds.
            guard sourceCount > 0 || targetCount > 0 else { return -1 }
        }
        return -1
    }
}
