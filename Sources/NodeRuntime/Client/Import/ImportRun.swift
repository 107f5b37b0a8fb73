internal import Foundation
internal import HTTPTypes
internal import NIOCore
package import Primitives

/// Imports a stream of events: reads, plans, sends, counts.
package struct ImportRun: Sendable {
    /// What was done so far.
    package struct Progress: Sendable, Equatable {
        /// Records that this run appended.
        package var appended = 0
        /// Records that an earlier run, or an earlier try, had appended.
        package var alreadyThere = 0
        package var bytesRead = 0
        package var totalBytes: Int?
        /// Records acknowledged by organization.
        package var organizations: [OrganizationKey: Int] = [:]
        package var batches = 0

        package init(totalBytes: Int? = nil) { self.totalBytes = totalBytes }

        package var acknowledged: Int { self.appended + self.alreadyThere }
    }

    /// How a run ended.
    package struct Outcome: Sendable {
        package var progress: Progress
        /// What stopped it; nil when everything was imported.
        package var failure: ClientError?
    }

    private enum Event: Sendable {
        case chunk([UInt8])
        case sent(ImportBatch, isReplayed: Bool)
        case failed(ClientError, batch: ImportBatch?)
    }

    private let client: ClusterClient
    private let createsOrganizations: Bool
    private let timeout: Duration

    /// - Parameter timeout: A batch is tried again for this long.
    package init(client: ClusterClient, createsOrganizations: Bool, timeout: Duration) {
        self.client = client
        self.createsOrganizations = createsOrganizations
        self.timeout = timeout
    }

    /// Reads `source` to its end and appends every event once.
    ///
    /// After a failure, batches in flight are still awaited, so that the counts are true.
    /// - Parameter onProgress: Called after every acknowledged batch, one call at a time.
    package func run(_ source: any ImportSource, onProgress: @Sendable (Progress) -> Void) async -> Outcome {
        await withTaskGroup(of: Event.self) { group in
            var progress = Progress(totalBytes: source.totalBytes)
            var planner = ImportPlanner()
            var cutter = LineCutter(bytesMax: ImportPlanner.lineBytesMax)
            var schedule = ImportSchedule()
            var failure: ClientError?
            var isReading = false
            var isAtEnd = false
            while true {
                while failure == nil, let batch = schedule.next() {
                    let isFirst = batch.firstOrdinal == 0
                    group.addTask { await self.send(batch, isFirst: isFirst, source: source) }
                }
                if failure == nil, !isAtEnd, !isReading, schedule.wantsMore {
                    isReading = true
                    group.addTask { await Self.read(source) }
                }
                guard let event = await group.next() else { break }
                switch event {
                case .chunk(let bytes):
                    isReading = false
                    isAtEnd = bytes.isEmpty
                    progress.bytesRead += bytes.count
                    guard failure == nil else { continue }
                    do throws(ImportLineError) {
                        try Self.plan(bytes, &cutter, &planner, &schedule)
                    } catch {
                        failure = ClientError(.badInput, "\(source.name):\(error.line): \(error.message)")
                    }
                case .sent(let batch, let isReplayed):
                    schedule.finished(batch.organization)
                    if isReplayed { progress.alreadyThere += batch.lines.count }
                    if !isReplayed { progress.appended += batch.lines.count }
                    progress.organizations[batch.organization, default: 0] += batch.lines.count
                    progress.batches += 1
                    onProgress(progress)
                case .failed(let error, let batch):
                    if let batch { schedule.finished(batch.organization) } else { isReading = false }
                    failure = failure ?? error
                    schedule.drop()
                }
            }
            return Outcome(progress: progress, failure: failure)
        }
    }

    private static func plan(
        _ bytes: [UInt8],
        _ cutter: inout LineCutter,
        _ planner: inout ImportPlanner,
        _ schedule: inout ImportSchedule
    ) throws(ImportLineError) {
        if bytes.isEmpty {
            try cutter.finish { (line) throws(ImportLineError) in
                for batch in try planner.add(line) { schedule.enqueue(batch) }
            }
            for batch in planner.finish() { schedule.enqueue(batch) }
        } else {
            try cutter.add(bytes) { (line) throws(ImportLineError) in
                for batch in try planner.add(line) { schedule.enqueue(batch) }
            }
        }
    }

    private static func read(_ source: any ImportSource) async -> Event {
        do { return .chunk(try await source.read()) } catch let error as ClientError {
            return .failed(error, batch: nil)
        } catch {
            return .failed(ClientError(.localFile, "cannot read \(source.name)", cause: error), batch: nil)
        }
    }

    private func send(_ batch: ImportBatch, isFirst: Bool, source: any ImportSource) async -> Event {
        let organization = batch.organization.rawValue
        do {
            if isFirst, self.createsOrganizations { try await self.create(organization) }
            var request = APIRequest(
                .post,
                "/v1/organizations/\(organization)/records",
                body: ByteBuffer(bytes: batch.bytes)
            )
            request.contentType = "application/x-ndjson"
            request.idempotencyKey = batch.idempotencyKey
            request.budget = self.timeout
            request.timeout = min(.seconds(30), self.timeout)
            let answer = try await self.client.send(request)
            return .sent(batch, isReplayed: answer.isReplayed)
        } catch let error as ClientError {
            return .failed(Self.placed(error, batch, source), batch: batch)
        } catch {
            return .failed(ClientError(.unreachable, "the import was interrupted", cause: error), batch: batch)
        }
    }

    private func create(_ organization: String) async throws {
        do {
            try await self.client.createOrganization(
                key: organization,
                name: nil,
                budget: self.timeout,
                mayExist: true
            )
        } catch let error as ClientError where error.code == .refused(problem: "organization_exists") {
            // It was there before, or an earlier try of ours made it.
        }
    }

    /// `error` with the place in the input that it speaks of.
    private static func placed(_ error: ClientError, _ batch: ImportBatch, _ source: any ImportSource) -> ClientError {
        if error.code == .refused(problem: "organization_not_found") || error.code == .refused(problem: "not_found") {
            return ClientError(
                error.code,
                "\(error.message); create it with ftnode org create \(batch.organization), or give --create-organizations"
            )
        }
        if let line = error.line, batch.lines.indices.contains(line - 1) {
            // The cluster counts lines of the batch; people those of the input.
            let message = error.message.replacing("line \(line): ", with: "", maxReplacements: 1)
                .replacing("line \(line), ", with: "", maxReplacements: 1)
            return ClientError(error.code, "\(source.name):\(batch.lines[line - 1]): \(message)")
        }
        return ClientError(
            error.code,
            "\(source.name):\(batch.lines.first ?? 0)–\(batch.lines.last ?? 0) (organization \(batch.organization)): "
                + error.message,
            cause: error.cause
        )
    }
}
