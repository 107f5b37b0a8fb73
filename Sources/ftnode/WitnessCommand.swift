internal import ArgumentParser
internal import Logging
internal import NodeRuntime

/// Runs a witness.
struct WitnessCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "witness",
        abstract: "Run a witness: cosign checkpoints that continue those seen before, and nothing else.",
        discussion: """
            For a machine that the operators of the cluster do not control. It speaks C2SP tlog-witness and remembers \
            what it has cosigned in --data, which must not be lost: a witness without its memory needs another key. \
            Without --certificate it speaks HTTP on the loopback address, for a proxy that speaks TLS.

            Trust single logs by their keys, or a cluster's nodes by theirs (`ftnode audit keys`), for all logs of the \
            cluster.

            Examples:
              ftnode pki witness-key --name witness.example.org/w1 --out witness
              ftnode witness --listen 0.0.0.0:9443 --certificate w.pem --certificate-key w.key --key witness.key \
            --data witness --log prod/node-1+1f2e3d4c+BA…
            """
    )
    @Option(help: ArgumentHelp("Where logs connect to.", valueName: "host:port"))
    var listen: String
    @Option(help: ArgumentHelp("The private key of the witness.", valueName: "file"))
    var key: String
    @Option(help: ArgumentHelp("Where it remembers; made when absent.", valueName: "dir"))
    var data: String
    @Option(help: ArgumentHelp("A public key of a log or a node; may be repeated.", valueName: "vkey"))
    var log: [String] = []
    @Option(help: ArgumentHelp("A file with public keys, one a line.", valueName: "file"))
    var logs: String?
    @Option(help: ArgumentHelp("Certificate chain (PEM).", valueName: "file"))
    var certificate: String?
    @Option(help: ArgumentHelp("Private key (PEM) of --certificate.", valueName: "file"))
    var certificateKey: String?
    @Option(help: "text or json.")
    var logFormat = "text"

    mutating func validate() throws {
        guard NodeConfiguration.HostPort(self.listen) != nil else {
            throw ValidationError("--listen must be host:port")
        }
        guard (self.certificate == nil) == (self.certificateKey == nil) else {
            throw ValidationError("--certificate and --certificate-key belong together")
        }
        guard NodeConfiguration.LogFormat(rawValue: self.logFormat) != nil else {
            throw ValidationError("--log-format must be text or json")
        }
    }

    mutating func run() async throws {
        guard let listen = NodeConfiguration.HostPort(self.listen),
            let format = NodeConfiguration.LogFormat(rawValue: self.logFormat)
        else { return }
        var texts = self.log
        if let file = self.logs {
            texts += try WholeTextFile.read(file).split(separator: "\n").map(String.init)
        }
        LogSetup.bootstrap(level: "info", format: format)
        try await WitnessProgram.run(
            listen: listen,
            tls: self.certificate.flatMap { file in self.certificateKey.map { (file, $0) } },
            keyFile: self.key,
            trusted: texts.filter { !$0.hasPrefix("#") },
            dataDirectory: self.data,
            logger: Logger(label: "ftnode")
        )
    }
}
