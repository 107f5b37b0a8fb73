/// Where in the source an error was made.
package struct ErrorLocation: Sendable, Hashable, CustomStringConvertible {
    package let function: String
    package let file: String
    package let line: Int

    package init(function: String, file: String, line: Int) {
        self.function = function
        self.file = file
        self.line = line
    }

    package static func here(
        function: String = #function,
        file: String = #fileID,
        line: Int = #line
    ) -> ErrorLocation { ErrorLocation(function: function, file: file, line: line) }

    package var description: String { "\(self.file):\(self.line)" }
}

/// An error that was caused by another; its own `description` never contains that of its cause.
package protocol CausedError: Error {
    /// What led to this error, or nil when it began here.
    var cause: (any Error)? { get }
}

/// The descriptions of an error and all its causes, outermost first, joined by `: `.
package func errorChain(_ error: any Error) -> String {
    var parts = [String(describing: error)]
    var next = (error as? any CausedError)?.cause
    let causesMax = 16
    while let cause = next, parts.count < causesMax {
        parts.append(String(describing: cause))
        next = (cause as? any CausedError)?.cause
    }
    return parts.joined(separator: ": ")
}
