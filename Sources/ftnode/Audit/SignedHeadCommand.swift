internal import ArgumentParser
internal import Foundation
internal import NodeRuntime

extension AuditCommand {
    struct ClearSignedHead: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "clear-signed-head",
            abstract: "Let a node sign again that had signed a head which contradicts the repaired history.",
            discussion: """
                A node never signs what contradicts a head that it signed before, also after its replica was repaired. \
                This replaces its memory of that head by the newest quorum-signed checkpoint, if the node's records lead \
                to that one. First the evidence is written to a new file: a note in which the node says what it had \
                signed. Then the cluster's ledger gets a record with head, evidence and reason, and only then the memory \
                is replaced. Fork proofs stay. It is never done by itself: find out first why the node signed that.

                Without --reason nothing is changed: the evidence is written and shown.

                Example:
                  ftnode audit clear-signed-head --org lab-a --node 2 --evidence lab-a-node2.note \\
                    --reason "disk replaced, ticket 4711"
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: ArgumentHelp("The organization.", valueName: "key"))
        var org: String
        @Option(help: ArgumentHelp("The node that had signed.", valueName: "id"))
        var node: Int
        @Option(help: ArgumentHelp("Where to write the evidence; must not exist.", valueName: "file"))
        var evidence: String
        @Option(help: "Why, for the record.")
        var reason: String?

        mutating func validate() throws {
            if self.node < 1 { throw ValidationError("--node is at least 1") }
            if self.reason?.isEmpty ?? false { throw ValidationError("--reason is empty") }
        }

        mutating func run() async throws {
            let (org, node, file, reason) = (self.org, self.node, self.evidence, self.reason)
            try await self.connection.withClient { client in
                let found = try await client.signedHead(org, node: node)
                try Self.keep(found.evidence, in: file)
                Terminal.out("evidence: \(file)\n")
                guard let reason else {
                    Terminal.out(
                        found.text + "nothing was changed: give --reason, and another --evidence, to clear it\n"
                    )
                    return
                }
                let cleared = try await client.signedHead(org, node: node, clearing: found, reason: reason)
                Terminal.out(cleared.text)
            }
        }

        /// Writes a file that was not there, to the disk.
        private static func keep(_ text: String, in file: String) throws {
            let descriptor = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
            guard descriptor >= 0 else {
                throw CommandFailure("cannot write \(file): \(String(cString: strerror(errno)).lowercased())")
            }
            defer { close(descriptor) }
            try Terminal.write(Array(text.utf8), to: descriptor)
            guard fsync(descriptor) == 0 else {
                throw CommandFailure("cannot write \(file): \(String(cString: strerror(errno)).lowercased())")
            }
        }
    }
}
