internal import CChecksum
package import Primitives

internal import struct Crypto.SHA256
internal import struct Crypto.SHA256Digest

/// The two hashes of RFC 6962 section 2.1: leaves and inner nodes are told apart by their first byte.
///
/// Single hashes, of what is appended, proved and signed, are swift-crypto's. Verification in bulk uses the processor's own
/// instructions where there are some: so what is written and what checks it are two implementations.
package enum LedgerHash {
    /// SHA-256(0x00 ‖ bytes): the checksum of a record.
    package static func leaf(_ bytes: [UInt8]) -> Digest { self.leaf(bytes[...]) }

    /// SHA-256(0x00 ‖ bytes) of a part of a larger buffer.
    package static func leaf(_ bytes: ArraySlice<UInt8>) -> Digest {
        var hash = SHA256()
        self.prefixes.withUnsafeBytes { hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: $0[0..<1])) }
        bytes.withUnsafeBytes { hash.update(bufferPointer: $0) }
        return self.digest(hash.finalize())
    }

    /// SHA-256(0x01 ‖ left ‖ right): an inner node.
    package static func node(_ left: Digest, _ right: Digest) -> Digest {
        var hash = SHA256()
        let words = (
            left.words.0.bigEndian, left.words.1.bigEndian, left.words.2.bigEndian, left.words.3.bigEndian,
            right.words.0.bigEndian, right.words.1.bigEndian, right.words.2.bigEndian, right.words.3.bigEndian
        )
        self.prefixes.withUnsafeBytes { hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: $0[1..<2])) }
        withUnsafeBytes(of: words) { hash.update(bufferPointer: $0) }
        return self.digest(hash.finalize())
    }

    /// SHA-256 of nothing: the root of the empty tree.
    package static let emptyRoot = Self.digest(SHA256().finalize())

    /// The number of digests in a row of the family `treeNodes`; nil when it has another form.
    static func digestCount(stored bytes: [UInt8]) -> UInt64? {
        let (count, rest) = bytes.count.quotientAndRemainder(dividingBy: Digest.byteCount)
        return count > 0 && rest == 0 ? UInt64(count) : nil
    }

    /// One of the digests of a row of the family `treeNodes`.
    static func digest(stored bytes: [UInt8], at place: Int) -> Digest {
        let start = place * Digest.byteCount
        precondition(place >= 0 && start + Digest.byteCount <= bytes.count, "a digest lies within its row")
        return bytes.withUnsafeBytes { bytes in
            Digest(stored: UnsafeRawBufferPointer(rebasing: bytes[start..<start + Digest.byteCount]))
        }
    }

    // MARK: In bulk

    /// SHA-256 of bytes that begin with the prefix of a leaf or an inner node, written to 32 bytes; for verification.
    static func hash(_ prefixed: UnsafeRawBufferPointer, into digest: UnsafeMutableRawBufferPointer) {
        precondition(digest.count == Digest.byteCount, "a digest has 32 bytes")
        if self.isDirect {
            ft_sha256(prefixed.baseAddress, prefixed.count, digest.baseAddress)
        } else {
            self.hashPortably(prefixed, into: digest)
        }
    }

    /// Two hashes at once, which takes little longer than one.
    static func hash(
        _ prefixed: UnsafeRawBufferPointer,
        into digest: UnsafeMutableRawBufferPointer,
        and other: UnsafeRawBufferPointer,
        into otherDigest: UnsafeMutableRawBufferPointer
    ) {
        precondition(
            digest.count == Digest.byteCount && otherDigest.count == Digest.byteCount,
            "a digest has 32 bytes"
        )
        if self.isDirect {
            ft_sha256_pair(
                prefixed.baseAddress,
                prefixed.count,
                digest.baseAddress,
                other.baseAddress,
                other.count,
                otherDigest.baseAddress
            )
        } else {
            self.hashPortably(prefixed, into: digest)
            self.hashPortably(other, into: otherDigest)
        }
    }

    private static func hashPortably(_ prefixed: UnsafeRawBufferPointer, into digest: UnsafeMutableRawBufferPointer) {
        var hash = SHA256()
        hash.update(bufferPointer: prefixed)
        hash.finalize().withUnsafeBytes { digest.copyMemory(from: $0) }
    }

    /// Whether the processor's instructions are there and agree with swift-crypto, with every way in which a text can end.
    private static let isDirect = ft_sha256_is_available() != 0 && Self.agrees()

    private static func agrees() -> Bool {
        let bytes = (0..<130).map { UInt8(truncatingIfNeeded: $0 &* 37) }
        return bytes.withUnsafeBytes { bytes in
            (0..<bytes.count).allSatisfy { count in
                let text = UnsafeRawBufferPointer(rebasing: bytes[..<count])
                let rest = UnsafeRawBufferPointer(rebasing: bytes[count...])
                var direct = [UInt8](repeating: 0, count: 3 * Digest.byteCount)
                var portable = direct
                direct.withUnsafeMutableBytes { direct in
                    let at = direct.baseAddress
                    ft_sha256_pair(text.baseAddress, count, at, rest.baseAddress, rest.count, at.map { $0 + 32 })
                    ft_sha256(text.baseAddress, count, at.map { $0 + 64 })
                }
                portable.withUnsafeMutableBytes { portable in
                    for (place, part) in [text, rest, text].enumerated() {
                        let range = place * Digest.byteCount..<(place + 1) * Digest.byteCount
                        self.hashPortably(part, into: UnsafeMutableRawBufferPointer(rebasing: portable[range]))
                    }
                }
                return direct == portable
            }
        }
    }

    private static let prefixes: [UInt8] = [0x00, 0x01]

    private static func digest(_ value: SHA256Digest) -> Digest {
        value.withUnsafeBytes { Digest(stored: $0) }
    }
}

extension Digest {
    /// Reads exactly 32 bytes.
    init(stored bytes: UnsafeRawBufferPointer) {
        self.init(
            words: (
                UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
                UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
                UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)),
                UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
            )
        )
    }
}
