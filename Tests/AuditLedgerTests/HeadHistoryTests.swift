import AuditLedger
import Primitives
import Testing

/// The rule that a replica signs by, and the evidence when somebody broke it.
struct HeadHistoryTests {
    static func head(_ size: UInt64) throws -> TreeHead {
        TreeHead(size: size, root: try NoteFixture.nodes.treeRoot(size: size))
    }

    /// A tree that departs from the fixture's at leaf 600.
    static let forked = MerkleNodes(
        leaves: ProofReference.leaves(600) + ProofReference.leaves(400, seed: 1)
    )

    @Test func signsOnlyWhatContinues() throws {
        let (last, next) = (try Self.head(700), try Self.head(777))
        let proof = try ConsistencyProof.build(from: 700, to: 777, nodes: NoteFixture.nodes)
        func decide(_ last: TreeHead?, _ candidate: TreeHead, _ proof: ConsistencyProof?) -> HeadHistory.Decision {
            HeadHistory.decide(last: last, candidate: candidate, consistency: proof)
        }
        #expect(decide(nil, next, nil) == .sign)
        #expect(decide(last, next, proof) == .sign)
        #expect(decide(last, last, nil) == .signAgain)
        #expect(decide(next, last, nil) == .refuseStale(last: next))
        #expect(decide(next, last, proof) == .refuseStale(last: next))
        #expect(decide(last, next, nil) == .refuseUnproven(last: last))
        let other = TreeHead(size: 700, root: try Self.forked.treeRoot(size: 700))
        #expect(decide(last, other, nil) == .refuseFork(last: last))
        // Proofs of other sizes, of another history, or damaged.
        let short = try ConsistencyProof.build(from: 699, to: 777, nodes: NoteFixture.nodes)
        #expect(decide(last, next, short) == .refuseUnproven(last: last))
        let forkedHead = TreeHead(size: 777, root: try Self.forked.treeRoot(size: 777))
        let forkedProof = try ConsistencyProof.build(from: 700, to: 777, nodes: Self.forked)
        #expect(decide(last, forkedHead, forkedProof) == .refuseUnproven(last: last))
        #expect(decide(last, next, forkedProof) == .refuseUnproven(last: last))
        for place in proof.path.indices {
            var path = proof.path
            path[place] = flipped(path[place], byte: place)
            let damaged = ConsistencyProof(oldSize: 700, newSize: 777, path: path)
            #expect(decide(last, next, damaged) == .refuseUnproven(last: last))
        }
        // The empty log comes before every other.
        let empty = TreeHead(size: 0, root: LedgerHash.emptyRoot)
        #expect(decide(empty, next, ConsistencyProof(oldSize: 0, newSize: 777, path: [])) == .sign)
        #expect(decide(next, empty, nil) == .refuseStale(last: next))
    }

    @Test func findsAForkInItsOwnTree() throws {
        let (last, next) = (try Self.head(700), try Self.head(777))
        #expect(try HeadHistory.decide(last: last, candidate: next, nodes: NoteFixture.nodes) == .sign)
        #expect(try HeadHistory.decide(last: nil, candidate: next, nodes: NoteFixture.nodes) == .sign)
        #expect(try HeadHistory.decide(last: next, candidate: next, nodes: NoteFixture.nodes) == .signAgain)
        let forkedHead = TreeHead(size: 777, root: try Self.forked.treeRoot(size: 777))
        #expect(
            try HeadHistory.decide(last: last, candidate: forkedHead, nodes: Self.forked) == .refuseFork(last: last)
        )
        // Where the trees still agree, so does the history.
        let early = try Self.head(600)
        #expect(try HeadHistory.decide(last: early, candidate: forkedHead, nodes: Self.forked) == .sign)
        // A head that is not that of the tree.
        let invented = TreeHead(size: 777, root: .zero)
        #expect(
            try HeadHistory.decide(last: last, candidate: invented, nodes: NoteFixture.nodes)
                == .refuseUnproven(last: last)
        )
    }

    static let allKeys = ([NoteFixture.log] + NoteFixture.replicas + NoteFixture.witnesses).map(\.verifierKey)

    @Test func provesTwoRootsOfOneSize() throws {
        let ours = try NoteFixture.signed(size: 700, replicas: 2)
        let theirs = try NoteFixture.signed(
            size: 700,
            root: try Self.forked.treeRoot(size: 700),
            replicas: 1,
            witnesses: 0
        )
        let fork = try ForkProof(ours, theirs)
        #expect(try ForkProof(parsing: fork.encoded) == fork)
        let verdict = try fork.verify(keys: Self.allKeys)
        #expect(verdict.equivocators == [NoteFixture.log.verifierKey, NoteFixture.replicas[0].verifierKey])
        #expect(noteCode { _ = try fork.verify(keys: [NoteFixture.stranger.verifierKey]) } == .unknownSigner)
        // Both sides must be signed.
        #expect(noteCode { _ = try fork.verify(keys: [NoteFixture.replicas[1].verifierKey]) } == .unknownSigner)
    }

    @Test func provesAHistoryThatDoesNotContinue() throws {
        let ours = try NoteFixture.signed(size: 700)
        let theirRoot = try Self.forked.treeRoot(size: 777)
        let theirs = try NoteFixture.signed(size: 777, root: theirRoot)
        let proof = try ConsistencyProof.build(from: 700, to: 777, nodes: Self.forked)
        let link = ForkProof.Link(root: try Self.forked.treeRoot(size: 700), path: proof.path)
        let fork = try ForkProof(ours, theirs, link: link)
        #expect(try ForkProof(parsing: fork.encoded) == fork)
        #expect(try fork.verify(keys: Self.allKeys).equivocators.count == 4)
        // The honest link from our own root is no fork, nor is a link that leads nowhere.
        let honest = try NoteFixture.signed(size: 777)
        let honestProof = try ConsistencyProof.build(from: 700, to: 777, nodes: NoteFixture.nodes)
        func code(_ older: SignedCheckpoint, _ newer: SignedCheckpoint, _ link: ForkProof.Link?) -> NoteError.Code? {
            noteCode { _ = try ForkProof(older, newer, link: link) }
        }
        #expect(
            code(ours, honest, ForkProof.Link(root: ours.checkpoint.root, path: honestProof.path)) == .notAFork
        )
        #expect(code(ours, theirs, ForkProof.Link(root: .zero, path: proof.path)) == .notAFork)
        #expect(code(ours, honest, ForkProof.Link(root: link.root, path: honestProof.path)) == .notAFork)
        #expect(code(ours, theirs, nil) == .notAFork)
        #expect(code(theirs, ours, link) == .notAFork)
        #expect(code(ours, ours, nil) == .notAFork)
        #expect(code(ours, try NoteFixture.signed(size: 700, replicas: 3), nil) == .notAFork)
        #expect(code(ours, try NoteFixture.signed(size: 700, root: .zero), link) == .notAFork)
        var elsewhere = try SignedCheckpoint(
            Checkpoint(origin: LogOrigin("cluster-a/lab-b"), size: 700, root: .zero)
        )
        try elsewhere.sign(NoteFixture.log)
        #expect(code(ours, elsewhere, nil) == .notAFork)
    }

    @Test func namesWhatIsWrongWithAForkText() throws {
        let fork = try ForkProof(NoteFixture.signed(size: 5), NoteFixture.signed(size: 5, root: .zero))
        let good = text(fork.encoded)
        func code(_ text: String) -> NoteError.Code? { noteCode { _ = try ForkProof(parsing: text.utf8) } }
        #expect(code(good) == nil)
        #expect(code(good + "x") == .malformedLine)
        #expect(code(good.replacing("@v1", with: "@v0")) == .malformedLine)
        #expect(code(String(good.dropLast())) == .truncated)
        let count = fork.older.encoded.count
        #expect(code(good.replacing("note \(count)", with: "note \(count - 1)")) != nil)
        #expect(code(good.replacing("note \(count)", with: "note 0\(count)")) == .malformedNumber)
        #expect(code(good.replacing("note \(count)", with: "note 9999999")) == .tooLarge)
        #expect(code(good.replacing("note \(count)", with: "text \(count)")) == .malformedLine)
        let line = text(Base64.encode(Digest.zero.bytes))
        let long = "flasktrack/fork-proof@v1\nroot \(line)\n" + String(repeating: "path \(line)\n", count: 65)
        #expect(code(long + "note 1\n") == .tooLarge)
        // A changed byte makes a signer unknown at best; it never leaves the evidence as it was.
        let note = fork.encoded
        let all = try fork.verify(keys: Self.allKeys)
        for place in note.indices {
            var forged = note
            forged[place] ^= 1 << (place % 7)
            guard let verdict = try? ForkProof(parsing: forged).verify(keys: Self.allKeys) else { continue }
            let signers = [verdict.olderSigners.count, verdict.newerSigners.count]
            #expect(
                signers == [all.olderSigners.count - 1, all.newerSigners.count]
                    || signers == [all.olderSigners.count, all.newerSigners.count - 1],
                "byte \(place)"
            )
        }
    }
}
