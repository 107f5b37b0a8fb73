import Laboratory
import Primitives
import Testing

@Suite struct AccessTests {
    private let mine = OrganizationKey("lab-a")
    private let other = OrganizationKey("lab-b")

    private func grant(_ role: Role) throws -> Grant { Grant(role: role, organizations: [try #require(self.mine)]) }

    @Test func anOperatorMayDoEverythingEverywhere() throws {
        for operation in AccessOperation.allCases {
            #expect(try self.grant(.operator).decide(operation) == .allowed)
            #expect(try self.grant(.operator).decide(operation, in: self.other) == .allowed)
        }
    }

    @Test(arguments: [Role.writer, .reader, .auditor], AccessOperation.allCases)
    func anotherOrganizationIsInvisibleWhateverTheOperation(role: Role, operation: AccessOperation) throws {
        #expect(try self.grant(role).decide(operation, in: self.other) == .invisible)
        #expect(try !self.grant(role).sees(#require(self.other)))
    }

    @Test func onlyAWriterAppends() throws {
        #expect(try self.grant(.writer).decide(.appendRecords, in: self.mine) == .allowed)
        #expect(try self.grant(.reader).decide(.appendRecords, in: self.mine) == .forbidden)
        #expect(try self.grant(.auditor).decide(.appendRecords, in: self.mine) == .forbidden)
    }

    @Test func onlyAnAuditorVerifies() throws {
        #expect(try self.grant(.auditor).decide(.verifyLedger, in: self.mine) == .allowed)
        #expect(try self.grant(.writer).decide(.verifyLedger, in: self.mine) == .forbidden)
        #expect(try self.grant(.reader).decide(.verifyLedger, in: self.mine) == .forbidden)
    }

    @Test func personalDataIsForAuditorsToSeeAndForOperatorsToErase() throws {
        #expect(try self.grant(.auditor).decide(.readSensitive, in: self.mine) == .allowed)
        for role in [Role.writer, .reader] {
            #expect(try self.grant(role).decide(.readSensitive, in: self.mine) == .forbidden)
        }
        for role in [Role.writer, .reader, .auditor] {
            #expect(try self.grant(role).decide(.manageSubjects, in: self.mine) == .forbidden)
        }
    }

    @Test func whoCameInAndWhoLookedIsForAuditors() throws {
        #expect(try self.grant(.auditor).decide(.readReserved, in: self.mine) == .allowed)
        for role in [Role.writer, .reader] {
            #expect(try self.grant(role).decide(.readReserved, in: self.mine) == .forbidden)
            #expect(try self.grant(role).decide(.readReserved) == .forbidden)
        }
        #expect(Grant(role: .operator).decide(.readReserved) == .allowed)
    }

    @Test func auditorsExportAndWhoMayNotOnlyLookKeepsInvestigations() throws {
        for (role, keeps, exports) in [(Role.writer, true, false), (.reader, false, false), (.auditor, true, true)] {
            let grant = try self.grant(role)
            #expect(grant.decide(.keepInvestigations, in: self.mine) == (keeps ? .allowed : .forbidden))
            #expect(grant.decide(.exportRecords, in: self.mine) == (exports ? .allowed : .forbidden))
        }
    }

    @Test func readingsOfThoseWhoOverseeAreRecorded() {
        #expect(Role.allCases.filter(\.readingIsRecorded) == [.operator, .auditor])
    }

    @Test func operationsAreRecordedUnderNamesOfTheirOwn() {
        let names = AccessOperation.allCases.map(\.rawValue)
        #expect(Set(names).count == names.count)
        #expect(names.allSatisfy { $0.utf8.allSatisfy { (0x61...0x7A).contains($0) || $0 == 0x5F } })
    }

    @Test(arguments: [Role.writer, .reader, .auditor])
    func nobodyButAnOperatorRunsTheCluster(role: Role) throws {
        for operation in [AccessOperation.createOrganization, .manageTokens, .readCluster] {
            #expect(try self.grant(role).decide(operation) == .forbidden)
        }
    }

    @Test func organizationsTakeTurnsOverDataGroups() {
        let groups = (0..<6).map { OrganizationRules.group(ofOrdinal: $0, dataGroups: 3).rawValue }
        #expect(groups == [1, 2, 3, 1, 2, 3])
    }

    @Test func namesWithoutVisibleTextAreRefused() {
        #expect(OrganizationRules.isValid(name: "Laboratory Ä"))
        #expect(!OrganizationRules.isValid(name: ""))
        #expect(!OrganizationRules.isValid(name: "a\u{7}b"))
        #expect(!OrganizationRules.isValid(name: String(repeating: "x", count: OrganizationRules.nameBytesMax + 1)))
    }
}
