internal import AuditLedger
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage

extension Problem {
    /// The problem that the client is told for any error of the layers below.
    static func wrapping(_ error: any Error) -> Problem {
        switch error {
        case let problem as Problem: problem
        case let error as EventError: Problem(event: error)
        case let error as JSONError: Problem(json: error)
        case let error as QueryError: Problem(query: error)
        case let error as CommandGateway.Failure: Problem(command: error)
        case let error as ReadGate.Failure: Problem(read: error)
        case let error as SubjectKeyRing.NoSealingKey: Problem(.notSealing, error.description)
        case let error as RecordReader.Unavailable:
            Problem(.shardUnavailable, error.description, cause: error.cause)
        case let error as ShardError: Problem(shard: error)
        case let error as RepairService.Failure: Problem(repair: error)
        case let error as ReplicaInspector.Installing: Problem(.shardUnavailable, error.description)
        case let error as LedgerError where error.code == .damaged:
            Problem(
                .shardUnavailable,
                "this replica of the ledger is damaged; another node may serve it",
                cause: error
            )
        case let error as StorageError where error.code == .busy:
            Problem(.overloaded, "too many reads wait", cause: error)
        case is CancellationError: Problem(.shuttingDown, "the request was given up", cause: error)
        default: Problem(.internal, "the request failed; its id stands in the node's log", cause: error)
        }
    }

    private init(repair error: RepairService.Failure) {
        let code: Code
        switch error.code {
        case .notHosted: code = .nodeNotAvailable
        case .busy: code = .changePending
        case .noSource: code = .shardUnavailable
        case .notTrusted: code = .checkpointUnavailable
        case .sourceLies, .notMended: code = .repairFailed
        }
        self.init(code, error.description)
    }

    private init(event error: EventError) {
        var members: [Member] = []
        if let line = error.line { members.append(.number("line", line)) }
        if !error.member.isEmpty { members.append(.text("pointer", error.member)) }
        let code: Code
        switch error.code {
        case .malformedJSON: code = error.json.map { Self.code(of: $0.code) } ?? .malformedJSON
        case .unknownMember: code = .unknownField
        case .recordTooLarge: code = .recordTooLarge
        case .batchTooLarge: code = .batchTooLarge
        case .notAnObject, .missingMember, .wrongType, .emptyText, .textTooLong, .valueNotAllowed,
            .organizationMismatch, .emptyBatch:
            code = .invalidField
        }
        if code == .recordTooLarge {
            let isText = error.code == .malformedJSON
            members.append(.number("limit", isText ? EventLimits.eventBytesMax : EventLimits.recordBytesMax))
        }
        self.init(code, error.description, members: members)
    }

    init(json error: JSONError) {
        var members: [Member] = []
        if !error.path.isEmpty { members.append(.text("pointer", error.path)) }
        if error.line > 0 { members.append(.number("line", error.line)) }
        self.init(Self.code(of: error.code), error.description, members: members)
    }

    private static func code(of code: JSONError.Code) -> Code {
        switch code {
        case .invalidUTF8: .invalidUTF8
        case .duplicateKey: .duplicateKey
        case .tooDeep: .tooDeep
        case .tooLarge: .recordTooLarge
        case .numberNotRepresentable: .numberNotRepresentable
        case .unknownMember: .unknownField
        case .missingMember, .wrongType, .valueNotAllowed: .invalidField
        default: .malformedJSON
        }
    }

    private init(query error: QueryError) {
        var members: [Member] = []
        if let position = error.position { members.append(.number("position", position)) }
        let code: Code
        switch error.code {
        case .syntax: code = .sqlSyntax
        case .invalid, .unknownTable: code = .sqlInvalid
        case .notAllowed: code = .sqlNotAllowed
        case .tooLarge: code = .resultTooLarge
        case .timeLimit: code = .queryTimeLimit
        case .memoryLimit: code = .queryMemoryLimit
        case .busy: code = .overloaded
        case .cancelled: code = .queryEnded
        case .quarantined: code = .sqlQuarantined
        case .unavailable: code = .queryUnavailable
        case .internal: code = .internal
        }
        self.init(code, error.message, members: members, cause: error)
    }

    private init(command error: CommandGateway.Failure) {
        switch error {
        case .noLeader: self.init(.noLeader, "no leader was found in time; nothing was written")
        case .noQuorum:
            self.init(
                .noQuorum,
                "no majority of replicas confirmed in time; try again with the same Idempotency-Key"
            )
        case .outcomeUnknown:
            self.init(
                .outcomeUnknown,
                "the leader changed before it confirmed; the write may or may not be done: try again with an Idempotency-Key"
            )
        case .overloaded: self.init(.overloaded, "too many writes wait")
        case .tooLarge: self.init(.batchTooLarge, "the batch is too large for one command")
        case .stopping: self.init(.shuttingDown, "this node is stopping")
        case .unsupported: self.init(refusal: .featureUnsupported)
        }
    }

    private init(read error: ReadGate.Failure) {
        switch error {
        case .noLeader: self.init(.noLeader, "no leader was found in time")
        case .noQuorum: self.init(.noQuorum, "no majority of replicas confirmed in time")
        case .notHosted: self.init(.shardUnavailable, "this node has no replica of the organization")
        case .stopping: self.init(.shuttingDown, "this node is stopping")
        }
    }

    private init(shard error: ShardError) {
        switch error.code {
        case .projectionBehind:
            self.init(.queryUnavailable, "the columnar store has not caught up yet", cause: error)
        case .stopped: self.init(.shuttingDown, "this node is stopping", cause: error)
        case .notHosted, .damaged, .storage, .projection, .unsupported, .outOfOrder:
            self.init(.shardUnavailable, "this replica cannot serve now", cause: error)
        }
    }

    /// The problem of a command that was refused when it was applied.
    init(refusal: Refusal) {
        switch refusal {
        case .malformed, .wrongGroup: self.init(.internal, "the command was not understood when it was applied")
        case .organizationExists: self.init(.organizationExists, "the organization exists already")
        case .idempotencyKeyReused:
            self.init(.idempotencyKeyReused, "the Idempotency-Key was used before for another request")
        case .tokenExists: self.init(.internal, "the token exists already")
        case .tokenNotFound: self.init(.tokenNotFound, "there is no such token")
        case .notBootstrapped: self.init(.noLeader, "the cluster has not begun yet")
        case .lastOperatorToken: self.init(.lastOperatorToken, "this is the only operator token; create another first")
        case .organizationNotFound:
            self.init(.organizationNotFound, "the grant names an organization that does not exist")
        case .nodeExists: self.init(.nodeExists, "a node of this id is in the cluster already")
        case .nodeNotFound: self.init(.nodeNotFound, "there is no such node")
        case .nodeRemoved: self.init(.nodeRemoved, "a node of this id was removed; ids are never used again")
        case .joinTokenInvalid: self.init(.forbidden, "the join token is unknown, used, expired or for another node")
        case .reservedKey: self.init(.reservedKey, "this key is reserved for the cluster itself")
        case .featureUnsupported:
            self.init(.featureUnsupported, "not every node supports this yet: upgrade all nodes first")
        case .staleChange: self.init(.changePending, "the cluster has changed meanwhile; try again")
        case .stateNotAllowed: self.init(.stateNotAllowed, "the node's state does not allow this")
        case .groupNotFound: self.init(.groupNotFound, "there is no such group")
        case .targetNotAllowed:
            self.init(.replicasInvalid, "a group has 1, 3, 5 or 7 replicas, each on another node that takes replicas")
        case .addressUsed: self.init(.addressTaken, "another node of the cluster has this address")
        case .notEnoughNodes:
            self.init(.notEnoughNodes, "too few nodes would be left for the replicas of every group: add a node first")
        case .keyExists: self.init(.keyExists, "the key is another node's, or was retired")
        case .keyNotFound: self.init(.keyNotFound, "the node has no such key")
        case .tooMany: self.init(.tooMany, "there are as many of these as there may be")
        case .subjectUnknown: self.init(.subjectNotFound, "the organization has no personal data of this data subject")
        case .legalHold: self.init(.legalHold, "a legal hold keeps the data of this data subject; lift it first")
        case .alreadyErased: self.init(.alreadyErased, "the erasure of this data subject was asked for before")
        case .subjectErased:
            self.init(.subjectErased, "a data subject of the event was erased; nothing about it is taken any more")
        }
    }
}
