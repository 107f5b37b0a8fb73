internal import Foundation
internal import NIOPosix

/// Where a lake's table is kept.
package protocol LakeStorage: Sendable {
    /// The lowest version in the log; nil when there is no log.
    func firstVersion() async throws -> Int64?
    /// The bytes of a commit, or nil when it has not been made.
    func commit(_ version: Int64) async throws -> [UInt8]?
    /// Makes a commit, durably and all at once.
    /// - Returns: False when somebody else has made it.
    func make(_ version: Int64, _ bytes: [UInt8]) async throws -> Bool
    /// A new file that nobody sees yet.
    func stage() async throws -> LakeStagedFile
    /// Gives a staged file its path in the table, durably; a file of the same name gives way.
    func place(_ staged: LakeStagedFile, at path: String) async throws
    /// The paths of all data files of a partition of ``LakeColumns/partition``'s first column.
    func files(of organization: String) async throws -> [String]
    /// Removes a data file; one that is not there is no error.
    func remove(_ path: String) async throws
}

/// A file that is being written; gone with this object unless it was placed.
package final class LakeStagedFile: Sendable {
    /// Where it is until it is placed.
    package let path: String
    fileprivate let descriptor: Int32

    fileprivate init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
    }

    deinit {
        unlink(self.path)
        close(self.descriptor)
    }

    /// Appends bytes.
    package func write(_ bytes: UnsafeRawBufferPointer) throws(ClientError) {
        var rest = bytes
        while !rest.isEmpty {
            let count = Foundation.write(self.descriptor, rest.baseAddress, rest.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw LakeFolder.failure("write", self.path) }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }
}

/// A lake's table in a folder of a file system, on threads of NIO's pool.
///
/// A data file is synchronised before it gets its name, and its name before the commit that speaks of it; a commit is a
/// hard link to a synchronised file, which fails when the version exists.
package struct LakeFolder: LakeStorage {
    /// Most files of one organization, and most commits, that are looked at.
    static let entriesMax = 10_000_000

    private let table: String
    private var log: String { self.table + "/_delta_log" }
    private var staging: String { self.table + "/_staging" }

    /// Opens or makes the table `audit_log` in `directory`, and removes what a killed exporter left unfinished.
    /// - Throws: ``ClientError`` `.localFile`.
    package static func open(_ directory: String) async throws -> LakeFolder {
        let folder = LakeFolder(table: directory + "/audit_log")
        try await Self.blocking {
            for path in [folder.log, folder.staging] {
                do {
                    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
                } catch {
                    throw ClientError(.localFile, "cannot make the folder \(path)", cause: error)
                }
            }
            try Self.synchronizeFolder(directory)
            try Self.synchronizeFolder(folder.table)
            try folder.removeAbandoned()
        }
        return folder
    }

    private init(table: String) { self.table = table }

    package func firstVersion() async throws -> Int64? {
        try await Self.blocking {
            try Self.names(self.log).compactMap { DeltaCommit.version(ofFile: $0) }.min()
        }
    }

    package func commit(_ version: Int64) async throws -> [UInt8]? {
        try await Self.blocking {
            let path = self.log + "/" + DeltaCommit.fileName(version)
            let descriptor = Foundation.open(path, O_RDONLY | O_CLOEXEC)
            if descriptor < 0, errno == ENOENT { return nil }
            guard descriptor >= 0 else { throw Self.failure("read", path) }
            let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
            guard let data = try handle.read(upToCount: DeltaCommit.bytesMax + 1) else { return [] }
            guard data.count <= DeltaCommit.bytesMax else {
                throw ClientError(.badInput, "\(path) is longer than \(DeltaCommit.bytesMax) bytes")
            }
            return [UInt8](data)
        }
    }

    package func make(_ version: Int64, _ bytes: [UInt8]) async throws -> Bool {
        try await Self.blocking {
            let staged = try self.stagedFile()
            try bytes.withUnsafeBytes { try staged.write($0) }
            try Self.synchronize(staged.descriptor, staged.path)
            let path = self.log + "/" + DeltaCommit.fileName(version)
            if link(staged.path, path) != 0 {
                if errno == EEXIST { return false }
                throw Self.failure("make", path)
            }
            try Self.synchronizeFolder(self.log)
            return true
        }
    }

    package func stage() async throws -> LakeStagedFile { try await Self.blocking { try self.stagedFile() } }

    package func place(_ staged: LakeStagedFile, at path: String) async throws {
        try await Self.blocking {
            try Self.synchronize(staged.descriptor, staged.path)
            var folder = self.table
            for part in path.split(separator: "/").dropLast() {
                let parent = folder
                folder += "/" + part
                if mkdir(folder, 0o755) == 0 {
                    try Self.synchronizeFolder(parent)
                } else if errno != EEXIST {
                    throw Self.failure("make", folder)
                }
            }
            let target = self.table + "/" + path
            guard rename(staged.path, target) == 0 else { throw Self.failure("make", target) }
            try Self.synchronizeFolder(folder)
        }
    }

    package func files(of organization: String) async throws -> [String] {
        try await Self.blocking {
            let partition = "organization=\(organization)"
            var found: [String] = []
            for month in try Self.names(self.table + "/" + partition) {
                let folder = partition + "/" + month
                for name in try Self.names(self.table + "/" + folder) { found.append(folder + "/" + name) }
            }
            return found
        }
    }

    package func remove(_ path: String) async throws {
        try await Self.blocking {
            let target = self.table + "/" + path
            guard unlink(target) == 0 || errno == ENOENT else { throw Self.failure("remove", target) }
        }
    }

    // MARK: -

    /// A staged file is locked while its writer lives: so others know that it is in use.
    private func stagedFile() throws -> LakeStagedFile {
        let path = self.staging + "/" + UUID().uuidString  // ambient-ok: a file name that nobody else has
        let descriptor = Foundation.open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw Self.failure("make", path) }
        let file = LakeStagedFile(path: path, descriptor: descriptor)
        _ = flock(descriptor, LOCK_EX | LOCK_NB)
        return file
    }

    private func removeAbandoned() throws {
        for name in try Self.names(self.staging) {
            let path = self.staging + "/" + name
            let descriptor = Foundation.open(path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { continue }
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { unlink(path) }
            close(descriptor)
        }
    }

    private static func names(_ folder: String) throws(ClientError) -> [String] {
        guard let directory = opendir(folder) else {
            if errno == ENOENT || errno == ENOTDIR { return [] }
            throw self.failure("read", folder)
        }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: Int(NAME_MAX) + 1) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
            guard names.count <= self.entriesMax else {
                throw ClientError(.localFile, "\(folder) has more than \(self.entriesMax) entries")
            }
        }
        return names
    }

    private static func synchronize(_ descriptor: Int32, _ path: String) throws(ClientError) {
        guard fsync(descriptor) == 0 else { throw self.failure("write", path) }
    }

    private static func synchronizeFolder(_ path: String) throws(ClientError) {
        let descriptor = Foundation.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw self.failure("read", path) }
        defer { close(descriptor) }
        // Some file systems do not synchronise folders and say so.
        guard fsync(descriptor) == 0 || errno == EINVAL else { throw self.failure("write", path) }
    }

    static func failure(_ verb: String, _ path: String) -> ClientError {
        ClientError(.localFile, "cannot \(verb) \(path): \(String(cString: strerror(errno)).lowercased())")
    }

    private static func blocking<Value: Sendable>(
        _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        try await NIOThreadPool.singleton.runIfActive { try body() }
    }
}
