internal import Foundation
internal import Testing

extension RealCluster.Shared {
    @Suite("A lake beside the cluster")
    struct LakeTests {
        /// Made by `scripts/setup.sh test`.
        private static let python = FileManager.default.currentDirectoryPath + "/.clients/bin/python"
        private static let script = FileManager.default.currentDirectoryPath + "/Tests/Clients/lake_clients.py"

        @Test(.timeLimit(.minutes(3)))
        func holdsEveryRecordOnceAndComesBackIn() async throws {
            let cluster = try #require(DevCluster.shared)
            try #require(
                FileManager.default.isExecutableFile(atPath: Self.python),
                "the clients are missing: scripts/setup.sh test"
            )
            let created = try await cluster.send(
                "POST",
                "/v1/organizations",
                node: 1,
                body: #"{"key":"lake-lab","name":"Lake"}"#
            )
            #expect(created.status == 201, "\(created)")
            let lake = cluster.folder.file("lake")
            let events = (1...45).map { number in
                #"{"organization":"lake-lab","action":"create","entity_type":"flask","entity_id":"f-\#(number)","#
                    + #""after":{"volume":\#(number)}}"#
            }
            let file = try cluster.folder.write((events.joined(separator: "\n") + "\n").utf8, to: "lake.ndjson")
            let imported = try await cluster.ftnode("import", file)
            #expect(imported.ending == .exited(0), "\(imported.output)")

            let export = ["export", "--lake", lake, "--org", "lake-lab", "--rows", "20"]
            // 45 events: two full ranges; each file adds two records of its own, 49 then.
            try await Self.run(cluster, export)
            try await Self.check(lake, count: 40)
            try await Self.run(cluster, export)
            try await Self.check(lake, count: 40)
            try await Self.run(cluster, export + ["--all-now", "--checkpoint-every", "1"])
            try await Self.check(lake, count: 49)
            try await Self.checkWithoutCommits(lake, count: 49)

            let verification = try await cluster.ftnode("audit", "verify", "--org", "lake-lab")
            #expect(verification.ending == .exited(0), "\(verification.output)")
            try await Self.importTables(cluster, lake)
        }

        /// The checkpoint of the log says everything that its commits say, to readers that have nothing else.
        private static func checkWithoutCommits(_ lake: String, count: Int) async throws {
            let program = """
                import glob, os, shutil, sys, deltalake
                copy = sys.argv[1] + "-checkpoint"
                shutil.copytree(sys.argv[1] + "/audit_log", copy)
                before = deltalake.DeltaTable(copy)
                files, version = sorted(before.file_uris()), before.version()
                for commit in glob.glob(copy + "/_delta_log/*.json"):
                    os.remove(commit)
                table = deltalake.DeltaTable(copy)
                rows = table.to_pyarrow_table()
                assert table.version() == version and sorted(table.file_uris()) == files
                assert rows.num_rows == int(sys.argv[2]), rows.num_rows
                assert sorted(rows["sequence"].to_pylist()) == list(range(1, rows.num_rows + 1))
                print("ok without commits")
                """
            let result = try await ChildProgram.run(self.python, ["-c", program, lake, String(count)])
            #expect(result.output.contains("ok without commits"), "\(result.output)")
        }

        /// Rows that a program other than ours has written come in, and only once.
        private static func importTables(_ cluster: DevCluster, _ lake: String) async throws {
            let program = """
                import sys, pyarrow, pyarrow.ipc, pyarrow.parquet
                def table(kind):
                    return pyarrow.table({
                        "action": ["create"] * 30, "entity_type": [kind] * 30,
                        "entity_id": [f"{kind}-{number}" for number in range(30)],
                        "after": [{"volume": number} for number in range(30)],
                    })
                pyarrow.parquet.write_table(table("jar"), sys.argv[1] + "/jars.parquet")
                cans = table("can")
                with pyarrow.ipc.new_file(sys.argv[1] + "/cans.arrow", cans.schema) as writer:
                    writer.write_table(cans)
                tins = table("tin")
                with pyarrow.ipc.new_stream(sys.argv[1] + "/tins.arrows", tins.schema) as writer:
                    writer.write_table(tins, max_chunksize=7)
                """
            let made = try await ChildProgram.run(self.python, ["-c", program, cluster.folder.path])
            #expect(made.ending == .exited(0), "\(made.output)")
            for name in ["jars.parquet", "cans.arrow", "tins.arrows", "jars.parquet", "cans.arrow", "tins.arrows"] {
                let file = cluster.folder.file(name)
                try await self.run(cluster, ["import", file, "--org", "lake-lab"])
            }
            let counted = try await cluster.ftnode(
                "query",
                "select entity_type, count(*), sum((after->>'volume')::int) from audit_log "
                    + "where entity_type in ('jar', 'can', 'tin') group by 1 order by 1",
                "--org",
                "lake-lab",
                "--format",
                "csv"
            )
            #expect(counted.output.contains("can,30,435\r\njar,30,435\r\ntin,30,435"), "\(counted.output)")
        }

        private static func run(_ cluster: DevCluster, _ arguments: [String]) async throws {
            let result = try await ChildProgram.run(
                Programs.ftnode,
                arguments,
                environment: ["FTNODE_CONTEXT": cluster.contextFile]
            )
            #expect(result.ending == .exited(0), "\(arguments): \(result.output)")
        }

        private static func check(_ lake: String, count: Int) async throws {
            let result = try await ChildProgram.run(self.python, [self.script, lake, "lake-lab=\(count)"])
            #expect(result.ending == .exited(0), "\(result.output)")
            #expect(result.output.split(separator: "\n").filter { $0.hasPrefix("ok ") }.count == 4, "\(result.output)")
        }
    }
}
