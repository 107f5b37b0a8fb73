extension ColumnFamily {
    /// The family's place in ``ColumnFamily/allCases``: an index into tables of families, never stored.
    package var number: Int {
        switch self {
        case .meta: 0
        case .groupState: 1
        case .records: 2
        case .treeNodes: 3
        case .ledgerHeads: 4
        case .idempotency: 5
        case .checkpoints: 6
        case .signedHeads: 7
        case .forks: 8
        case .scrubState: 9
        case .sealedValues: 10
        case .subjectKeys: 11
        }
    }
}
