package import Primitives

extension PersonalCommitment {
    /// The personal members of a stored record, with what stands in their place; those without a commitment are left out.
    /// - Throws: ``JSONError`` when the bytes are no record.
    package static func all(in record: [UInt8]) throws(JSONError) -> [(field: PersonalField, commitment: Digest)] {
        let value = try JSONParser.parse(canonical: record, range: 0..<record.count)
        guard case .array(let elements)? = value["personal"] else { return [] }
        return elements.prefix(PersonalLimits.fieldsMax).compactMap { element in
            guard case .string(let path)? = element["path"], case .string(let subject)? = element["subject"] else {
                return nil
            }
            let field = PersonalField(
                path: String(decoding: path, as: UTF8.self),
                subject: String(decoding: subject, as: UTF8.self)
            )
            guard let place = PersonalExtractor.value(at: PersonalExtractor.parts(field.path)[...], in: value),
                let commitment = self.read(place)
            else { return nil }
            return (field, commitment)
        }
    }
}
