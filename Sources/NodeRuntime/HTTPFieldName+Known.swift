internal import HTTPTypes

extension HTTPField.Name {
    /// A name of ours, known to be a token.
    init(known name: StaticString) {
        guard let parsed = HTTPField.Name(name.description) else { preconditionFailure("not a field name: \(name)") }
        self = parsed
    }
}
