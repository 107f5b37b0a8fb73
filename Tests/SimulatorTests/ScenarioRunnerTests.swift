internal import Consensus
internal import Foundation
internal import Primitives
internal import Testing

@testable internal import simulator

/// The runner sees what is wrong: each kind of expectation fails on a wrong state, each mistake in a file has its line.
struct ScenarioRunnerTests {
    static let elected = """
        add-nodes 3 voters=1,2,3 index=10 content=s
        campaign 1
        stabilize
        propose 1 a
        stabilize

        """

    private func findings(_ lines: String, after start: String = elected) throws -> [ScenarioRunner.Finding] {
        try ScenarioRunner(file: "t").run(start + lines).findings
    }

    @Test(arguments: [
        "node=1 role=leader term=1 vote=1 lead=1 commit=12 applied=12 first=11 last=12 sm=sa transferee=none",
        "node=1 at11=1/ at12=1/a at13=none type12=normal type11=empty match1=12 match2=12 match9=none progress2=replicate",
        "node=2 role=StateFollower voters=1,2,3 outgoing=none learners= learners-next=none auto-leave=false asleep=false",
        "node=2 role=!leader term=!2 vote=!2 at12=!2/a at12=!none sm=!s voters=!1,2 type12=!conf-change",
        "leader-count n=1",
        "in-flight n=0",
        "no-read ctx=x",
        "last-error none",
    ])
    func acceptsWhatIsSo(_ expectation: String) throws {
        #expect(try self.findings("expect " + expectation).isEmpty)
    }

    @Test(arguments: [
        "node=1 role=follower", "node=1 term=2", "node=1 vote=2", "node=1 vote=none", "node=1 lead=2",
        "node=1 commit=11", "node=1 applied=11", "node=1 first=12", "node=1 last=13", "node=1 sm=s", "node=1 sm=",
        "node=1 voters=1,2", "node=1 outgoing=1", "node=1 learners=3", "node=1 learners-next=3",
        "node=1 auto-leave=true", "node=1 transferee=2", "node=1 asleep=true", "node=1 at12=1/b", "node=1 at12=2/a",
        "node=1 at12=none", "node=1 at13=1/", "node=1 type12=conf-change", "node=1 type13=normal", "node=1 match2=11",
        "node=1 match2=none", "node=1 match9=12", "node=2 match1=12", "node=1 progress2=probe", "node=1 role=!leader",
        "node=1 at12=!1/a", "node=9 term=1", "leader-count n=2", "leader-count n=0", "in-flight n=1",
        "in-flight type=App", "read ctx=x min=1", "last-error dropped",
    ])
    func refusesWhatIsNotSo(_ expectation: String) throws {
        let findings = try self.findings("expect " + expectation)
        #expect(findings.count == 1)
        #expect(findings.first?.line == 6)
        #expect(findings.first?.rule == nil)
    }

    @Test func countsWhatIsInFlight() throws {
        let start = Self.elected + "propose 1 b\nprocess-ready 1\n"
        #expect(try self.findings("expect in-flight type=App from=1 n=2", after: start).isEmpty)
        #expect(try self.findings("expect in-flight type=App to=2 term=1 reject=false", after: start).isEmpty)
        #expect(try self.findings("expect in-flight type=App from=1 n=1", after: start).count == 1)
        #expect(try self.findings("expect in-flight type=App term=2", after: start).count == 1)
        #expect(try self.findings("expect in-flight type=App reject=true", after: start).count == 1)
    }

    @Test func tellsReadsApart() throws {
        let start = Self.elected + "read-index 1 r\nstabilize\n"
        #expect(try self.findings("expect read ctx=r min=12 node=1", after: start).isEmpty)
        #expect(try self.findings("expect read ctx=r min=13", after: start).count == 1)
        #expect(try self.findings("expect read ctx=r node=2", after: start).count == 1)
        #expect(try self.findings("expect no-read ctx=r", after: start).count == 1)
    }

    @Test func aRefusalNobodyLooksAtIsAFault() throws {
        #expect(try self.findings("propose 2 x").map(\.line) == [6])
        #expect(try self.findings("propose 2 x may-fail=true").isEmpty)
        #expect(try self.findings("propose 2 x\nexpect last-error dropped").isEmpty)
        #expect(try self.findings("propose 2 x\npropose 1 y\nexpect last-error none").map(\.line) == [6])
    }

    @Test(arguments: [
        "deliver type=Vote", "drop from=1", "dup to=2", "hold name=h", "hold-copy name=h", "release name=h",
        "process-append 1", "process-apply 1", "compact 1 11", "compact 1 99", "restart 1 applied=3", "sleep 2",
    ])
    func nothingToDoIsAFaultUnlessItMay(_ command: String) throws {
        #expect(try self.findings(command).count == 1)
        #expect(try self.findings(command + " may-fail=true").isEmpty)
    }

    @Test(arguments: [
        ("frobnicate 1", ScenarioError.Code.unknownCommand),
        ("campaign", .badArgument),
        ("campaign 1 2", .badArgument),
        ("campaign x", .badArgument),
        ("campaign 7", .noSuchThing),
        ("tick 1 often=3", .unknownArgument),
        ("tick 1 count=many", .badArgument),
        ("propose 1", .badArgument),
        ("deliver type=Nothing", .badArgument),
        ("deliver local=perhaps", .badArgument),
        ("hold to=1", .badArgument),
        ("block from=1", .badArgument),
        ("add-nodes 1 index=4", .badArgument),
        ("add-nodes 1 voters=1,1", .badArgument),
        ("add-nodes 1 voters=1 learners=1", .badArgument),
        ("add-nodes 1 voters=1 prevote=maybe", .badArgument),
        ("add-nodes 1 voters=1 read-only=lease-based", .badArgument),
        ("add-nodes 1 voters=1 election-tick=1", .badArgument),
        ("add-nodes 1 colour=red", .unknownArgument),
        ("add-nodes 99", .badArgument),
        ("propose-conf-change 1 changes=x4", .badArgument),
        ("propose-conf-change 1 transition=sideways changes=v4", .badArgument),
        ("propose-conf-change 1 v1=true changes=v4,v5", .badArgument),
        ("report-snapshot 1 2 status=so-so", .badArgument),
        ("campaign 1 may-fail=yes", .badArgument),
        ("campaign \"1", .badArgument),
        ("expect", .badArgument),
        ("expect node=1", .badArgument),
        ("expect node=1 colour=red", .unknownArgument),
        ("expect node=1 role=king", .badArgument),
        ("expect node=1 term=one", .badArgument),
        ("expect node=1 at12=x/a", .badArgument),
        ("expect harmony", .unknownArgument),
        ("expect in-flight type=Gossip", .badArgument),
        ("expect last-error perhaps", .badArgument),
    ])
    func namesTheLineOfAMistake(_ line: String, _ code: ScenarioError.Code) throws {
        let error = #expect(throws: ScenarioError.self) { try self.findings("\n# a comment\n" + line) }
        #expect(error?.code == code)
        #expect(error?.line == 8)
        #expect(error?.description.hasPrefix("t:8: ") == true)
    }

    @Test func commentsQuotesAndEmptyLinesAreNotCommands() throws {
        let text =
            "# first\n\nadd-nodes 1 voters=1 index=2 # a comment\ncampaign 1\nstabilize\npropose 1 \"a b#c\"\nstabilize\nexpect node=1 \"sm=a b#c\"\n"
        #expect(try self.findings(text, after: "").isEmpty)
    }

    @Test func aChangeThatIsNotAdoptedLeavesAnEmptyEntry() throws {
        let lines = "propose-conf-change 1\nexpect node=1 type13=normal at13=1/\nexpect last-error none\n"
        #expect(try self.findings(lines).isEmpty)
    }

    @Test func tracesEachCommandAsOneLineOfJSON() throws {
        var lines: [String] = []
        var runner = ScenarioRunner(file: "t")
        runner.trace = { lines.append($0) }
        _ = try runner.run(Self.elected + "propose 2 x may-fail=true\npropose 1 b\nprocess-ready 1\n")
        #expect(lines.count == 8)
        let objects = try lines.map { line in
            try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        }
        for key in ["line", "cmd", "args", "input", "error", "quiescent", "nodes", "in_flight"] {
            #expect(objects.allSatisfy { $0[key] != nil }, "\(key)")
        }
        #expect(objects[2]["quiescent"] as? Bool == true)
        #expect(objects[5]["error"] as? String == "raft proposal dropped")
        #expect(objects[6]["error"] as? String == "")
        #expect(objects[6]["quiescent"] as? Bool == false)
        let messages = try #require(objects[7]["in_flight"] as? [[String: Any]])
        #expect(messages.map { $0["type"] as? String } == ["App", "App"])
        let nodes = try #require(objects[7]["nodes"] as? [[String: Any]])
        #expect(nodes.map { $0["role"] as? String } == ["leader", "follower", "follower"])
        let keys = [
            "term", "vote", "lead", "commit", "applied", "conf", "progress", "hard_state", "log", "sm", "pending",
            "config",
        ]
        for key in keys { #expect(nodes[0][key] != nil, "\(key)") }
    }
}
