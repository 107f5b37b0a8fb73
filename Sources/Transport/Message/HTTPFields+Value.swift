package import HTTPTypes

extension HTTPFields {
    /// The value of a field, as the subscript gives it; without building a new text when the field comes once.
    package func value(of name: HTTPField.Name) -> String? {
        guard let first = self.firstIndex(where: { $0.name == name }) else { return nil }
        guard !self[(first + 1)...].contains(where: { $0.name == name }) else { return self[name] }
        return self[first].value
    }
}
