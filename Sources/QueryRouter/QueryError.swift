internal import Columnar
internal import Primitives

/// A refused or failed query.
///
/// Every code but `busy` and `unavailable` (try again), `cancelled` (nobody waits) and `internal` (a defect) asks the
/// caller to change the statement or its limits. Messages name tables, columns and functions, never data of a row,
/// except where DuckDB quotes the value that it could not convert.
package struct QueryError: CausedError, Sendable, CustomStringConvertible {
    /// What the caller can do about it.
    package enum Code: String, Sendable, CaseIterable {
        /// The text is not SQL.
        case syntax
        /// The statement names what does not exist, or its types or values do not fit.
        case invalid
        /// Not a single read-only SELECT over the caller's tables.
        case notAllowed
        /// A table that is none of the datasets.
        case unknownTable
        /// The statement, what it generates, what must be gathered, or its result is over a limit.
        case tooLarge
        case timeLimit
        case memoryLimit
        /// A queue is full; try again.
        case busy
        case cancelled
        /// The statement ended the process that ran it, more than once: it is refused for a while.
        case quarantined
        /// A shard could not answer; try again.
        case unavailable
        case `internal`
    }

    package let code: Code
    package let message: String
    /// UTF-8 offset in the user's statement, where known.
    package let position: Int?
    /// The tables, columns, functions or organizations that the error is about.
    package let names: [String]
    package let cause: (any Error)?

    package init(
        _ code: Code,
        _ message: String,
        position: Int? = nil,
        names: [String] = [],
        cause: (any Error)? = nil
    ) {
        self.code = code
        self.message = message
        self.position = position
        self.names = names
        self.cause = cause
    }

    package var description: String {
        let place = self.position.map { " at byte \($0)" } ?? ""
        return "\(self.code.rawValue)\(place): \(self.message)"
    }

    /// Whether the same request may succeed when it is sent again.
    package var isRetriable: Bool { self.code == .busy || self.code == .unavailable }

    /// Gives any error of a store, a shard or a task the code that clients see.
    ///
    /// - Parameter what: What was being done, for errors that are not the user's.
    package static func wrapping(_ error: any Error, doing what: String) -> QueryError {
        if let error = error as? QueryError { return error }
        if error is CancellationError { return QueryError(.cancelled, "the query was cancelled", cause: error) }
        guard let error = error as? ColumnarError else {
            return QueryError(.unavailable, "\(what) failed", cause: error)
        }
        let code: Code =
            switch error.code {
            case .syntax: .syntax
            case .binder, .catalog, .execution: .invalid
            case .notAllowed: .notAllowed
            case .timeLimit: .timeLimit
            case .memoryLimit: .memoryLimit
            case .resultLimit: .tooLarge
            case .cancelled: .cancelled
            case .busy: .busy
            case .damaged, .closed, .io: .unavailable
            case .schemaMismatch, .invalidArrow, .unsupported, .invalidConfiguration, .internalFailure: .internal
            }
        let isTechnical = code == .internal || code == .unavailable
        let message = isTechnical ? "\(what) failed: \(error.message)" : error.message
        return QueryError(code, message, position: error.position, cause: error)
    }

    /// The error of the one shard that runs the user's own statement: named when it is not the statement's fault.
    func naming(_ organization: OrganizationKey) -> QueryError {
        switch self.code {
        case .busy, .unavailable, .internal: self.from(organization)
        default: self
        }
    }

    /// The same error with the shard's name before the message; positions in generated statements are dropped.
    func from(_ organization: OrganizationKey) -> QueryError {
        QueryError(
            self.code,
            "organization \(organization): \(self.message)",
            names: self.names + [organization.rawValue],
            cause: self.cause
        )
    }
}
