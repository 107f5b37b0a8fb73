internal import Foundation

/// What went wrong in this module, with the answer its code implies.
package struct ColumnarError: Error, Sendable, CustomStringConvertible {
    /// Kind of failure. Each case states what the caller should do.
    package enum Code: String, Sendable, CaseIterable {
        /// The statement does not parse: the user changes it.
        case syntax
        /// The statement names a column, function or type that does not fit: the user changes it.
        case binder
        /// The statement names a table or object that does not exist: the user changes it.
        case catalog
        /// The statement failed on the data (conversion, division by zero, out of range): the user changes it.
        case execution
        /// Not one read-only SELECT, or it uses a function, file or setting that is closed to users.
        case notAllowed
        /// The time limit passed; the query was stopped.
        case timeLimit
        /// The store's memory limit was reached; the query was stopped.
        case memoryLimit
        /// The result has more rows or bytes than the limits allow.
        case resultLimit
        /// The consumer went away; the query was stopped.
        case cancelled
        /// A queue is full: retry later.
        case busy
        /// The file is not a usable columnar store: delete it and rebuild it from the ledger.
        case damaged
        /// A batch does not fit its table, or its columns do not fit each other.
        case schemaMismatch
        /// Bytes are not a valid Arrow stream.
        case invalidArrow
        /// A type or option that this module does not carry.
        case unsupported
        /// The store or its threads were closed.
        case closed
        /// The file system refused; the message says what.
        case io
        /// A configuration value is out of its range.
        case invalidConfiguration
        /// The engine failed in a way that is nobody's input: report it.
        case internalFailure
    }

    /// Kind of failure.
    package let code: Code
    /// What was being done and what the engine said; never holds row data.
    package let message: String
    /// UTF-8 offset in the user's statement, when the engine knows it.
    package let position: Int?
    /// The failure underneath, if there is one.
    package let cause: (any Error)?

    /// Creates an error.
    package init(_ code: Code, _ message: String, position: Int? = nil, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.position = position
        self.cause = cause
    }

    /// Whether the person who wrote the statement can repair it.
    package var isUserError: Bool {
        switch self.code {
        case .syntax, .binder, .catalog, .execution, .notAllowed, .resultLimit: true
        default: false
        }
    }

    /// The code and the message, without the cause.
    package var description: String {
        let place = self.position.map { " (at \($0))" } ?? ""
        return "columnar \(self.code.rawValue): \(self.message)\(place)"
    }
}

/// The engine's errors arrive as `Kind Error: {json}` because every instance is opened with `errors_as_json`.
private struct EngineMessage: Decodable {
    var exception_type: String
    var exception_message: String
    var position: String?
}

extension ColumnarError {
    /// Reads an error text of the engine.
    init(engine text: String, doing operation: String) {
        var kind = text.prefix(while: { $0 != ":" }).replacingOccurrences(of: " Error", with: "")
        var message = text
        var position: Int?
        if let brace = text.firstIndex(of: "{"),
            let parsed = try? JSONDecoder().decode(EngineMessage.self, from: Data(text[brace...].utf8))
        {
            kind = parsed.exception_type
            message = parsed.exception_message
            position = parsed.position.flatMap { Int($0) }
        }
        self.init(Self.code(kind: kind, message: message), "\(operation): \(message)", position: position)
    }

    private static func code(kind: String, message: String) -> Code {
        switch kind.lowercased() {
        case "parser", "syntax": .syntax
        case "binder", "parameter not resolved", "parameter not allowed", "expression", "planner": .binder
        case "catalog": .catalog
        case "permission": .notAllowed
        case "out of memory": .memoryLimit
        case "interrupt": .cancelled
        case "conversion", "out of range", "divide by zero", "mismatch type", "decimal", "invalid type", "unknown type",
            "object size", "sequence", "constraint", "not implemented":
            .execution
        case "invalid input":
            message.contains("read-only mode") || message.contains("configuration has been locked")
                ? .notAllowed : .execution
        case "transaction", "transactioncontext":
            message.contains("read-only") || message.contains("read only") ? .notAllowed : .internalFailure
        case "missing extension", "autoload", "extension autoloading": .notAllowed
        case "io": .io
        case "serialization", "data corruption": .damaged
        default: .internalFailure
        }
    }
}
