package import Primitives

/// The moment of its past in which an organization is read.
package enum QueryMoment: Sendable, Hashable {
    /// After every record that was recorded at or before this time.
    case time(Timestamp)
    /// After this record, which must exist.
    case sequence(SequenceNumber)
}

/// The moments in which a statement reads its organizations.
package enum QueryAsOf: Sendable, Hashable {
    /// One time for all of them.
    case time(Timestamp)
    /// After these records; organizations that are not named are read as they are now.
    case sequences([OrganizationKey: SequenceNumber])

    /// The moment of one organization; nil: now.
    package func moment(of organization: OrganizationKey) -> QueryMoment? {
        switch self {
        case .time(let time): .time(time)
        case .sequences(let sequences): sequences[organization].map(QueryMoment.sequence)
        }
    }
}
