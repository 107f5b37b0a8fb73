internal import Foundation

/// Writes small files whole: a reader sees the old content or the new, never a part.
package enum WholeTextFile {
    /// Who may read a file.
    package enum Audience: Sendable {
        /// The owner only: mode 0600.
        case owner
        /// Everybody: mode 0644.
        case everybody

        var mode: mode_t { self == .owner ? 0o600 : 0o644 }
    }

    /// Writes `text` to `path` with the mode of `audience`, which holds from the first byte on.
    ///
    /// - Parameter replacing: false → an existing file is left as it is and `.exists` is thrown.
    /// - Throws: ``PKIError`` `.exists`, `.unreadableFile`.
    package static func write(
        _ text: String,
        to path: String,
        for audience: Audience,
        replacing: Bool
    ) throws(PKIError) {
        let temporary = "\(path).\(getpid()).tmp"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, audience.mode)
        guard descriptor >= 0 else { throw self.failure("create", path) }
        defer { unlink(temporary) }
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let error = self.failure("write", path)
                close(descriptor)
                throw error
            }
            bytes = bytes.dropFirst(count)
        }
        guard fsync(descriptor) == 0, close(descriptor) == 0 else { throw self.failure("write", path) }
        if replacing {
            guard rename(temporary, path) == 0 else { throw self.failure("write", path) }
        } else if link(temporary, path) != 0 {
            if errno == EEXIST { throw PKIError(.exists, "\(path) exists already; --force replaces it") }
            throw self.failure("write", path)
        }
    }

    /// The text of the file at `path`, which must be UTF-8 and not larger than `bytesMax`.
    package static func read(_ path: String, bytesMax: Int = 1 << 20) throws(PKIError) -> String {
        let data: Data
        do {
            data = try Data(contentsOf: URL(fileURLWithPath: path))
        } catch {
            throw PKIError(.unreadableFile, "cannot read \(path): \(FileProblem.reason(error))")
        }
        guard data.count <= bytesMax, let text = String(validating: data, as: UTF8.self) else {
            throw PKIError(.malformed, "\(path) is not text of at most \(bytesMax) bytes")
        }
        return text
    }

    /// Makes `folder` and those above it, for the owner only where `audience` says so.
    package static func makeFolder(_ folder: String, for audience: Audience) throws(PKIError) {
        do {
            try FileManager.default.createDirectory(
                atPath: folder,
                withIntermediateDirectories: true,
                attributes: [.posixPermissions: audience == .owner ? 0o700 : 0o755]
            )
        } catch {
            throw PKIError(.unreadableFile, "cannot make the folder \(folder): \(FileProblem.reason(error))")
        }
    }

    private static func failure(_ what: String, _ path: String) -> PKIError {
        PKIError(.unreadableFile, "cannot \(what) \(path): \(String(cString: strerror(errno)).lowercased())")
    }
}
