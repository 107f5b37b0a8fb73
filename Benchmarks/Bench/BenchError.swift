internal import Primitives

/// Why a benchmark could not run.
struct BenchError: CausedError, CustomStringConvertible {
    enum Code: String, Sendable {
        case badInput
        case refused
        case unexpectedAnswer
    }

    let code: Code
    let message: String
    let cause: (any Error)?

    init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    var description: String { self.message }
}
