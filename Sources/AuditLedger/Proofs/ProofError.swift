package import Primitives

/// Why a proof, a tile or an entry bundle was refused.
///
/// Whatever the code: what was to be proven is not proven. Nothing here is worth a retry with the same bytes.
package struct ProofError: CausedError, Sendable, CustomStringConvertible {
    /// What is wrong; the raw value is a stable name.
    package enum Code: String, Sendable, CaseIterable {
        /// A tree of size 0 contains nothing that could be proven.
        case emptyTree = "empty_tree"
        /// An index or a size beyond the tree.
        case beyondTree = "beyond_tree"
        /// The proof is for a tree of another size than the checkpoint that it is held against.
        case otherTree = "other_tree"
        /// The old size is larger than the new one.
        case backwards
        /// More or fewer hashes than the sizes ask for.
        case wrongLength = "wrong_length"
        /// The hashes do not lead to the root.
        case rootMismatch = "root_mismatch"
        /// Ranges that are empty, overlap, touch or do not ascend, or none at all.
        case badSelection = "bad_selection"
        /// Fewer or more records than the ranges name.
        case wrongRecordCount = "wrong_record_count"
        /// More than a limit allows.
        case tooLarge = "too_large"
        /// A text or path that does not have its form.
        case malformed
        /// A tile or bundle of another width, or bytes that do not fill it.
        case wrongWidth = "wrong_width"
        /// A tile or bundle that the tree needs is absent.
        case missingTile = "missing_tile"
        /// A tile, or an entry of a bundle, is not what the tile above it or the root says.
        case tileMismatch = "tile_mismatch"
    }

    package let code: Code
    package let message: String
    package let cause: (any Error)?
    package let location: ErrorLocation

    package init(_ code: Code, _ message: String, cause: (any Error)? = nil, location: ErrorLocation = .here()) {
        self.code = code
        self.message = message
        self.cause = cause
        self.location = location
    }

    package var description: String { "proof \(self.code.rawValue): \(self.message)" }
}
