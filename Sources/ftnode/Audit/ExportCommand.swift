internal import ArgumentParser
internal import Crypto
internal import Foundation
internal import NIOCore
internal import NodeRuntime
internal import Primitives

extension AuditCommand {
    enum ExportFormat: String, ExpressibleByArgument, CaseIterable {
        case package
        case json
        case ndjson
        case csv
        case parquet
    }

    struct Export: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "export",
            abstract: "Export an organization's records, with everything that proves them.",
            discussion: """
                A package is a ZIP that can be verified without the cluster: ftverify, ftnode audit verify-package, a \
                page of Python, or tools of other makers. Without filters it holds every record up to the checkpoint; \
                with filters, the records that they find and the proof that the others exist. The other formats hold \
                records only; what they are of is written beside them, to FILE.manifest.json.

                The export is itself a record of the organization, and a second one names the SHA-256 and the size of what \
                was sent. --reveal is recorded with the data subjects concerned.

                Examples:
                  ftnode audit export --org lab-a --output lab-a.zip
                  ftnode audit export --org lab-a --entity-type batch --from 2026-01-01T00:00:00Z --output batches.zip
                  ftnode audit export --org lab-a --first 100 --last 200 --format csv --output rows.csv
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: ArgumentHelp("Where to write.", valueName: "file"))
        var output: String
        @Option(help: "The form of the export.")
        var format = ExportFormat.package
        @Option(help: "Only records of entities of this type.")
        var entityType: String?
        @Option(help: "Only records of this entity.")
        var entityID: String?
        @Option(help: "Only records of this actor.")
        var actor: String?
        @Option(help: "Only records of this action.")
        var action: String?
        @Option(help: ArgumentHelp("Only records recorded at or after this time (RFC 3339).", valueName: "time"))
        var from: String?
        @Option(help: ArgumentHelp("Only records recorded before this time (RFC 3339).", valueName: "time"))
        var to: String?
        @Option(help: ArgumentHelp("Only records whose reason contains this.", valueName: "text"))
        var reason: String?
        @Option(help: "Only records of this severity: info, notice, warning, critical.")
        var severity: String?
        @Option(help: ArgumentHelp("Only records whose compliance context has this.", valueName: "text|POINTER=text"))
        var compliance: String?
        @Option(help: ArgumentHelp("Only records from this sequence on.", valueName: "sequence"))
        var first: UInt64?
        @Option(help: ArgumentHelp("Only records up to this sequence.", valueName: "sequence"))
        var last: UInt64?
        @Option(help: ArgumentHelp("The stored checkpoint to end at (else one is made now).", valueName: "size"))
        var checkpoint: UInt64?
        @Option(help: ArgumentHelp("An earlier stored checkpoint that the package shall continue.", valueName: "size"))
        var since: UInt64?

        @Flag(help: "Open the personal values of the records in the package, as far as your role may see them.")
        var reveal = false

        private var parameters: [(String, String)] {
            let choices: [(String, String?)] = [
                ("format", self.format.rawValue), ("entity_type", self.entityType), ("entity_id", self.entityID),
                ("actor", self.actor), ("action", self.action), ("from", self.from), ("to", self.to),
                ("reason", self.reason), ("severity", self.severity), ("compliance", self.compliance),
                ("first", self.first.map(String.init)), ("last", self.last.map(String.init)),
                ("size", self.checkpoint.map(String.init)), ("since", self.since.map(String.init)),
                ("personal", self.reveal ? "reveal" : nil),
            ]
            return choices.compactMap { name, value in value.map { (name, $0) } }
        }

        mutating func run() async throws {
            let order = ExportOrder(organization: self.org, parameters: self.parameters)
            let (output, format) = (self.output, self.format)
            try await self.connection.withClient { client in
                let sink = try OutputFile(path: output)
                var hash = SHA256()
                var count = 0
                let manifest = try await client.export(order) { chunk in
                    let bytes = Array(chunk.readableBytesView)
                    hash.update(data: bytes)
                    count += bytes.count
                    try Terminal.write(bytes, to: sink.descriptor)
                }
                try sink.commit()
                let digest = Hex.encode(Array(hash.finalize()))
                if format != .package {
                    let text = "{\"export\":\(manifest),\"sha256\":\"\(digest)\",\"size\":\(count)}\n"
                    let beside = try OutputFile(path: output + ".manifest.json")
                    try Terminal.write(Array(text.utf8), to: beside.descriptor)
                    try beside.commit()
                }
                Terminal.out("\(output): \(Grouped.number(count)) bytes, SHA-256 \(digest)\n\(manifest)\n")
            }
        }
    }
}
