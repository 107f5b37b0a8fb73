/// A sequential specification: what one client at a time would see.
package protocol SequentialModel {
    associatedtype State: Hashable
    associatedtype Input
    associatedtype Output

    /// Before the first operation.
    static var initial: State { get }

    /// The state after an operation, or nil when it could not have given this output in this state.
    /// - Parameter output: nil when the client never learned it: then any output will do.
    static func step(_ state: State, _ input: Input, _ output: Output?) -> State?
}

/// One operation of one client: when it was called, when it returned, and with what.
package struct ClientOperation<Model: SequentialModel> {
    package var client: Int
    package var input: Model.Input
    /// nil: the outcome is unknown, so the operation may take effect at any time after its call, or never.
    package var output: Model.Output?
    /// Time of the call, on a clock that all clients share; any unit.
    package var calledAt: UInt64
    /// Time of the return; ignored when the output is unknown.
    package var returnedAt: UInt64

    package init(client: Int, input: Model.Input, output: Model.Output?, calledAt: UInt64, returnedAt: UInt64) {
        precondition(output == nil || calledAt <= returnedAt, "an operation returns after its call")
        self.client = client
        self.input = input
        self.output = output
        self.calledAt = calledAt
        self.returnedAt = returnedAt
    }
}

extension ClientOperation: Sendable where Model.Input: Sendable, Model.Output: Sendable {}

/// What the checker says of a history.
package enum Verdict: Sendable, Equatable {
    /// There is an order of the operations, compatible with real time, that one client at a time could have seen.
    case linearizable
    /// There is none. `longestPrefix`: how many operations the best attempt explained; `stuckAt`: those, by place in the
    /// history, of which none could come next.
    case violation(longestPrefix: Int, stuckAt: [Int])
    /// The search took more steps than it may: neither proved.
    case undecided(steps: Int)
}
