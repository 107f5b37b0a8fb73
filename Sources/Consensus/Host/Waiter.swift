internal import Synchronization

/// One caller that waits for one answer: whoever answers first wins, later answers are ignored.
///
/// The answer goes to a closure given at the start, or to the task that awaits ``value()``; cancelling that task
/// answers with `.outcomeUnknown`.
package final class Waiter<Value: Sendable>: Sendable {
    package typealias Answer = Result<Value, ProposalError>

    private enum State {
        case pending
        case waiting(CheckedContinuation<Answer, Never>)
        case telling(@Sendable (Answer) -> Void)
        case answered(Answer)
        case finished
    }

    private let state: Mutex<State>

    /// For ``value()``.
    package init() { self.state = Mutex(.pending) }

    /// - Parameter answer: Called once, on the thread that answers: must return soon.
    package init(_ answer: @escaping @Sendable (Answer) -> Void) { self.state = Mutex(.telling(answer)) }

    /// To be called once, on a waiter without a closure.
    package func value() async throws(ProposalError) -> Value {
        let answer = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let early: Answer? = self.state.withLock { state in
                    switch state {
                    case .pending:
                        state = .waiting(continuation)
                        return nil
                    case .answered(let answer):
                        state = .finished
                        return answer
                    case .waiting, .telling, .finished:
                        preconditionFailure("an answer is waited for once")
                    }
                }
                if let early { continuation.resume(returning: early) }
            }
        } onCancel: {
            self.answer(.failure(ProposalError(code: .outcomeUnknown, message: "the caller was cancelled")))
        }
        return try answer.get()
    }

    /// Whether an answer was given, perhaps by a cancellation.
    package var isAnswered: Bool {
        self.state.withLock { state in
            switch state {
            case .pending, .waiting, .telling: false
            case .answered, .finished: true
            }
        }
    }

    package func answer(_ answer: Answer) {
        let before = self.state.withLock { state in
            let before = state
            switch state {
            case .pending: state = .answered(answer)
            case .waiting, .telling: state = .finished
            // A harmless race with a cancellation.
            case .answered, .finished: break
            }
            return before
        }
        switch before {
        case .waiting(let continuation): continuation.resume(returning: answer)
        case .telling(let tell): tell(answer)
        case .pending, .answered, .finished: break
        }
    }

    func fail(_ code: ProposalError.Code, _ message: String, cause: (any Error)? = nil) {
        self.answer(.failure(ProposalError(code: code, message: message, cause: cause)))
    }
}
