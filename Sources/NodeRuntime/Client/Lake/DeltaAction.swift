internal import Foundation

/// One line of a commit of a Delta Lake transaction log; exactly one member is set, none for kinds that are not read here.
///
/// - Source: the Delta transaction log protocol, sections "Actions" and "Delta Log Entries", reader version 1, writer
///   version 2.
package struct DeltaAction: Sendable, Equatable, Codable {
    /// Versions of the protocol that a program must know.
    package struct VersionsNeeded: Sendable, Equatable, Codable {
        package var minReaderVersion: Int
        package var minWriterVersion: Int
    }

    /// The form of the data files.
    package struct Format: Sendable, Equatable, Codable {
        package var provider: String
        package var options: [String: String]
    }

    /// The table's columns.
    package struct Metadata: Sendable, Equatable, Codable {
        package var id: String
        package var name: String?
        package var description: String?
        package var format: Format
        /// The columns as JSON; see ``LakeColumns``.
        package var schemaString: String
        package var partitionColumns: [String]
        package var configuration: [String: String]
        /// Milliseconds since 1970.
        package var createdTime: Int64?
    }

    /// A data file becomes part of the table.
    package struct Add: Sendable, Equatable, Codable {
        /// Relative to the table, percent-encoded.
        package var path: String
        package var partitionValues: [String: String?]
        /// In bytes.
        package var size: Int64
        /// Milliseconds since 1970.
        package var modificationTime: Int64
        package var dataChange: Bool
        /// JSON; see ``Statistics``.
        package var stats: String?
        package var tags: [String: String?]?
    }

    /// A data file is no longer part of the table.
    package struct Remove: Sendable, Equatable, Codable {
        package var path: String
    }

    /// How far an application has come.
    package struct Transaction: Sendable, Equatable, Codable {
        package var appId: String
        package var version: Int64
        /// Milliseconds since 1970.
        package var lastUpdated: Int64?
    }

    /// What made the commit; nobody depends on it.
    package struct CommitInfo: Sendable, Equatable, Codable {
        /// Milliseconds since 1970.
        package var timestamp: Int64?
        package var operation: String?
        package var operationParameters: [String: String]?
        package var engineInfo: String?
    }

    /// What readers may skip a file by.
    package struct Statistics: Sendable, Equatable, Codable {
        package var numRecords: Int64
        package var minValues: [String: Int64]
        package var maxValues: [String: Int64]
        package var nullCount: [String: Int64]
    }

    package var `protocol`: VersionsNeeded?
    package var metaData: Metadata?
    package var add: Add?
    package var remove: Remove?
    package var txn: Transaction?
    package var commitInfo: CommitInfo?

    /// Nothing; set one member.
    package init() {}

    /// An action with one member set by `fill`.
    static func with(_ fill: (inout DeltaAction) -> Void) -> DeltaAction {
        var action = DeltaAction()
        fill(&action)
        return action
    }
}

/// Commits of a Delta log as bytes: one action a line.
package enum DeltaCommit {
    /// Most bytes of one commit that is read.
    package static let bytesMax = 64 << 20

    /// The file name of a commit.
    package static func fileName(_ version: Int64) -> String {
        let digits = String(version)
        return String(repeating: "0", count: max(0, 20 - digits.count)) + digits + ".json"
    }

    /// The version that a file of the log is the commit of; nil for other files.
    package static func version(ofFile name: String) -> Int64? {
        guard name.hasSuffix(".json"), name.utf8.count == 25 else { return nil }
        let digits = name.dropLast(5)
        return digits.allSatisfy { $0.isASCII && $0.isNumber } ? Int64(digits) : nil
    }

    package static func encode(_ actions: [DeltaAction]) throws -> [UInt8] {
        var bytes: [UInt8] = []
        for action in actions {
            bytes += try self.json(action)
            bytes.append(UInt8(ascii: "\n"))
        }
        return bytes
    }

    /// - Throws: ``ClientError`` `.badInput`, naming the version.
    package static func decode(_ bytes: [UInt8], version: Int64) throws(ClientError) -> [DeltaAction] {
        var actions: [DeltaAction] = []
        for line in bytes.split(separator: UInt8(ascii: "\n")) {
            do {
                actions.append(try JSONDecoder().decode(DeltaAction.self, from: Data(line)))
            } catch {
                throw ClientError(
                    .badInput,
                    "commit \(version) of the lake's log cannot be read: \(self.fileName(version)) is damaged",
                    cause: error
                )
            }
        }
        return actions
    }

    /// `value` as JSON, the same bytes for the same value.
    static func json(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(value))
    }
}
