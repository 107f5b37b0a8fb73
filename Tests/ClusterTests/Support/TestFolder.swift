internal import Foundation

/// A folder below the temporary directory, removed by ``remove()``.
struct TestFolder: Sendable {
    let path: String

    init(_ purpose: String) throws {
        self.path = FileManager.default.temporaryDirectory.path + "/flasktrack-\(purpose)-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: self.path, withIntermediateDirectories: true)
    }

    func remove() { try? FileManager.default.removeItem(atPath: self.path) }

    func file(_ name: String) -> String { self.path + "/" + name }

    /// Writes a file into the folder.
    /// - Returns: Its path.
    @discardableResult
    func write(_ bytes: some Sequence<UInt8>, to name: String) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: self.file(name)))
        return self.file(name)
    }
}

/// Runs `body` with a folder that is removed afterwards.
func withFolder<R>(_ purpose: String, _ body: (TestFolder) async throws -> R) async throws -> R {
    let folder = try TestFolder(purpose)
    defer { folder.remove() }
    return try await body(folder)
}
