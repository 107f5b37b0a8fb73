internal import Laboratory
internal import Primitives
internal import Storage
internal import Testing

@testable internal import NodeRuntime

@Suite("What a verification says")
struct ReplicasVerificationTests {
    private let root = Digest(words: (0, 0, 0, 1))

    private func entry() throws -> OrganizationEntry {
        OrganizationEntry(
            id: OrganizationID(1),
            key: try Fixture.key("lab-a"),
            name: "A",
            group: GroupID(1),
            createdAt: Timestamp(microseconds: 0)
        )
    }

    private func replica(
        _ node: UInt64,
        size: UInt64,
        _ finding: ReplicaReader.Verification.Finding? = nil
    )
        -> ReplicaReader.Verification
    {
        ReplicaReader.Verification(
            node: NodeID(node),
            outcome: .read(size: size, root: self.root, lastChecksum: .zero, finding: finding)
        )
    }

    private func lines(_ verifications: [ReplicaReader.Verification]) throws -> [String] {
        var summary = VerificationSummary()
        var json = JSONOutput()
        summary.write(try self.entry(), verifications, to: &json)
        summary.write(to: &json, elapsed: .milliseconds(7))
        return String(decoding: json.bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    private let zeros = String(repeating: "0", count: 64)
    private var rootText: String { String(repeating: "0", count: 63) + "1" }

    @Test func soundReplicasAreOneLineAndASummary() throws {
        let lines = try self.lines([self.replica(1, size: 5), self.replica(2, size: 4)])
        #expect(
            lines[0] == #"{"organization":"lab-a","status":"ok","size":5,"root":"\#(self.rootText)","replicas":["#
                + #"{"node":1,"status":"ok","size":5,"root":"\#(self.rootText)","#
                + #""last_checksum":"\#(self.zeros)","finding":null},"#
                + #"{"node":2,"status":"ok","size":4,"root":"\#(self.rootText)","#
                + #""last_checksum":"\#(self.zeros)","finding":null}]}"#
        )
        #expect(lines[1] == #"{"summary":{"organizations":1,"replicas":2,"records":9,"failed":0,"elapsed_ms":7}}"#)
    }

    @Test func aFindingFailsTheOrganizationAndIsNamed() throws {
        let finding = ReplicaReader.Verification.Finding(sequence: 3, kind: "modified", detail: "x")
        let lines = try self.lines([self.replica(1, size: 5), self.replica(2, size: 2, finding)])
        #expect(lines[0].contains(#""status":"failed","size":5"#))
        #expect(lines[0].contains(#""node":2,"status":"failed""#))
        #expect(lines[0].contains(#""finding":{"sequence":3,"kind":"modified","detail":"x"}"#))
        #expect(lines[1].contains(#""failed":1"#))
    }

    @Test func aReplicaThatCannotBeReachedFailsTheOrganization() throws {
        let away = ReplicaReader.Verification(node: NodeID(2), outcome: .unreachable("no connection"))
        #expect(!away.isSound)
        let lines = try self.lines([self.replica(1, size: 5), away])
        #expect(lines[0].contains(#"{"node":2,"status":"unreachable","detail":"no connection","finding":null}"#))
        #expect(lines[1].contains(#""failed":1"#))
    }
}
