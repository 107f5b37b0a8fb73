extension ColumnFamily {
    /// The family's place in ``ColumnFamily/allCases``: an index into tables of families, never stored.
    package var number: Int {
        switch self {
        case .meta: 0
        case .raftLog: 1
        case .raftState: 2
        case .groupState: 3
        case .records: 4
        case .treeNodes: 5
        case .ledgerHeads: 6
        case .idempotency: 7
        case .checkpoints: 8
        case .signedHeads: 9
        case .forks: 10
        case .scrubState: 11
        case .sealedValues: 12
        case .subjectKeys: 13
        }
    }
}
