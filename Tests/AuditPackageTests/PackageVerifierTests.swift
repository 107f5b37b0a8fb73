import AuditLedger
import Primitives
import Testing

@testable import AuditPackage

@Suite struct PackageVerifierTests {
    @Test(arguments: [1, 2, 3, 255, 256, 257, 511, 512, 700])
    func acceptsAFullPackageOfAnySize(count: Int) async throws {
        let report = try await verify(PackageFixture(records: count).package())
        #expect(report.findings.isEmpty, "\(report.findings)")
        #expect(report.exit == .valid)
        #expect(report.completeness == .complete)
        #expect(report.checkedCount == UInt64(count))
        #expect(report.manifestSigners.count == 1)
        #expect(report.checkpointVerdict.cosigners.count == 3)
    }

    @Test func acceptsASelectionAndCountsWhatIsLeftOut() async throws {
        let package = try PackageFixture(records: 700).package {
            $0.selection = .ranges([3...3, 17...40, 255...258, 700...700])
            $0.filters = [JSONMember("entity_type", .text("culture"))]
        }
        let report = try await verify(package)
        #expect(report.findings.isEmpty, "\(report.findings)")
        #expect(report.exit == .valid)
        #expect(report.completeness == .selection)
        #expect(report.checkedCount == 30)
    }

    @Test func acceptsASelectionOfNothing() async throws {
        let package = try PackageFixture(records: 10).package {
            $0.selection = .ranges([])
            $0.filters = [JSONMember("user", .text("nobody"))]
        }
        let report = try await verify(package)
        #expect(report.exit == .valid, "\(report.findings)")
        #expect(report.checkedCount == 0)
    }

    @Test(arguments: [1...1, 1...300, 299...300, 257...300, 2...2, 300...300] as [ClosedRange<UInt64>])
    func acceptsARangeAsComplete(range: ClosedRange<UInt64>) async throws {
        let package = try PackageFixture(records: 300).package {
            $0.selection = .ranges([range])
            $0.range = range
        }
        let report = try await verify(package)
        #expect(report.exit == .valid, "\(report.findings)")
        #expect(report.completeness == .completeRange(range))
    }

    @Test func acceptsASelectionInManyParts() async throws {
        // Every second record: an outline of more lines than one part has.
        let fixture = try PackageFixture(records: 3)
        var bytes: [UInt8] = []
        var cursor = try OutlineCursor(ranges: [2...2], size: 3)
        var report = ReportPage()
        var lines: [OutlineLine] = []
        while !cursor.isAtEnd { lines += try cursor.next(try fixture.reader(), shown: &bytes, report: &report) }
        #expect(lines.map(\.sequence) == [1, 2, 3])
        #expect(lines.map(\.isShown) == [false, true, false])
        #expect(cursor.fold.root == fixture.appender.head.root)
    }

    @Test func withoutKeysSaysOnlyThatThePackageAgreesWithItself() async throws {
        let report = try await verify(PackageFixture(records: 5).package(), PackageTrust())
        #expect(report.isSound)
        #expect(report.trustSource == .package)
        #expect(!report.policyIsMet)
        #expect(report.exit == .policyNotMet)
    }

    @Test func acceptsAPinnedPolicy() async throws {
        let report = try await verify(
            PackageFixture(records: 5).package(),
            PackageTrust(policy: try PackageFixture.policy())
        )
        #expect(report.exit == .valid)
        #expect(report.trustSource == .policy)
    }

    @Test func refusesKeysOfAnotherCluster() async throws {
        let keys = try [1, 2, 3].map {
            PackageKey(key: try PackageFixture.replicaKey($0, cluster: "other").verifierKey)
        }
        let report = try await verify(PackageFixture(records: 5).package(), PackageTrust(keys: keys))
        #expect(report.exit == .policyNotMet)
        #expect(report.checkpointVerdict.findings.contains { $0.kind == .noLogSignature })
    }

    @Test func refusesACutQuorum() async throws {
        let fixture = try PackageFixture(records: 5)
        let package = try fixture.package { $0.checkpoint = try fixture.checkpoint(cosigners: [2]) }
        let report = try await verify(package)
        #expect(report.isSound)
        #expect(report.exit == .policyNotMet)
        #expect(report.checkpointVerdict.findings.contains { $0.kind == .quorumNotMet })
    }

    @Test func doesNotCountAKeyOutsideItsTime() async throws {
        var keys = try PackageFixture.keys()
        for place in 0..<2 {
            keys[place] = PackageKey(key: keys[place].key, validTo: PackageFixture.startedAt)
        }
        let report = try await verify(PackageFixture(records: 5).package(), PackageTrust(keys: keys))
        #expect(report.exit == .policyNotMet)
    }

    @Test func refusesAPackageOfAnotherOrganization() async throws {
        var trust = try PackageFixture.trust()
        trust.origin = try LogOrigin("\(PackageFixture.cluster)/south-lab")
        let report = try await verify(PackageFixture(records: 5).package(), trust)
        #expect(report.exit == .policyNotMet)
        #expect(report.checkpointVerdict.findings.contains { $0.kind == .wrongOrigin })
    }

    // MARK: Checkpoints that were seen before

    @Test(arguments: [1, 2, 255, 256, 299, 300] as [UInt64])
    func continuesACheckpointThatIsHeld(size: UInt64) async throws {
        let fixture = try PackageFixture(records: 300)
        var trust = try PackageFixture.trust()
        trust.held = try fixture.checkpoint(size: size)
        let report = try await verify(try fixture.package(), trust)
        #expect(report.exit == .valid, "\(report.findings)")
        #expect(report.remarks.contains { $0.contains("continues the checkpoint") })
    }

    @Test func namesTruncationWhenALaterCheckpointIsHeld() async throws {
        let fixture = try PackageFixture(records: 300)
        var trust = try PackageFixture.trust()
        trust.held = try fixture.checkpoint()
        let package = try fixture.package { $0.checkpoint = try fixture.checkpoint(size: 290) }
        let report = try await verify(package, trust)
        #expect(report.exit == .incomplete)
        #expect(report.findings.first?.kind == .truncated)
        #expect(report.findings.first?.sequence == SequenceNumber(291))
    }

    @Test(arguments: [200, 300] as [UInt64])
    func namesAForkFromACheckpointThatIsHeld(size: UInt64) async throws {
        let fixture = try PackageFixture(records: 300)
        var trust = try PackageFixture.trust()
        let other = Checkpoint(origin: try PackageFixture.origin(), size: size, root: Digest(words: (1, 2, 3, 4)))
        trust.held = try PackageFixture.sign(other)
        let report = try await verify(try fixture.package(), trust)
        #expect(report.exit == .tampered)
        #expect(report.findings.first?.kind == .fork)
    }

    @Test func bringsAnEarlierCheckpointWithItsProof() async throws {
        let fixture = try PackageFixture(records: 300)
        let package = try fixture.package {
            $0.earlier = try fixture.checkpoint(size: 123)
            $0.selection = .ranges([200...210])
            $0.filters = [JSONMember("action", .text("update"))]
        }
        var trust = try PackageFixture.trust()
        trust.held = try fixture.checkpoint(size: 123)
        let report = try await verify(package, trust)
        #expect(report.exit == .valid, "\(report.findings)")
        #expect(report.remarks.contains { $0.contains("continues the checkpoint") })
    }

    // MARK: Making packages

    @Test func refusesToExportWhatWasNotSigned() throws {
        let fixture = try PackageFixture(records: 20)
        let other = Checkpoint(origin: try PackageFixture.origin(), size: 20, root: Digest(words: (1, 2, 3, 4)))
        for selection in [PackageRequest.Selection.all, .ranges([2...3])] {
            let error = #expect(throws: PackageError.self) {
                _ = try fixture.package {
                    $0.checkpoint = try PackageFixture.sign(other)
                    $0.selection = selection
                }
            }
            #expect(error?.code == .source)
        }
    }

    @Test func refusesRangesThatDoNotAscend() throws {
        let fixture = try PackageFixture(records: 20)
        for ranges in [[5...6, 6...7], [5...6, 1...2], [19...21]] as [[ClosedRange<UInt64>]] {
            let error = #expect(throws: PackageError.self) {
                _ = try fixture.package { $0.selection = .ranges(ranges) }
            }
            #expect(error?.code == .refused)
        }
    }

    @Test func escapesWhatTheReportShows() throws {
        let loose = try LoosePackage(PackageFixture(records: 3).package())
        let page = String(decoding: loose[PackageLayout.report], as: UTF8.self)
        #expect(!page.contains("<b>") && !page.contains("<Auditor>"))
        #expect(page.contains("&lt;b&gt;as planned&lt;/b&gt;"))
        #expect(page.contains("state «open» → «closed»"))
        #expect(!page.contains("<script") && !page.contains("://"))
    }
}
