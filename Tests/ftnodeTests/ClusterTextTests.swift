internal import ArgumentParser
internal import Foundation
internal import NodeRuntime
internal import Testing

@testable internal import ftnode

@Suite("What cluster commands print")
struct ClusterTextTests {
    private static let json = """
        {"cluster_id":"lab","feature_level":2,"recovery_epoch":0,"nodes":[
        {"id":1,"address":"a:1","peer_address":"a:2","region":"north","priority":0,"membership":"active",
         "feature_level":2,"state":"up","pid":7,"version":"0.1.0","uptime_seconds":61,"clock_offset_ms":0.000,
         "replicas":1,"leaders":1},
        {"id":2,"address":"b:1","peer_address":"b:2","region":"","priority":0,"membership":"draining",
         "feature_level":2,"state":"up","pid":8,"version":"0.1.0","uptime_seconds":3700,"clock_offset_ms":-12.345,
         "replicas":1,"leaders":0},
        {"id":3,"address":"c:1","peer_address":"c:2","region":"","priority":0,"membership":"removed",
         "feature_level":2,"state":"down","replicas":0,"leaders":0}],
        "groups":[{"id":0,"leader":null,"term":3,"joint":false,"asleep":false,"replicas":[
          {"node":1,"part":"voter","role":"follower","commit":9,"applied":9,"last":9,"lag":0},
          {"node":2,"part":"learner","role":null,"commit":null,"applied":null,"last":null,"lag":null}]},
         {"id":1,"leader":1,"term":4,"joint":true,"asleep":false,"replicas":[
          {"node":1,"part":"incoming","role":"leader","commit":12,"applied":12,"last":12,"lag":0},
          {"node":2,"part":"outgoing","role":"follower","commit":12,"applied":10,"last":12,"lag":2}]},
         {"id":2,"leader":1,"term":4,"joint":false,"asleep":true,"replicas":[
          {"node":1,"part":"voter","role":"leader","commit":5,"applied":5,"last":5,"lag":0}]}],
        "moves":[{"group":1,"action":"change_voters","node":1,"state":"running"}],"moves_left":2}
        """

    private static func view() throws -> ClusterView {
        try ClusterClient.decode(ClusterView.self, from: Array(Self.json.utf8))
    }

    @Test func statusShowsNodesGroupsAndMoves() throws {
        let squeezed = ClusterText.text(try Self.view()).split(separator: "\n").map {
            $0.split(separator: " ").joined(separator: " ")
        }
        #expect(
            squeezed == [
                "NODE STATE MEMBERSHIP REGION ADDRESS REPLICAS LEADERS CLOCK LEVEL VERSION UP",
                "1 up active north a:1 1 1 0.0 ms 2 0.1.0 1 min",
                "2 up draining - b:1 1 0 -12.3 ms 2 0.1.0 1 h 1 min",
                "GROUP LEADER TERM COMMIT N1 N2",
                "0 system none 3 9 9 - l",
                "1 node 1 4 12 changing 12 * + 10 (-2) -",
                "2 node 1 4 5 asleep 5 *",
                "GROUP MOVE NODE STATE",
                "1 change_voters 1 running",
                "and 2 more",
                "cluster lab: 2 of 2 nodes up, 2 of 3 groups have a leader, 1 asleep, feature level 2",
            ]
        )
    }

    @Test func statusShowsWorkersAndWhyTheyEnded() throws {
        let workers = """
            "workers":[{"name":"worker-0","pid":71,"uptime_seconds":61,"restarts":2,"memory_bytes":94371840,"open_stores":3,\
            "last_end":"ended, signal 9"},{"name":"engine","pid":null,"uptime_seconds":0,"restarts":0,"memory_bytes":0,\
            "open_stores":0,"last_end":null}]
            """
        let json = Self.json.replacing(
            "\"replicas\":1,\"leaders\":1}",
            with: "\"replicas\":1,\"leaders\":1,\(workers)}"
        )
        let text = ClusterText.text(try ClusterClient.decode(ClusterView.self, from: Array(json.utf8)))
        let squeezed = text.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
        #expect(squeezed.contains("1 worker-0 71 90 MiB 3 1 min 2 ended, signal 9"))
        #expect(squeezed.contains { $0.hasPrefix("1 engine starting 0 MiB 0 ") })
        #expect(try !ClusterText.text(Self.view()).contains("WORKER"), "nothing of nodes that say nothing")
    }

    @Test func statusCountsErasuresThatWait() throws {
        let audit = "\"audit\":{\"signing\":true,\"forks\":0,\"contradictions\":0,\"erasures_pending\":"
        func text(_ first: Int, _ second: Int) throws -> String {
            let json = Self.json
                .replacing("\"replicas\":1,\"leaders\":1}", with: "\"replicas\":1,\"leaders\":1,\(audit)\(first)}}")
                .replacing("\"replicas\":1,\"leaders\":0}", with: "\"replicas\":1,\"leaders\":0,\(audit)\(second)}}")
            return ClusterText.text(try ClusterClient.decode(ClusterView.self, from: Array(json.utf8)))
        }
        #expect(try text(2, 1).contains("ERASURES: 3 wait until every replica has destroyed its keys"))
        #expect(try text(0, 1).contains("ERASURES: 1 waits until"))
        #expect(try !text(0, 0).contains("ERASURES"))
    }

    @Test func aClusterIsSettledWhenNothingMovesOrWillMove() throws {
        var view = try Self.view()
        #expect(!view.isSettled)
        view.moves = []
        #expect(!view.isSettled)
        view.movesLeft = 0
        #expect(view.isSettled)
        #expect(!view.hasNoData(on: 2))
        view.groups.removeAll { $0.id == 1 }
        #expect(view.hasNoData(on: 2), "the system group is on every node")
    }

    @Test func addNodePrintsWhatTheConfigurationNeeds() throws {
        let settings = try ClusterCommand.AddNode.parse([
            "--id", "4", "--api", "d:1", "--peer", "d:2", "--region", "north",
        ])
        let added = try ClusterClient.decode(
            AddedNode.self,
            from: Array(#"{"id":4,"join_token":"ftj_x","expires_at":"2026-01-01T00:00:00Z"}"#.utf8)
        )
        #expect(
            ClusterCommand.AddNode.configurationLines(added, try Self.view(), settings) == """
                cluster:
                  id: lab
                  join_token: ftj_x
                  nodes:
                    - {id: 1, api: "a:1", peer: "a:2"}
                    - {id: 2, api: "b:1", peer: "b:2"}
                    - {id: 4, api: "d:1", peer: "d:2", region: north}
                node:
                  id: 4
                api: {listen: "d:1"}
                peer: {listen: "d:2"}

                """
        )
    }
}
