/// Records that say who came in, was refused, saw or took away what, and whose personal data was held or erased.
///
/// They are for those who oversee an organization. They are acts upon its ledger and its people, not upon what they name: folding
/// history (``EntityFold``) leaves them out, so what is derived from entities' states shows nothing of them.
package enum ReservedRecords {
    /// Actions of the family ``ActionTerm/Family/access``.
    package static let actions: [String] = ActionVocabulary.all.filter { $0.family == .access }.map(\.name)

    /// Records about entities of this type are reserved whatever the action: what the product writes when personal data
    /// is held and erased.
    package static let entityType = "data_subject"

    private static let names = Set(actions.map { Array($0.utf8) })
    private static let type = Array(entityType.utf8)

    /// Whether records of this action, about an entity of this type, are reserved.
    package static func contains(action: some Collection<UInt8>, entityType: some Collection<UInt8>) -> Bool {
        entityType.elementsEqual(self.type) || self.names.contains(Array(action))
    }

    /// Whether a stored record is reserved.
    /// - Throws: ``LedgerError`` `.damaged` when the bytes are no record.
    package static func contains(_ record: [UInt8]) throws(LedgerError) -> Bool {
        let fields = try RecordFields(scanning: record)
        return self.contains(
            action: fields.textBytes(.action) ?? [],
            entityType: fields.textBytes(.entityType) ?? []
        )
    }
}
