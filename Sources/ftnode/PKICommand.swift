internal import ArgumentParser
internal import NodeRuntime
internal import Primitives

/// The cluster's certificates.
struct PKICommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pki",
        abstract: "Make a cluster's CA, and the certificates of its nodes and clients.",
        discussion: """
            Examples:
              ftnode pki init --cluster lab --out pki
              ftnode pki node --dir pki --id 1 --host db1.example.org --host 192.0.2.7
              ftnode pki client --dir pki --name bench
              ftnode pki show pki/node-1.pem
              ftnode pki signing-key --dir pki --id 1
              ftnode pki witness-key --name witness.example.org/w1 --out witness
            """,
        subcommands: [
            Initialize.self, IssueNode.self, IssueClient.self, IssueSigningKey.self, IssueSealingKey.self,
            IssueWitnessKey.self, Show.self,
        ]
    )

    struct Initialize: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "init",
            abstract: "Make ca.pem and ca.key (mode 0600)."
        )
        @Option(help: ArgumentHelp("The cluster's name: 1 to 63 of a-z 0-9 -.", valueName: "id"))
        var cluster: String
        @Option(help: ArgumentHelp("The folder; made when absent.", valueName: "dir"))
        var out: String
        @Option(help: "How many days the CA is valid.")
        var days = CertificateAuthority.DefaultDays.authority
        @Flag(help: "Replace a CA that is there; certificates that it signed become useless.")
        var force = false

        mutating func run() throws {
            let folder = PKIFolder(path: self.out)
            try folder.initialize(cluster: self.cluster, days: self.days, now: SystemTime.now(), replacing: self.force)
            Terminal.out("made \(folder.caFile) and \(folder.caKeyFile) for cluster \(self.cluster)\n")
        }
    }

    struct IssueNode: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "node",
            abstract: "Make node-N.pem (chain) and node-N.key (mode 0600), and a key for checkpoints if there is none."
        )
        @Option(help: ArgumentHelp("The folder with ca.pem and ca.key.", valueName: "dir"))
        var dir: String
        @Option(help: ArgumentHelp("The node's id.", valueName: "n"))
        var id: UInt64
        @Option(
            help: ArgumentHelp(
                "A DNS name or IP address by which clients reach the node; may be repeated (default: "
                    + PKIFolder.defaultHosts.joined(separator: ", ") + ").",
                valueName: "host"
            )
        )
        var host: [String] = []
        @Option(help: "How many days the certificate is valid.")
        var days = CertificateAuthority.DefaultDays.node
        @Flag(help: "Replace a certificate that is there.")
        var force = false

        mutating func run() throws {
            let folder = PKIFolder(path: self.dir)
            try folder.issueNode(
                NodeID(self.id),
                hosts: self.host.isEmpty ? PKIFolder.defaultHosts : self.host,
                days: self.days,
                now: SystemTime.now(),
                replacing: self.force
            )
            let name = PKIFolder.name(of: NodeID(self.id))
            Terminal.out("made \(folder.certificateFile(name)) and \(folder.keyFile(name))\n")
            Terminal.out("key for checkpoints: \(folder.signingKeyFile(NodeID(self.id)))\n")
            Terminal.out("key for personal data: \(folder.sealingKeyFile(NodeID(self.id)))\n")
        }
    }

    struct IssueSigningKey: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "signing-key",
            abstract: "Make node-N.signing.key (mode 0600) and node-N.vkey: what a node signs checkpoints with.",
            discussion: """
                For a node that never had one or lost it. To change the key of a node that runs, use \
                `ftnode cluster rotate-key`.
                """
        )
        @Option(help: ArgumentHelp("The folder with ca.pem and ca.key.", valueName: "dir"))
        var dir: String
        @Option(help: ArgumentHelp("The node's id.", valueName: "n"))
        var id: UInt64
        @Flag(help: "Replace a key that is there; it cannot be had back.")
        var force = false

        mutating func run() throws {
            let folder = PKIFolder(path: self.dir)
            let node = NodeID(self.id)
            try folder.issueSigningKey(node, replacing: self.force)
            Terminal.out("made \(folder.signingKeyFile(node)) and \(folder.verifierKeyFile(node))\n")
        }
    }

    struct IssueSealingKey: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "sealing-key",
            abstract: "Make node-N.sealing.key (mode 0600): what a node keeps the keys of data subjects under.",
            discussion: """
                For a node that never had one or lost it. A node that gets another one fetches the keys of data subjects \
                from the other replicas; do not change it on more than one node at a time.
                """
        )
        @Option(help: ArgumentHelp("The folder with the cluster's keys.", valueName: "dir"))
        var dir: String
        @Option(help: ArgumentHelp("The node's id.", valueName: "n"))
        var id: UInt64
        @Flag(help: "Replace a key that is there; it cannot be had back.")
        var force = false

        mutating func run() throws {
            let folder = PKIFolder(path: self.dir)
            let node = NodeID(self.id)
            try folder.issueSealingKey(node, replacing: self.force)
            Terminal.out("made \(folder.sealingKeyFile(node))\n")
        }
    }

    struct IssueWitnessKey: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "witness-key",
            abstract: "Make PREFIX.key (mode 0600) and PREFIX.vkey: what a witness cosigns with.",
            discussion: "Example:\n  ftnode pki witness-key --name witness.example.org/w1 --out witness"
        )
        @Option(help: "The witness' name, such as witness.example.org/w1; without spaces and plus signs.")
        var name: String
        @Option(help: ArgumentHelp("Path of the files without .key and .vkey.", valueName: "prefix"))
        var out: String

        mutating func run() throws {
            try SigningKeyFile.makeFiles(named: self.name, prefix: self.out)
            Terminal.out("made \(self.out).key and \(self.out).vkey\n")
        }
    }

    struct IssueClient: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "client",
            abstract: "Make NAME.pem (chain) and NAME.key (mode 0600) for a client."
        )
        @Option(help: ArgumentHelp("The folder with ca.pem and ca.key.", valueName: "dir"))
        var dir: String
        @Option(help: "The client's name: 1 to 63 of a-z 0-9 -.")
        var name: String
        @Option(help: "How many days the certificate is valid.")
        var days = CertificateAuthority.DefaultDays.client
        @Flag(help: "Replace a certificate that is there.")
        var force = false

        mutating func run() throws {
            let folder = PKIFolder(path: self.dir)
            try folder.issueClient(self.name, days: self.days, now: SystemTime.now(), replacing: self.force)
            Terminal.out("made \(folder.certificateFile(self.name)) and \(folder.keyFile(self.name))\n")
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show",
            abstract: "Show subject, names, validity, issuer and fingerprint of a certificate."
        )
        @Argument(help: "A certificate in PEM; the first one of a chain is shown.")
        var file: String

        mutating func run() throws {
            for (label, value) in try CertificateFile(path: self.file).explanation(now: SystemTime.now()) {
                let padding = String(repeating: " ", count: max(0, 12 - label.count))
                Terminal.out("\(label)\(padding)\(TextTable.printable(value))\n")
            }
        }
    }
}
