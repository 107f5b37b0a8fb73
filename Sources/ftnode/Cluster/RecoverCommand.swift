internal import ArgumentParser
internal import NodeRuntime
internal import Primitives

extension ClusterCommand {
    /// The way out when a majority is lost for good.
    struct Recover: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "recover",
            abstract: "Go on without nodes that are lost for good, on a stopped node; may lose acknowledged writes.",
            discussion: """
                Only when so many nodes are lost for good that groups have no majority. Stop every survivor, run this on \
                each of them with the same --survivors, then start them: the recovery becomes a record of the cluster \
                ledger, lost nodes are refused for ever, and `ftnode cluster remove-node` takes their names out. Without \
                --yes it only says, for each group, what may be lost.

                Example:
                  ftnode cluster recover --config node-1.yaml --survivors 1,2
                """
        )
        @Option(help: ArgumentHelp("The stopped node's configuration file (YAML).", valueName: "file"))
        var config: String
        @Option(help: ArgumentHelp("Ids of all nodes that are left.", valueName: "ids"))
        var survivors: String
        @Flag(help: "Do it; without this nothing is changed.")
        var yes = false
        @Option(
            name: .customLong("set"),
            help: ArgumentHelp("Override a key; may be repeated.", valueName: "key=value")
        )
        var overrides: [String] = []

        mutating func validate() throws { _ = try NodeList.parse(self.survivors, "--survivors") }

        mutating func run() throws {
            let survivors = try NodeList.parse(self.survivors, "--survivors").map { NodeID(UInt64($0)) }
            let isMeant = self.yes
            let loaded = try ConfigurationLoader.load(
                file: self.config,
                environment: CommandEnvironment.all,
                overrides: self.overrides
            )
            try ClusterRecovery.withStoppedNode(loaded.configuration) { recovery in
                let plan = try recovery.plan(survivors: survivors)
                Terminal.out(RecoveryText.text(plan))
                guard isMeant else {
                    Terminal.note("nothing was changed; add --yes to do it")
                    return
                }
                try recovery.apply(plan)
                Terminal.out(
                    "recovered: node \(plan.node) is of recovery epoch \(plan.epoch); do the same on every survivor\n"
                )
            }
        }
    }
}

/// What a recovery would do, for people.
enum RecoveryText {
    static func text(_ plan: ClusterRecovery.Plan) -> String {
        var table = TextTable(
            columns: ["group", "voters", "goes on with", "applied", "commit", "last", "what may be lost"],
            right: [3, 4, 5]
        )
        for group in plan.groups {
            table.append([
                group.group.rawValue == 0 ? "0 system" : group.group.description, Self.list(group.voters),
                Self.list(group.survivors), group.applied.description, group.commit.description,
                group.last.description, group.verdict,
            ])
        }
        var text = table.rendered()
        if !plan.lostGroups.isEmpty {
            text +=
                "\ngroups without any survivor, with all their data: "
                + plan.lostGroups.map(\.description).joined(separator: ", ") + "\n"
        }
        let weak = plan.groups.count { !$0.hasMajority }
        return text
            + "\ncluster \(TextTable.printable(plan.cluster)), node \(plan.node): \(plan.groups.count) groups, "
            + "\(weak) without a majority of survivors \(Self.list(plan.survivors))\n"
    }

    private static func list(_ nodes: [NodeID]) -> String { nodes.map(\.description).joined(separator: ",") }
}
