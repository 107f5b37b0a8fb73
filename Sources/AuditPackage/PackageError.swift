package import Primitives

/// Why a package cannot be written or read at all; what is wrong with the history in a readable one is a
/// ``PackageFinding``.
package struct PackageError: CausedError, Sendable, CustomStringConvertible {
    /// The kind of fault; the raw value is a stable name that tools print.
    package enum Code: String, Sendable, CaseIterable {
        /// The file cannot be opened, read or written: look at `cause`.
        case io
        /// The bytes are no ZIP archive.
        case notAnArchive = "not_an_archive"
        /// The archive ends before its own directory says it does.
        case truncated
        /// A member is compressed or encrypted; packages hold stored members only.
        case notStored = "not_stored"
        /// A member's name climbs out, is absolute, or has characters that no package uses.
        case unsafePath = "unsafe_path"
        /// Two members have one name (also when they differ only in case).
        case duplicateMember = "duplicate_member"
        /// Members overlap, or bytes lie between, before or behind them that belong to none.
        case overlappingMembers = "overlapping_members"
        /// The header of a member and the directory tell different things of it.
        case contradiction
        /// More members, a longer name or a longer member than a package may have.
        case tooLarge = "too_large"
        /// A part without which nothing can be said is absent.
        case missingPart = "missing_part"
        /// A part of the package does not have its form.
        case malformed
        /// The ledger that is to be exported could not be read.
        case source
        /// What is asked of an export is not possible.
        case refused
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

    package var description: String { "package \(self.code.rawValue): \(self.message)" }
}
