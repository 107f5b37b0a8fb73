internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Import plans batches that never duplicate")
struct ClientImportTests {
    private func line(_ organization: String, _ number: Int, padding: Int = 0) -> [UInt8] {
        let filler = String(repeating: "x", count: padding)
        return Array("{\"organization\":\"\(organization)\",\"action\":\"a\(number)\(filler)\"}".utf8)
    }

    private func plan(_ lines: [[UInt8]]) throws -> [ImportBatch] {
        var planner = ImportPlanner()
        var batches: [ImportBatch] = []
        for line in lines { batches += try planner.add(line[...]) }
        return batches + planner.finish()
    }

    private func mixed(_ count: Int, seed: UInt64) -> [[UInt8]] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { self.line("org-\(generator.next() % 5)", $0) }
    }

    @Test(arguments: [1 as UInt64, 2, 3, 4, 5])
    func keepsEveryLineOnceAndInOrder(seed: UInt64) throws {
        let lines = self.mixed(3000, seed: seed)
        let batches = try self.plan(lines)
        var byOrganization: [String: [UInt8]] = [:]
        var expected: [String: [UInt8]] = [:]
        for batch in batches {
            #expect(batch.lines.count <= ImportPlanner.batchRecordsMax, "seed \(seed)")
            let before = byOrganization[batch.organization.rawValue, default: []]
            #expect(batch.firstOrdinal == before.count { $0 == 10 }, "seed \(seed)")
            byOrganization[batch.organization.rawValue] = before + batch.bytes
        }
        for (index, line) in lines.enumerated() {
            let key = "org-\(String(decoding: line, as: UTF8.self).split(separator: "-")[1].prefix(1))"
            expected[key, default: []] += line + [10]
            #expect(batches.contains { $0.lines.contains(index + 1) } || index % 500 != 0)
        }
        #expect(byOrganization == expected, "seed \(seed)")
    }

    @Test func theSameInputGivesTheSameKeysAndAnyChangeOthers() throws {
        let lines = self.mixed(2500, seed: 9)
        let keys = try self.plan(lines).map(\.idempotencyKey)
        #expect(try self.plan(lines).map(\.idempotencyKey) == keys)
        #expect(Set(keys).count == keys.count)
        #expect(keys.allSatisfy { $0.count == 71 && $0.hasPrefix("import-") })
        var changed = lines
        changed[1200][30] ^= 1
        let others = try self.plan(changed).map(\.idempotencyKey)
        #expect(zip(keys, others).count { $0 != $1 } == 1)
    }

    @Test func theSameBytesAtAnotherPlaceHaveAnotherKey() throws {
        let twice = (0..<1000).map { _ in self.line("org-1", 7) }
        let keys = try self.plan(twice).map(\.idempotencyKey)
        #expect(keys.count == 2)
        #expect(keys[0] != keys[1])
    }

    @Test func cutsBatchesByBytesToo() throws {
        let lines = (0..<10).map { self.line("org-1", $0, padding: 1_000_000) }
        let batches = try self.plan(lines)
        #expect(batches.map(\.lines.count) == [3, 3, 3, 1])
        #expect(batches.allSatisfy { $0.bytes.count <= ImportPlanner.batchBytesMax })
    }

    @Test func keepsBackABoundedNumberOfBytesAndCutsAlikeAgain() throws {
        let lines = (0..<120).map { self.line("org-\($0)", $0, padding: 900) }
        func run() throws -> (early: Int, keys: [String]) {
            var planner = ImportPlanner(pendingBytesMax: 10_000)
            var batches: [ImportBatch] = []
            for line in lines { batches += try planner.add(line[...]) }
            return (batches.count, (batches + planner.finish()).map(\.idempotencyKey))
        }
        let first = try run()
        #expect(first.early >= 120 - 10_000 / 900)
        #expect(try run().keys == first.keys)
        #expect(first.keys.count == 120)
    }

    @Test(arguments: [
        ("{\"organization\":\"org-1\"", "line 3: "), ("[1]", "line 3: must be an object, is"),
        ("{\"action\":\"a\"}", "line 3: organization must be given as a text"),
        ("{\"organization\":7}", "line 3: organization must be given as a text"),
        ("{\"organization\":\"Org 1\"}", "line 3: organization must be 1 to 63 of a-z 0-9 -"),
        ("{\"organization\":\"a\",\"organization\":\"b\"}", "line 3: "),
    ])
    func namesTheLineThatIsNoEvent(bad: (line: String, message: String)) throws {
        var planner = ImportPlanner()
        _ = try planner.add(self.line("org-1", 1)[...])
        _ = try planner.add(Array("  \r".utf8)[...])
        let error = #expect(throws: ImportLineError.self) { _ = try planner.add(Array(bad.line.utf8)[...]) }
        #expect(error?.description.hasPrefix(bad.message) == true, "\(String(describing: error))")
    }

    @Test func refusesALineThatIsTooLongWithoutKeepingIt() throws {
        var cutter = LineCutter(bytesMax: ImportPlanner.lineBytesMax)
        var planner = ImportPlanner()
        let chunk = [UInt8](repeating: 0x61, count: 700_000)
        var lines: [Int] = []
        cutter.add(chunk) { lines.append($0.count) }
        var refusal: ImportLineError?
        do throws(ImportLineError) {
            try cutter.add(chunk) { (line) throws(ImportLineError) in _ = try planner.add(line) }
        } catch {
            refusal = error
        }
        #expect(refusal == ImportLineError(line: 1, message: "longer than 1048576 bytes"))
        #expect(lines.isEmpty)
    }

    @Test func cutsLinesHoweverTheChunksFall() {
        let text = Array("one\ntwo\n\nthree".utf8)
        for size in 1...text.count {
            var cutter = LineCutter(bytesMax: 100)
            var lines: [String] = []
            var start = 0
            while start < text.count {
                cutter.add(Array(text[start..<min(start + size, text.count)])) {
                    lines.append(String(decoding: $0, as: UTF8.self))
                }
                start += size
            }
            cutter.finish { lines.append(String(decoding: $0, as: UTF8.self)) }
            #expect(lines == ["one", "two", "", "three"])
        }
    }

    @Test func sendsOneOrganizationInOrderAndSeveralAtOnce() throws {
        var schedule = ImportSchedule()
        let batches = try self.plan((0..<12_000).map { self.line("org-\($0 % 12)", $0) })
        for batch in batches { schedule.enqueue(batch) }
        var sent: [String: [Int]] = [:]
        var inFlight: [OrganizationKey] = []
        while !schedule.isIdle {
            while let batch = schedule.next() {
                #expect(!inFlight.contains(batch.organization))
                inFlight.append(batch.organization)
                sent[batch.organization.rawValue, default: []].append(batch.firstOrdinal)
            }
            #expect(inFlight.count <= ImportSchedule.inFlightMax)
            schedule.finished(inFlight.removeFirst())
        }
        #expect(sent.count == 12)
        #expect(sent.values.allSatisfy { $0 == [0, 500] })
    }

    @Test func forgetsWhatWaitsButNotWhatIsInFlight() throws {
        var schedule = ImportSchedule()
        for batch in try self.plan((0..<1500).map { self.line("org-1", $0) }) { schedule.enqueue(batch) }
        let next = schedule.next()
        let first = try #require(next)
        schedule.drop()
        #expect(schedule.inFlightCount == 1)
        schedule.finished(first.organization)
        #expect(schedule.isIdle)
        #expect(schedule.next() == nil)
    }
}
