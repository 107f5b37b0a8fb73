internal import Synchronization

/// One caller that waits for one answer: whoever answers first wins, later answers are ignored.
///
/// Cancelling the waiting task answers with `.outcomeUnknown`.
final class Waiter<Value: Sendable>: Sendable {
    typealias Answer = Result<Value, ProposalError>

    private enum State {
        case pending
        case waiting(CheckedContinuation<Answer, Never>)
        case answered(Answer)
        case finished
    }

    private let state = Mutex(State.pending)

    /// To be called once.
    func value() async throws(ProposalError) -> Value {
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
                    case .waiting, .finished:
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
    var isAnswered: Bool {
        self.state.withLock { state in
            switch state {
            case .pending, .waiting: false
            case .answered, .finished: true
            }
        }
    }

    func answer(_ answer: Answer) {
        let waiting: CheckedContinuation<Answer, Never>? = self.state.withLock { state in
            switch state {
            case .pending:
                state = .answered(answer)
                return nil
            case .waiting(let continuation):
                state = .finished
                return continuation
            case .answered, .finished:
                // A harmless race with a cancellation.
                return nil
            }
        }
        waiting?.resume(returning: answer)
    }

    func fail(_ code: ProposalError.Code, _ message: String, cause: (any Error)? = nil) {
        self.answer(.failure(ProposalError(code: code, message: message, cause: cause)))
    }
}
