internal import Foundation
internal import Shards

/// What chain, tree and tree nodes cost: the same commands applied with them and without, in turns.
///
/// CPU time of the whole process counts, so that what RocksDB does behind the writes (flushes and compactions of tree
/// nodes too) is a part of it.
struct LedgerAppendCost {
    let folder: String
    let records: Int
    let size: Int

    private static let rounds = 5

    func measure(into results: String) throws {
        try self.measure("ledger_apply_single", batch: 1, commandsPerTurn: 64, into: results)
        try self.measure("ledger_apply_batched", batch: 500, commandsPerTurn: 8, into: results)
    }

    private func measure(_ name: String, batch: Int, commandsPerTurn: Int, into results: String) throws {
        var microseconds: [[Double]] = [[], []]
        for round in 0..<Self.rounds {
            for side in round % 2 == 0 ? [0, 1] : [1, 0] {
                let path = "\(self.folder)/cost"
                try? FileManager.default.removeItem(atPath: path)
                do {
                    let ledger = try LedgerFolder(
                        path: path,
                        eventBytes: self.size,
                        faults: side == 0 ? [] : .chainAndTreeLeftOut
                    )
                    try ledger.append(self.records / 10, batch: batch, commandsPerTurn: commandsPerTurn)
                    let turns = try ledger.prepare(self.records, batch: batch, commandsPerTurn: commandsPerTurn)
                    let begin = CPUUsage.processSeconds
                    try ledger.apply(turns)
                    try ledger.flush()
                    microseconds[side].append((CPUUsage.processSeconds - begin) / Double(self.records) * 1e6)
                }
                try FileManager.default.removeItem(atPath: path)
            }
        }
        for (side, system) in ["ours", "bare"].enumerated() {
            let median = microseconds[side].sorted()[Self.rounds / 2]
            try Measurement(system: system, name: name, milliseconds: median / 1000).record(in: results)
            print("ledger: \(system) \(name): \(Format.fixed(median, 2)) us of CPU a record")
        }
    }
}
