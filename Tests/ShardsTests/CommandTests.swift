internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Testing

@testable internal import Shards

@Suite("The form of commands and results")
struct CommandTests {
    private static let digest = "000000000000000100000000000000020000000000000003" + "0000000000000004"
    private static let hash = Digest(words: (1, 2, 3, 4))

    private static func hex(_ text: String) -> String { Hex.encode(Array(text.utf8)) }

    /// One command of each kind, and its bytes in version 1 of the form, written down by hand.
    private static func golden() throws -> [(command: Command, hex: String)] {
        let draft =
            #"{"action":"weigh","actor":{"id":"t-1","kind":"api_key"},"after":{"grams":5},"before":null,"#
            + #""entity_id":"s-5","entity_type":"sample","organization":"lab-7","outcome":"success","#
            + #""request":{"channel":"api","id":"r-1"},"severity":"info"}"#
        let lab = try #require(OrganizationKey("lab-a"))
        let grant = Grant(role: .writer, organizations: [lab, try #require(OrganizationKey("b"))])
        let append = AppendCommand(
            organization: OrganizationID(7),
            idempotency: Idempotency(key: self.hash, request: self.hash),
            drafts: [try Fixture.draft(5, of: OrganizationID(7))]
        )
        return [
            (
                .append(append),
                "01" + "01" + "0000000000000000" + "00000007" + "01" + self.digest + self.digest + "00000001"
                    // previous and recorded_at go before "request", sequence before "severity"
                    + "000000ad" + "000000ad" + "000000d4" + "000000e7" + self.hex(draft)
            ),
            (
                .bootstrap(BootstrapCommand(clusterID: "lab", dataGroups: 8, operatorToken: self.hash)),
                "01" + "02" + "0000000000000000" + "00000003" + self.hex("lab") + "00000008" + "01" + self.digest
            ),
            (
                .createOrganization(CreateOrganizationCommand(key: lab, name: "Läb")),
                "01" + "03" + "0000000000000000" + "00000005" + self.hex("lab-a") + "00000004" + self.hex("Läb")
            ),
            (
                .createToken(CreateTokenCommand(id: "t1", hash: self.hash, name: "n", grant: grant)),
                "01" + "04" + "0000000000000000" + "00000002" + self.hex("t1") + self.digest + "00000001"
                    + self.hex("n") + "00000006" + self.hex("writer") + "00000002" + "00000001" + self.hex("b")
                    + "00000005" + self.hex("lab-a")
            ),
            (
                .revokeToken(RevokeTokenCommand(id: "t1")),
                "01" + "05" + "0000000000000000" + "00000002" + self.hex("t1")
            ),
        ]
    }

    @Test func everyKindHasTheBytesOfVersion1() throws {
        for (command, hex) in try Self.golden() { #expect(Hex.encode(command.encoded()) == hex) }
    }

    @Test func whatIsDecodedEncodesToTheSameBytesAndKeepsItsStamp() throws {
        for (command, _) in try Self.golden() {
            let bytes = try Fixture.bytes(command, at: 0x0102_0304_0506_0708)
            #expect(Array(bytes[2..<10]) == [1, 2, 3, 4, 5, 6, 7, 8])
            let decoded = try Command.decode(bytes)
            #expect(decoded.stampedAt == Timestamp(microseconds: 0x0102_0304_0506_0708))
            #expect(decoded.command.encoded() == command.encoded())
        }
    }

    @Test func aSliceIsReadFromItsOwnBeginning() throws {
        let command = Command.revokeToken(RevokeTokenCommand(id: "t1")).encoded()
        let decoded = try Command.decode(([9, 9, 9] + command)[3...])
        #expect(decoded.command.encoded() == command)
    }

    @Test func everyTruncationIsMalformed() throws {
        for (command, _) in try Self.golden() {
            let bytes = command.encoded()
            for count in 0..<bytes.count {
                #expect(throws: MalformedBytes.self, "cut to \(count) bytes") { try Command.decode(bytes[..<count]) }
            }
            #expect(throws: MalformedBytes.self) { try Command.decode((bytes + [0])[...]) }
        }
    }

    @Test func unknownVersionsAndKindsAreMalformed() throws {
        var bytes = Command.revokeToken(RevokeTokenCommand(id: "t1")).encoded()
        bytes[0] = 2
        #expect(throws: MalformedBytes.self) { try Command.decode(bytes[...]) }
        bytes[0] = 1
        bytes[1] = 6
        #expect(throws: MalformedBytes.self) { try Command.decode(bytes[...]) }
    }

    @Test func absurdCountsAreRefusedBeforeRoomIsMade() throws {
        var append = try Fixture.append(1...1, to: OrganizationID(7)).encoded()
        append.replaceSubrange(15..<19, with: [0xFF, 0xFF, 0xFF, 0xFF])
        #expect(throws: MalformedBytes.self) { try Command.decode(append[...]) }
        append.replaceSubrange(15..<19, with: [0, 0, 0, 0])
        #expect(throws: MalformedBytes.self, "an append of nothing") { try Command.decode(append[...]) }
    }

    @Test func noBytesHaveAStampWhenTheyAreTooShort() {
        var bytes: [UInt8] = [1, 1, 0]
        #expect(throws: MalformedBytes.self) { try Command.stamp(&bytes, at: Timestamp(microseconds: 1)) }
        #expect(bytes == [1, 1, 0])
    }

    @Test(arguments: [UInt64(1), 2, 3, 4])
    func damagedBytesAreDecodedOrMalformedButNeverTrap(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let all = try Self.golden().map { $0.command.encoded() }
        var refused = 0
        for _ in 0..<2_000 {
            var bytes = all[Int.random(in: 0..<all.count, using: &generator)]
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[place] = UInt8.random(in: 0...255, using: &generator)
            }
            do { _ = try Command.decode(bytes[...]) } catch { refused += 1 }
        }
        #expect(refused > 100, "seed \(seed): damage must show")
    }

    // MARK: Results

    private static func results() throws -> [CommandResult] {
        let receipt = AppendReceipt(
            firstSequence: SequenceNumber(41),
            checksums: [self.hash, Digest(words: (5, 6, 7, 8))],
            recordedAt: Timestamp(microseconds: -7),
            isReplay: true
        )
        let entry = OrganizationEntry(
            id: OrganizationID(3),
            key: try Fixture.key(OrganizationID(3)),
            name: "Läb",
            group: GroupID(2),
            createdAt: Timestamp(microseconds: 9)
        )
        return [.appended(receipt), .organization(entry), .done] + Refusal.allCases.map { .refused($0) }
    }

    @Test func resultsComeBackAsTheyWent() throws {
        for result in try Self.results() { #expect(try CommandResult.decode(result.encoded()) == result) }
        #expect(try Self.results()[0].receipt?.lastSequence == SequenceNumber(42))
    }

    @Test func truncatedResultsAreMalformed() throws {
        for result in try Self.results() {
            let bytes = result.encoded()
            for count in 0..<bytes.count {
                #expect(throws: MalformedBytes.self) { try CommandResult.decode(Array(bytes[..<count])) }
            }
            #expect(throws: MalformedBytes.self) { try CommandResult.decode(bytes + [0]) }
        }
    }

    /// The numbers are on the wire between nodes of different versions.
    @Test func refusalsKeepTheirNumbers() {
        let numbers: [(Refusal, UInt8)] = [
            (.malformed, 1), (.wrongGroup, 2), (.organizationExists, 3), (.idempotencyKeyReused, 4),
            (.tokenExists, 5), (.tokenNotFound, 6), (.notBootstrapped, 7), (.lastOperatorToken, 8),
            (.organizationNotFound, 9), (.nodeExists, 10), (.nodeNotFound, 11), (.nodeRemoved, 12),
            (.joinTokenInvalid, 13), (.reservedKey, 14), (.featureUnsupported, 15), (.staleChange, 16),
            (.stateNotAllowed, 17), (.groupNotFound, 18), (.targetNotAllowed, 19), (.tooMany, 20),
            (.addressUsed, 21), (.notEnoughNodes, 22), (.keyExists, 23), (.keyNotFound, 24),
            (.subjectUnknown, 25), (.legalHold, 26), (.alreadyErased, 27), (.subjectErased, 28),
        ]
        #expect(numbers.count == Refusal.allCases.count)
        for (refusal, number) in numbers { #expect(refusal.rawValue == number) }
    }

    @Test func sha256IsThatOfTheStandard() {
        // FIPS 180-2, appendix B.1
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        #expect(sha256(Array("abc".utf8)).hex == expected)
        let one = Idempotency(key: "k", request: [1])
        #expect(one != Idempotency(key: "k", request: [2]))
        #expect(one != Idempotency(key: "l", request: [1]))
    }
}
