/// One command line of a scenario, split into its parts and checked against the table of commands.
struct ScenarioStep: Sendable, Hashable {
    /// A `key=value` of a line.
    struct Option: Sendable, Hashable {
        let key: String
        let value: String
    }

    /// Counts from 1.
    let line: Int
    /// The line without its comment.
    let text: String
    let command: ScenarioVerb
    /// The words without `=`, in order.
    let words: [String]
    let options: [Option]

    /// Whether it is no fault when nothing matches or the node refuses.
    var mayFail: Bool { self.option("may-fail").map(ScenarioStep.isTrue) ?? false }

    func option(_ key: String) -> String? { self.options.last { $0.key == key }?.value }

    static func isTrue(_ value: String) -> Bool { value == "true" }
}

/// The commands of the line language.
enum ScenarioVerb: String, Sendable, Hashable, CaseIterable {
    case addNodes = "add-nodes"
    case campaign
    case propose
    case proposeConfChange = "propose-conf-change"
    case transferLeadership = "transfer-leadership"
    case forgetLeader = "forget-leader"
    case tick
    case setElectionTimeout = "set-election-timeout"
    case processReady = "process-ready"
    case processAppend = "process-append"
    case processApply = "process-apply"
    case deliver
    case drop
    case dup
    case hold
    case holdCopy = "hold-copy"
    case release
    case isolate
    case block
    case heal
    case stabilize
    case compact
    case sendSnapshot = "send-snapshot"
    case reportUnreachable = "report-unreachable"
    case reportSnapshot = "report-snapshot"
    case readIndex = "read-index"
    case restart
    case checkpoint
    case sleep
    case wake
    case expect

    /// What a command takes besides `may-fail`.
    struct Form {
        /// How many words.
        var words: ClosedRange<Int>
        var options: Set<String> = []
        /// Options without which the command says nothing.
        var required: Set<String> = []
        /// Whether the words after the first are data and may hold `=`.
        var takesData = false
    }

    private static let filter: Set<String> = ["from", "to", "type", "term", "count", "local"]
    private static let many = 1...ScenarioLimits.nodesMax

    var form: Form {
        switch self {
        case .addNodes: return Form(words: 1...1, options: ScenarioVerb.nodeOptions)
        case .campaign, .forgetLeader, .wake: return Form(words: 1...1)
        case .propose: return Form(words: 2...ScenarioLimits.wordsMax, takesData: true)
        case .proposeConfChange: return Form(words: 1...1, options: ["v1", "transition", "changes"])
        case .transferLeadership, .sendSnapshot, .block:
            return Form(words: 0...0, options: ["from", "to"], required: ["from", "to"])
        case .tick: return Form(words: 1...1, options: ["count"])
        case .setElectionTimeout: return Form(words: 1...1, options: ["timeout"], required: ["timeout"])
        case .processReady, .processAppend, .processApply, .isolate: return Form(words: ScenarioVerb.many)
        case .deliver, .drop, .dup: return Form(words: 0...0, options: ScenarioVerb.filter)
        case .hold, .holdCopy:
            return Form(words: 0...0, options: ScenarioVerb.filter.union(["name"]), required: ["name"])
        case .release: return Form(words: 0...0, options: ["name"], required: ["name"])
        case .heal, .checkpoint: return Form(words: 0...0)
        case .stabilize: return Form(words: 0...ScenarioLimits.nodesMax)
        case .compact, .reportUnreachable, .readIndex: return Form(words: 2...2)
        case .reportSnapshot: return Form(words: 2...2, options: ["status"], required: ["status"])
        case .restart: return Form(words: 1...1, options: ["applied"])
        case .sleep: return Form(words: 1...1, options: ["live"])
        case .expect: return Form(words: 0...2)
        }
    }

    private static let nodeOptions: Set<String> = [
        "voters", "learners", "index", "content", "prevote", "checkquorum", "async", "step-down-on-removal", "inflight",
        "max-size", "election-tick", "heartbeat-tick", "read-only", "priority", "max-uncommitted",
    ]
}

/// Limits of the runner.
enum ScenarioLimits {
    /// Nodes of one scenario.
    static let nodesMax = 64
    /// Command lines of one scenario.
    static let linesMax = 100_000
    /// Words of one line.
    static let wordsMax = 256
    /// Ticks, messages and the like that one command may ask for.
    static let countMax = 100_000
    /// Rounds of one `stabilize`; a group that has not settled by then never will.
    static let stabilizeRoundsMax = 2_000
    /// Messages in flight; a scenario that makes more runs in a circle.
    static let inFlightMax = 100_000
}
