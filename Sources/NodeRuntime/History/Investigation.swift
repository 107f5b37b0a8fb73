/// A condition on the columns of `audit_log`.
indirect enum RecordCondition: Sendable, Equatable {
    enum Column: String, Sendable {
        case action
        case actorID = "actor_id"
        case after
        case before
        case compliance
        case entityID = "entity_id"
        case entityType = "entity_type"
        case reason
    }

    case equal(Column, String)
    case oneOf(Column, [String])
    /// Without regard to case.
    case contains(Column, String)
    case any([RecordCondition])
    case all([RecordCondition])

    /// The record is of this entity, or its states or its compliance context name it as a whole text.
    static func concerns(_ entity: String) -> RecordCondition {
        let text = "\"\(entity)\""
        return .any([
            .equal(.entityID, entity), .contains(.before, text), .contains(.after, text), .contains(.compliance, text),
        ])
    }
}

/// A question that auditors ask again and again, with the search that answers it.
struct Investigation: Sendable {
    /// A parameter of the question.
    struct Parameter: Sendable, Equatable {
        let name: String
        let isNeeded: Bool
    }

    let name: String
    let title: String
    let parameters: [Parameter]
    /// The condition, from the values of the parameters.
    private let make: @Sendable ([String: String]) -> RecordCondition

    /// What the records must satisfy.
    /// - Throws: ``Problem`` when a needed parameter is absent.
    func condition(_ values: [String: String]) throws(Problem) -> RecordCondition {
        for parameter in self.parameters where parameter.isNeeded && values[parameter.name, default: ""].isEmpty {
            throw Problem(.invalidParameter, "the investigation \"\(self.name)\" needs \(parameter.name)")
        }
        return self.make(values)
    }

    static let all: [Investigation] = [
        Investigation(
            name: "sample-history",
            title: "Everything that concerns one sample",
            parameters: [Parameter(name: "entity_id", isNeeded: true)]
        ) { .concerns($0["entity_id"] ?? "") },
        Investigation(
            name: "protocol-approvals",
            title: "Who submitted, approved, rejected, signed and finalized protocols",
            parameters: [Parameter(name: "entity_id", isNeeded: false)]
        ) { values in
            Self.narrowed(
                [
                    .equal(.entityType, "protocol"),
                    .oneOf(.action, ["submit", "approve", "reject", "sign", "sign_revoke", "finalize"]),
                ],
                values
            )
        },
        Investigation(
            name: "contamination-timeline",
            title: "Contaminations and the compliance events, alerts and escalations around them",
            parameters: [Parameter(name: "entity_id", isNeeded: false)]
        ) { values in
            let related = RecordCondition.any([
                .oneOf(.action, ["contaminate", "alert_raised", "escalation_created", "escalate"]),
                .equal(.entityType, "compliance_event"), .contains(.reason, "contaminat"),
                .contains(.after, "contaminat"), .contains(.compliance, "contaminat"),
            ])
            guard let entity = values["entity_id"] else { return related }
            return .all([related, .concerns(entity)])
        },
        Investigation(
            name: "user-actions",
            title: "Everything that one user did",
            parameters: [Parameter(name: "actor", isNeeded: true)]
        ) { .equal(.actorID, $0["actor"] ?? "") },
        Investigation(
            name: "workflow-changes",
            title: "How workflows were made, changed, approved and retired",
            parameters: [Parameter(name: "entity_id", isNeeded: false)]
        ) { values in
            Self.narrowed(
                [
                    .equal(.entityType, "workflow"),
                    .oneOf(
                        .action,
                        [
                            "create", "update", "clone", "submit", "approve", "reject", "finalize", "archive",
                            "restore",
                            "delete",
                        ]
                    ),
                ],
                values
            )
        },
    ]

    private static func narrowed(_ conditions: [RecordCondition], _ values: [String: String]) -> RecordCondition {
        .all(conditions + (values["entity_id"].map { [.equal(.entityID, $0)] } ?? []))
    }
}
