internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("The cluster client")
struct ClientTests {
    @Test func readsAContextRelativeToItsFile() throws {
        let context = try ClientContext.parse(
            "addresses: [https://127.0.0.1:8443, \"https://[::1]:8444/\", https://db.example.org]\nca: pki/ca.pem\ntoken: ft_1\n",
            path: "/etc/ft/client.yaml"
        )
        #expect(context.addresses.map(\.description) == ["127.0.0.1:8443", "[::1]:8444", "db.example.org:443"])
        #expect(context.caFile == "/etc/ft/pki/ca.pem")
        #expect(context.token == "ft_1")
        let written = ClientContext.text(addresses: ["127.0.0.1:8443"], caFile: "pki/ca.pem", token: "ft_1")
        #expect(try ClientContext.parse(written, path: "/etc/ft/client.yaml").addresses.count == 1)
    }

    @Test(arguments: [
        ("addreses: []", "/c.yaml:1: unknown key \"addreses\"; did you mean \"addresses\"?"),
        ("addresses: [http://a:1]\ntoken: x", "/c.yaml:1: \"http://a:1\" is not https://HOST:PORT"),
        ("token: x", "/c.yaml: addresses must be given: a list of https:// URLs"),
        ("addresses: [https://a:1]", "/c.yaml: token must be given"),
        ("addresses: [https://a:1]\ntoken: \"a b\"", "/c.yaml:2: token must be 1 to 512 visible ASCII characters"),
        ("- 1", "/c.yaml must be a mapping of addresses, ca, token"),
    ])
    func refusesAContextThatIsWrong(text: String, message: String) {
        let error = #expect(throws: ClientError.self) { try ClientContext.parse(text, path: "/c.yaml") }
        #expect(error?.message == message)
    }

    @Test func findsTheContextByFlagThenEnvironmentThenHome() {
        let environment = ["FTNODE_CONTEXT": "/e", "HOME": "/h"]
        #expect(ClientContext.path(explicit: "/x", environment: environment) == "/x")
        #expect(ClientContext.path(explicit: nil, environment: environment) == "/e")
        #expect(ClientContext.path(explicit: nil, environment: ["HOME": "/h"]) == "/h/.config/ftnode/client.yaml")
    }

    @Test func goesToTheNextAddressAtOnceAndWaitsAfterEachRound() {
        var policy = RetryPolicy(budget: .seconds(100), addressCount: 3)
        var pauses: [Duration] = []
        for _ in 0..<24 {
            guard case .retry(let pause) = policy.next(after: .notSent, mayRepeat: false, elapsed: .zero, jitter: 1)
            else { break }
            pauses.append(pause)
        }
        #expect(pauses[0...5] == [.zero, .zero, .milliseconds(50), .zero, .zero, .milliseconds(100)])
        #expect(pauses.max() == RetryPolicy.pauseMax)
        #expect(pauses.count == 24)
    }

    @Test func repeatsOnlyWhatMayBeRepeated() {
        func first(_ failure: RetryPolicy.Failure, mayRepeat: Bool) -> RetryPolicy.Decision {
            var policy = RetryPolicy(budget: .seconds(10), addressCount: 2)
            return policy.next(after: failure, mayRepeat: mayRepeat, elapsed: .zero, jitter: 0)
        }
        #expect(first(.unknown, mayRepeat: false) == .giveUp)
        #expect(first(.unknown, mayRepeat: true) == .retry(after: .zero))
        #expect(first(.unavailable(retryAfterSeconds: nil, mayHaveActed: true), mayRepeat: false) == .giveUp)
        #expect(
            first(.unavailable(retryAfterSeconds: nil, mayHaveActed: false), mayRepeat: false) == .retry(after: .zero)
        )
        #expect(first(.notSent, mayRepeat: false) == .retry(after: .zero))
    }

    @Test func obeysRetryAfterWithinReasonAndStopsAtTheBudget() {
        var policy = RetryPolicy(budget: .seconds(20), addressCount: 1)
        let failure = RetryPolicy.Failure.unavailable(retryAfterSeconds: 3, mayHaveActed: false)
        #expect(policy.next(after: failure, mayRepeat: true, elapsed: .zero, jitter: 0) == .retry(after: .seconds(3)))
        let long = RetryPolicy.Failure.unavailable(retryAfterSeconds: 9999, mayHaveActed: false)
        #expect(policy.next(after: long, mayRepeat: true, elapsed: .zero, jitter: 0) == .retry(after: .seconds(10)))
        #expect(policy.next(after: failure, mayRepeat: true, elapsed: .seconds(18), jitter: 0) == .giveUp)
    }

    @Test func triesEveryAddressOnceEvenWhenTheTimeIsOver() {
        var policy = RetryPolicy(budget: .seconds(5), addressCount: 3)
        let decisions = (1...3).map {
            policy.next(after: .notSent, mayRepeat: false, elapsed: .seconds(3 * $0), jitter: 0)
        }
        #expect(decisions == [.retry(after: .zero), .retry(after: .zero), .giveUp])
    }

    @Test func givesUpWhenEveryAddressHasAWrongCertificate() {
        var policy = RetryPolicy(budget: .seconds(100), addressCount: 2)
        #expect(policy.next(after: .wrongIdentity, mayRepeat: true, elapsed: .zero, jitter: 0) == .retry(after: .zero))
        #expect(policy.next(after: .wrongIdentity, mayRepeat: true, elapsed: .zero, jitter: 0) == .giveUp)
    }

    @Test func showsProblemsAndWhateverIsNone() {
        let body = Array(
            "{\"status\":404,\"code\":\"not_found\",\"detail\":\"no\\u001b[2J\",\"request_id\":\"9f\",\"line\":3}".utf8
        )
        let problem = ProblemDetails(status: 404, body: body, requestID: nil)
        #expect(problem.description == "not_found: no\\u001b[2J (request_id 9f)")
        #expect(problem.line == 3)
        let other = ProblemDetails(status: 502, body: Array("<html>".utf8), requestID: "ab")
        #expect(other.description == "http_502: the answer has status 502 and is no problem document (request_id ab)")
    }

    @Test func encodesQueriesAndConsistency() {
        #expect(APIRequest.target("/p", [("reason", "a b&c=ü")]) == "/p?reason=a%20b%26c%3D%C3%BC")
        #expect(QueryCall.consistencyJSON("eventual") == "\"eventual\"")
        #expect(QueryCall.consistencyJSON("lab-a=5,b=6") == "{\"at_least\":{\"lab-a\":5,\"b\":6}}")
        #expect(QueryCall.consistencyJSON("strong") == nil)
        #expect(QueryCall.consistencyJSON("lab-a=-1") == nil)
    }

    @Test func verificationShowsEveryReplicaAndEveryFinding() throws {
        var report = VerificationReport()
        let lines = [
            #"{"organization":"lab-b","status":"ok","size":42189,"root":"0123456789abcdef00","replicas":[{"node":1,"status":"ok","size":1,"root":"x","finding":null},{"node":2,"status":"ok"},{"node":3,"status":"ok"}]}"#,
            #"{"organization":"lab-a","status":"failed","size":7,"root":"ff","replicas":[{"node":1,"status":"ok"},{"node":2,"status":"failed","finding":{"sequence":7,"kind":"modified","detail":"checksum differs"}},{"node":3,"status":"unreachable","finding":null}]}"#,
            #"{"summary":{"organizations":2,"replicas":6,"records":126588,"failed":2,"elapsed_ms":2143}}"#,
        ]
        for line in lines.prefix(2) {
            report.add(try ClusterClient.decode(VerificationView.self, from: Array(line.utf8)))
        }
        #expect(!report.isGood)
        #expect(report.text.hasSuffix("\nthe answer broke off: NOT verified\n"))
        report.add(try ClusterClient.decode(VerificationView.self, from: Array(lines[2].utf8)))
        #expect(!report.isGood)
        #expect(
            report.text == """
                ORGANIZATION  RECORDS  ROOT              N1  N2   N3    RESULT
                lab-a               7  ff                ok  BAD  GONE  FAILED
                lab-b          42,189  0123456789abcdef  ok  ok   ok    ok

                findings:
                  node 2, organization lab-a, sequence 7: modified: checksum differs
                  node 3, organization lab-a: unreachable, not verified

                2 organizations, 6 replicas, 126,588 records checked in 2.1 s: 2 FAILED

                """
        )
    }

    @Test func verificationIsGoodOnlyWhenCompleteAndClean() throws {
        func report(failed: Int, organizations: Int, status: String) throws -> VerificationReport {
            var report = VerificationReport()
            report.add(
                try ClusterClient.decode(
                    VerificationView.self,
                    from: Array(
                        "{\"organization\":\"a\",\"status\":\"ok\",\"replicas\":[{\"node\":1,\"status\":\"\(status)\"}]}"
                            .utf8
                    )
                )
            )
            let summary =
                "{\"summary\":{\"organizations\":\(organizations),\"replicas\":1,\"records\":1,"
                + "\"failed\":\(failed),\"elapsed_ms\":1}}"
            report.add(try ClusterClient.decode(VerificationView.self, from: Array(summary.utf8)))
            return report
        }
        #expect(try report(failed: 0, organizations: 1, status: "ok").isGood)
        #expect(try !report(failed: 1, organizations: 1, status: "ok").isGood)
        #expect(try !report(failed: 0, organizations: 2, status: "ok").isGood)
        #expect(try !report(failed: 0, organizations: 1, status: "unreachable").isGood)
    }

    @Test func tablesAlignAndKeepTheTerminalSafe() {
        var table = TextTable(columns: ["name", "n"], right: [1])
        table.append(["a", "1"])
        table.append(["\u{1b}[31m\nb", "1000"])
        table.append(["only"])
        #expect(table.rendered() == "NAME              N\na                 1\n\\u001b[31m\\nb  1000\nonly\n")
    }

    @Test func writesNumbersForPeople() {
        #expect(
            [0, 999, 1000, 65_533, -1_234_567].map(Grouped.number) == ["0", "999", "1,000", "65,533", "-1,234,567"]
        )
        #expect([0.2134, 2.143, 99.96, 312.4].map(Grouped.seconds) == ["0.213 s", "2.1 s", "100.0 s", "312 s"])
        #expect([512, 3_250_586].map(Grouped.bytes) == ["512 B", "3.1 MiB"])
    }
}

@Suite("Parameters on the command line")
struct QueryCallParameterTests {
    @Test(arguments: [
        ("5", "5"), ("-2.5", "-2.5"), ("null", "null"), ("true", "true"), ("abc", "\"abc\""), ("", "\"\""),
        ("007", "\"007\""), ("0x10", "\"0x10\""), ("nan", "\"nan\""), ("-", "\"-\""), ("1e5", "1e5"), ("0.5", "0.5"),
        ("2026-01-01", "\"2026-01-01\""),
    ])
    func numbersAndWordsAreThemselvesAndTheRestIsText(typed: String, json: String) {
        #expect(QueryCall.parameterJSON(typed) == json)
    }
}
