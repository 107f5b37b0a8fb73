internal import Columnar
internal import Foundation

/// One DuckDB in memory that holds the whole event log: what the cluster's answers are compared with.
struct Oracle {
    /// The questions of the acceptance list, over columns that the log and the cluster's table share.
    static let statements: [(name: String, sql: String)] = [
        (
            "counts by organization",
            "select organization, count(*) as records from audit_log group by organization order by organization"
        ),
        (
            "the ten cases touched by the most organizations",
            """
            select entity_id, count(distinct organization) as touched from audit_log
            group by entity_id order by touched desc, entity_id limit 10
            """
        ),
        (
            "median days from first to last event by organization",
            """
            select organization, median(days) as days from (
              select organization, entity_id, (epoch(max(occurred_at)) - epoch(min(occurred_at))) / 86400.0 as days
              from audit_log group by organization, entity_id)
            group by organization order by organization
            """
        ),
        (
            "events per month and action",
            "select strftime(occurred_at, '%Y-%m') as month, action, count(*) as events from audit_log "
                + "group by all order by all"
        ),
    ]

    /// The rows of each statement as JSON text, in the statements' order.
    static func answers(_ log: EventLog) async throws -> [String] {
        let threads = ColumnarThreads()
        do {
            let store = try await ColumnarStore.open(.memory, threads: threads)
            try await store.createTable(
                TableSchema(
                    name: "audit_log",
                    columns: [
                        ColumnDefinition("organization", .utf8), ColumnDefinition("entity_id", .utf8),
                        ColumnDefinition("action", .utf8), ColumnDefinition("occurred_at", .timestampMicros),
                    ]
                )
            )
            try await store.ingest(table: "audit_log", batch: self.batch(log), position: UInt64(log.events.count))
            var answers: [String] = []
            for statement in self.statements {
                let result = try await store.query(statement.sql)
                var encoder = try ResultEncoder(format: .json, schema: result.schema)
                var bytes = encoder.start()
                for try await batch in result.batches { bytes += try encoder.encode(batch) }
                bytes += encoder.finish()
                answers.append(try self.rows(bytes))
            }
            await store.close()
            await threads.shutdown()
            return answers
        } catch {
            await threads.shutdown()
            throw error
        }
    }

    private static func batch(_ log: EventLog) throws -> ColumnBatch {
        var columns = [
            ColumnBuilder(.utf8), ColumnBuilder(.utf8), ColumnBuilder(.utf8), ColumnBuilder(.timestampMicros),
        ]
        for event in log.events {
            columns[0].append(event.organization)
            columns[1].append(event.caseID)
            columns[2].append(event.action)
            columns[3].append(event.time)
        }
        return try ColumnBatch(columns: columns)
    }

    /// The rows of a result in the form `json`, as text that can be compared.
    static func rows(_ json: [UInt8]) throws -> String {
        let object = try JSONSerialization.jsonObject(with: Data(json)) as? [String: Any]
        guard let rows = object?["rows"] as? [Any] else { return "no rows: \(String(decoding: json, as: UTF8.self))" }
        return String(decoding: try JSONSerialization.data(withJSONObject: rows), as: UTF8.self)
    }
}
