package import Primitives

internal import struct Crypto.SHA256

/// SHA-256 over text that comes in pieces.
package struct TextHash: Sendable {
    private var hash = SHA256()

    package init() {}

    /// Adds bytes.
    package mutating func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { self.hash.update(bufferPointer: $0) } }

    /// The hash of everything that was added.
    package func finalize() -> Digest {
        self.hash.finalize().withUnsafeBytes { bytes in
            Digest(
                words: (
                    UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
                    UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
                    UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)),
                    UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
                )
            )
        }
    }
}

extension JSONText {
    /// The order of members in canonical JSON (RFC 8785 section 3.2.3).
    static func comesBefore(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        self.compareUTF16(left, 0..<left.count, right, 0..<right.count) < 0
    }
}
