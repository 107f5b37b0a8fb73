internal import Foundation
package import Primitives

extension FilePaths {
    /// True when something is at `path`.
    package static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
}

extension LoadedConfiguration {
    /// Checks keys against each other, and every file that the configuration names: present, readable, a certificate
    /// that is valid at `now`, that names what it must, and whose key fits.
    ///
    /// Reads files; call it before anything is started.
    /// - Throws: ``ConfigurationError`` with every problem.
    package func validate(now: Timestamp) throws(ConfigurationError) {
        let problems = self.problems(now: now)
        guard problems.isEmpty else { throw ConfigurationError(problems) }
    }

    /// What ``validate(now:)`` would throw.
    package func problems(now: Timestamp) -> [ConfigurationProblem] {
        self.crossKeyProblems() + self.folderProblems() + self.certificateProblems(now: now)
            + self.signingKeyProblems() + self.sealingKeyProblems()
    }

    private func problem(
        _ code: ConfigurationProblem.Code,
        _ key: String,
        _ message: String
    ) -> ConfigurationProblem {
        ConfigurationProblem(code, key: key, place: self.place(of: key), message)
    }

    /// Rules between keys; opens no file.
    func crossKeyProblems() -> [ConfigurationProblem] {
        let configuration = self.configuration
        let members = configuration.members
        var problems: [ConfigurationProblem] = []
        if Set(members.map(\.id)).count != members.count {
            problems.append(self.problem(.inconsistent, ConfigurationKey.nodesName, "two nodes have the same id"))
        }
        let addresses = members.flatMap { [$0.apiAddress, $0.peerAddress] }
        if let twice = Self.firstRepeated(addresses) {
            problems.append(
                self.problem(
                    .inconsistent,
                    ConfigurationKey.nodesName,
                    "\(twice) stands twice; every address must be its own"
                )
            )
        }
        // A node that joins may name only some members.
        if configuration.joinToken == nil, configuration.ownEntry != nil, configuration.replicas > members.count {
            problems.append(
                self.problem(
                    .inconsistent,
                    "cluster.replicas",
                    "\(configuration.replicas) is more than the \(members.count) nodes of cluster.nodes"
                )
            )
        }
        if configuration.joinToken != nil, !members.contains(where: { $0.id != configuration.nodeID }) {
            problems.append(
                self.problem(
                    .inconsistent,
                    ConfigurationKey.nodesName,
                    "must name a member that the node can ask to join"
                )
            )
        }
        if configuration.witnesses.count > NodeConfiguration.witnessesMax
            || Set(configuration.witnesses.map(\.key)).count != configuration.witnesses.count
        {
            problems.append(
                self.problem(
                    .inconsistent,
                    ConfigurationKey.witnessesName,
                    "must be at most \(NodeConfiguration.witnessesMax) witnesses, each with a key of its own"
                )
            )
        }
        if let quorum = configuration.witnessQuorum, quorum > configuration.witnesses.count {
            problems.append(
                self.problem(
                    .inconsistent,
                    "audit.witness_quorum",
                    "\(quorum) is more than the \(configuration.witnesses.count) witnesses"
                )
            )
        }
        if configuration.apiListen.port == configuration.peerListen.port {
            problems.append(
                self.problem(
                    .inconsistent,
                    "peer.listen",
                    "port \(configuration.peerListen.port) is that of api.listen; they must differ"
                )
            )
        }
        if configuration.raftElectionTicks < 3 * configuration.raftHeartbeatTicks {
            problems.append(
                self.problem(
                    .inconsistent,
                    "raft.election_ticks",
                    "\(configuration.raftElectionTicks) must be at least three times raft.heartbeat_ticks"
                        + " (\(configuration.raftHeartbeatTicks)), or one late heartbeat unseats a leader"
                )
            )
        }
        return problems
    }

    private static func firstRepeated(
        _ addresses: [NodeConfiguration.HostPort]
    ) -> NodeConfiguration.HostPort? {
        var seen: Set<NodeConfiguration.HostPort> = []
        return addresses.first { !seen.insert($0).inserted }
    }

    private func folderProblems() -> [ConfigurationProblem] {
        let path = self.configuration.dataDirectory
        // Afterwards the cluster keeps its own account of who is in it.
        if self.configuration.ownEntry == nil, !FilePaths.exists(path + "/" + Node.storeFolder) {
            let ids = self.configuration.members.map { $0.id.description }.joined(separator: ", ")
            return [
                self.problem(
                    .inconsistent,
                    "node.id",
                    "\(self.configuration.nodeID) is not in cluster.nodes, which has \(ids); a new node must stand there itself"
                )
            ]
        }
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else { return [] }
        if !isDirectory.boolValue {
            return [self.problem(.inconsistent, "node.data", "\(path) is not a directory")]
        }
        if !FileManager.default.isWritableFile(atPath: path) {
            return [self.problem(.inconsistent, "node.data", "\(path) cannot be written to")]
        }
        return []
    }

    private func signingKeyProblems() -> [ConfigurationProblem] {
        guard let path = self.configuration.signingKeyFile else { return [] }
        do {
            _ = try SigningKeyFile(path: path).read(
                cluster: self.configuration.clusterID,
                node: self.configuration.nodeID
            )
            return []
        } catch {
            return [self.problem(.unusableCertificate, "audit.signing_key", error.description)]
        }
    }

    private func sealingKeyProblems() -> [ConfigurationProblem] {
        guard let path = self.configuration.sealingKeyFile else { return [] }
        do {
            _ = try SealingKeyFile(path: path).read()
            return []
        } catch {
            return [self.problem(.unusableCertificate, "audit.sealing_key", error.description)]
        }
    }

    private func certificateProblems(now: Timestamp) -> [ConfigurationProblem] {
        let configuration = self.configuration
        var problems: [ConfigurationProblem] = []
        let authority = self.certificate("peer.ca", configuration.caFile, now: now, &problems)
        if let authority, !authority.isAuthority {
            problems.append(self.unusable("peer.ca", "\(configuration.caFile) is not a certificate authority"))
        }
        if let peer = self.certificate("peer.certificate", configuration.peerCertificateFile, now: now, &problems) {
            let identity = PeerIdentity.dnsName(node: configuration.nodeID, cluster: configuration.clusterID)
            if !peer.names.contains(identity) {
                problems.append(
                    self.unusable(
                        "peer.certificate",
                        "names \(Self.shown(peer.names)), but this node is \(identity)"
                    )
                )
            }
            if peer.usage != (true, true) {
                problems.append(self.unusable("peer.certificate", "must be usable by a server and by a client"))
            }
            if let authority, !peer.isSigned(by: authority) {
                problems.append(self.unusable("peer.certificate", "is not signed by the CA of peer.ca"))
            }
            self.checkKey("peer.key", configuration.peerKeyFile, of: peer, &problems)
        }
        if let api = self.certificate("api.certificate", configuration.apiCertificateFile, now: now, &problems) {
            let host = configuration.members.first { $0.id == configuration.nodeID }?.apiAddress.host
            if let host, !api.covers(host: host) {
                problems.append(
                    self.unusable(
                        "api.certificate",
                        "names \(Self.shown(api.names)), but clients reach this node as \(host)"
                    )
                )
            }
            if !api.usage.server {
                problems.append(self.unusable("api.certificate", "must be usable by a server"))
            }
            self.checkKey("api.key", configuration.apiKeyFile, of: api, &problems)
        }
        return problems
    }

    private func unusable(_ key: String, _ message: String) -> ConfigurationProblem {
        self.problem(.unusableCertificate, key, message)
    }

    private static func shown(_ names: [String]) -> String { names.isEmpty ? "nothing" : names.joined(separator: ", ") }

    private func certificate(
        _ key: String,
        _ path: String,
        now: Timestamp,
        _ problems: inout [ConfigurationProblem]
    ) -> CertificateFile? {
        let file: CertificateFile
        do { file = try CertificateFile(path: path) } catch {
            problems.append(self.unusable(key, error.description))
            return nil
        }
        if now >= file.validUntil {
            problems.append(self.unusable(key, "\(path) expired at \(file.validUntil)"))
        } else if now < file.validFrom {
            problems.append(self.unusable(key, "\(path) is not valid before \(file.validFrom)"))
        }
        return file
    }

    private func checkKey(
        _ key: String,
        _ path: String,
        of certificate: CertificateFile,
        _ problems: inout [ConfigurationProblem]
    ) {
        do {
            if try !certificate.matches(keyFile: path) {
                problems.append(self.unusable(key, "\(path) is not the key of \(certificate.path)"))
            }
        } catch {
            problems.append(self.unusable(key, error.description))
        }
    }
}
