internal import AuditLedger
internal import Foundation
internal import HTTPTypes
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage
internal import Testing
internal import Transport

@testable internal import NodeRuntime

@Suite("Problem documents")
struct APIProblemTests {
    @Test func aDocumentHasItsMembersInOrder() throws {
        let problem = Problem(
            .malformedJSON,
            "line 3: \"x\"",
            members: [.number("line", 3), .text("pointer", "/a\n")],
            cause: CancellationError()
        )
        let response = problem.response(requestID: "r-1")
        #expect(
            try Fixture.text(response)
                == #"{"type":"urn:flasktrack:problem:malformed_json","title":"Malformed JSON","status":400,"#
                + #""code":"malformed_json","detail":"line 3: \"x\"","request_id":"r-1","line":3,"pointer":"/a\u000a"}"#
        )
        #expect(response.head.status == .badRequest)
        #expect(response.head.headerFields[.contentType] == "application/problem+json")
        #expect(response.head.headerFields[.requestID] == "r-1")
        #expect(response.head.headerFields[.retryAfter] == nil)
    }

    @Test func answersThatMayBeTriedAgainSayWhen() {
        #expect(Problem(.noLeader, "").headers[.retryAfter] == "1")
        #expect(Problem(.overloaded, "").headers[.retryAfter] == "1")
        #expect(Problem(.unauthenticated, "").headers[.wwwAuthenticate] == "Bearer")
    }

    @Test func titlesAreWordsForPeople() {
        for code in Problem.Code.allCases {
            #expect(code.title.first?.isUppercase == true, "\(code)")
            #expect(!code.title.contains("_"), "\(code)")
        }
        #expect(Problem.Code.organizationNotFound.title == "Organization not found")
    }

    /// The rows of the table of errors in `Documentation/api.md`: status and codes.
    private static func documentedCodes() throws -> [String: Int] {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = try String(contentsOf: root.appending(path: "Documentation/api.md"), encoding: .utf8)
        return Self.codes(in: text)
    }

    private static func codes(in text: String) -> [String: Int] {
        var codes: [String: Int] = [:]
        for line in text.split(separator: "\n") where line.hasPrefix("| ") {
            let cells = line.split(separator: "|")
            guard cells.count >= 2, let status = Int(cells[0].trimmingCharacters(in: .whitespaces)) else { continue }
            for (place, part) in cells[1].split(separator: "`", omittingEmptySubsequences: false).enumerated()
            where place % 2 == 1 {
                codes[String(part)] = status
            }
        }
        return codes
    }

    @Test func everyCodeIsDocumentedWithItsStatusAndNoOther() throws {
        let documented = try Self.documentedCodes()
        for code in Problem.Code.allCases {
            #expect(documented[code.rawValue] == code.status.code, "\(code.rawValue) in Documentation/api.md")
        }
        #expect(Set(documented.keys).subtracting(Problem.Code.allCases.map(\.rawValue)) == [])
        // The reader of the table sees a wrong status.
        #expect(Self.codes(in: "| 400 | `a`, `b_c` | x |\n| 503 | `d` | |") == ["a": 400, "b_c": 400, "d": 503])
    }

    @Test func everyErrorOfTheLayersBelowHasItsCode() {
        let expected: [(any Error, Problem.Code)] = [
            (Problem(.forbidden, ""), .forbidden),
            (CommandGateway.Failure.noLeader, .noLeader),
            (CommandGateway.Failure.noQuorum, .noQuorum),
            (CommandGateway.Failure.outcomeUnknown, .outcomeUnknown),
            (CommandGateway.Failure.overloaded, .overloaded),
            (CommandGateway.Failure.tooLarge, .batchTooLarge),
            (CommandGateway.Failure.stopping, .shuttingDown),
            (ReadGate.Failure.noLeader, .noLeader),
            (ReadGate.Failure.noQuorum, .noQuorum),
            (ReadGate.Failure.notHosted, .shardUnavailable),
            (ReadGate.Failure.stopping, .shuttingDown),
            (ShardError(code: .projectionBehind, message: ""), .queryUnavailable),
            (ShardError(code: .stopped, message: ""), .shuttingDown),
            (ShardError(code: .damaged, message: ""), .shardUnavailable),
            (LedgerError(code: .damaged, message: ""), .shardUnavailable),
            (LedgerError(code: .storage, message: ""), .internal),
            (StorageError(code: .busy, message: ""), .overloaded),
            (StorageError(code: .io, message: ""), .internal),
            (QueryError(.syntax, ""), .sqlSyntax),
            (QueryError(.notAllowed, ""), .sqlNotAllowed), (QueryError(.quarantined, ""), .sqlQuarantined),
            (QueryError(.timeLimit, ""), .queryTimeLimit),
            (QueryError(.memoryLimit, ""), .queryMemoryLimit),
            (QueryError(.unavailable, ""), .queryUnavailable),
            (CancellationError(), .shuttingDown),
        ]
        for (error, code) in expected { #expect(Problem.wrapping(error).code == code, "\(error)") }
    }

    @Test func anUnknownErrorTellsTheClientNothing() {
        struct Secret: Error, CustomStringConvertible { var description: String { "password" } }
        let problem = Problem.wrapping(Secret())
        #expect(problem.code == .internal)
        #expect(!problem.detail.contains("password"))
    }

    @Test func everyRefusalHasACode() {
        let codes: [(Refusal, Problem.Code)] = [
            (.malformed, .internal), (.wrongGroup, .internal), (.organizationExists, .organizationExists),
            (.idempotencyKeyReused, .idempotencyKeyReused), (.tokenExists, .internal),
            (.tokenNotFound, .tokenNotFound), (.notBootstrapped, .noLeader),
            (.lastOperatorToken, .lastOperatorToken), (.organizationNotFound, .organizationNotFound),
            (.nodeExists, .nodeExists), (.nodeNotFound, .nodeNotFound), (.nodeRemoved, .nodeRemoved),
            (.joinTokenInvalid, .forbidden), (.reservedKey, .reservedKey), (.featureUnsupported, .featureUnsupported),
            (.staleChange, .changePending), (.stateNotAllowed, .stateNotAllowed), (.groupNotFound, .groupNotFound),
            (.targetNotAllowed, .replicasInvalid), (.addressUsed, .addressTaken), (.notEnoughNodes, .notEnoughNodes),
            (.tooMany, .tooMany), (.keyExists, .keyExists), (.keyNotFound, .keyNotFound),
            (.subjectUnknown, .subjectNotFound), (.legalHold, .legalHold), (.alreadyErased, .alreadyErased),
            (.subjectErased, .subjectErased),
        ]
        #expect(codes.count == Refusal.allCases.count)
        for (refusal, code) in codes { #expect(Problem(refusal: refusal).code == code, "\(refusal)") }
    }

    @Test(arguments: [
        (#"{"action":1}"#, Problem.Code.invalidField), (#"{"a":}"#, .malformedJSON), (#"{"nope":1}"#, .unknownField),
        (#"{"action":"a","action":"b"}"#, .duplicateKey), (#"{"action":"a","entity_type":"t"}"#, .invalidField),
        (#"{"action":"a","entity_type":"t","entity_id":"1","after":1e400}"#, .numberNotRepresentable),
    ])
    func badEventsAreNamed(event: String, code: Problem.Code) {
        do {
            _ = try Fixture.draft(event)
            Issue.record("\(event) was taken")
        } catch {
            #expect(Problem.wrapping(error).code == code, "\(event): \(error)")
        }
    }
}
