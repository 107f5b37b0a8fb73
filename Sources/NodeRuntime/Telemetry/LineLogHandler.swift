package import Logging
package import Primitives

/// A swift-log handler that writes one line for each message, as text or as JSON.
///
/// A value; may be used from any thread, the sink orders the lines.
package struct LineLogHandler: LogHandler {
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    package var logLevel: Logger.Level
    private let label: String
    private let format: NodeConfiguration.LogFormat
    private let now: @Sendable () -> Timestamp
    private let sink: @Sendable (String) -> Void

    /// - Parameters:
    ///   - sink: Gets each line with its line feed, from any thread.
    package init(
        label: String,
        level: Logger.Level,
        format: NodeConfiguration.LogFormat,
        now: @escaping @Sendable () -> Timestamp,
        sink: @escaping @Sendable (String) -> Void
    ) {
        self.label = label
        self.logLevel = level
        self.format = format
        self.now = now
        self.sink = sink
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var merged = self.metadata
        if let provided = self.metadataProvider?.get() { merged.merge(provided) { $1 } }
        if let own = event.metadata { merged.merge(own) { $1 } }
        var fields: [(key: String, value: String)] = merged.sorted { $0.key < $1.key }
            .map { ($0.key, Self.text($0.value)) }
        if let error = event.error { fields.append(("error.chain", errorChain(error))) }
        fields.append(("logger", self.label))
        let line = LogLine(
            time: self.now(),
            level: event.level.rawValue,
            message: event.message.description,
            fields: fields
        )
        self.sink((self.format == .json ? line.json() : line.text()) + "\n")
    }

    private static func text(_ value: Logger.Metadata.Value) -> String {
        switch value {
        case .string(let text): text
        case .stringConvertible(let value): value.description
        case .array(let values): "[" + values.map(Self.text).joined(separator: ",") + "]"
        case .dictionary(let values):
            "{" + values.sorted { $0.key < $1.key }.map { "\($0.key):\(Self.text($0.value))" }.joined(separator: ",")
                + "}"
        }
    }
}
