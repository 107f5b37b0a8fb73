/// Why bytes of a peer are no raft frame; the stream that brought them is of no use any more.
struct RaftFrameError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kinds of failure; each ends the stream, and the peer connects again.
    enum Code: String, Sendable, Hashable, CaseIterable {
        /// A frame in a form that this program does not know: the peer should not have passed the handshake.
        case unknownVersion
        /// A message or entry of a kind that this program does not know.
        case unknownKind
        /// The frame is of another sender, or for another receiver.
        case wrongAddress
        /// The bytes end before what they announce.
        case truncated
        /// A length or count over its limit.
        case oversized
        /// A number or a run of bytes that cannot be.
        case malformed
    }

    /// What kind of failure this is.
    let code: Code
    /// What was being read; never its bytes.
    let what: String
    /// Where in the frame, in bytes.
    let offset: Int

    init(_ code: Code, _ what: String, offset: Int = 0) {
        self.code = code
        self.what = what
        self.offset = offset
    }

    var description: String { "\(self.code.rawValue): \(self.what) at byte \(self.offset) of a raft frame" }
}
