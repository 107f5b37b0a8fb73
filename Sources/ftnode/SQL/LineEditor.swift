internal import CEditline
internal import Foundation
internal import Synchronization

/// A line that somebody typed, or why there is none.
enum EditedLine: Sendable {
    case text(String)
    /// Ctrl-C.
    case interrupted
    /// Ctrl-D.
    case end
}

/// The line editor of libedit: keys, history, completion.
///
/// There is one for the process, as the library's state is global. ``readLine(prompt:)`` blocks a thread of its own, not the pool.
final class LineEditor: Sendable {
    /// Most lines of history that are kept.
    static let historyMax: Int32 = 2_000

    /// What the library's callbacks reach; there is one editor.
    private struct Shared: Sendable {
        var line: EditedLine?
        var completion: (@Sendable (_ word: String, _ before: String) -> [String])?
        var candidates: [String] = []
    }
    private static let shared = Mutex(Shared())

    private let queue = DispatchQueue(label: "line-editor")
    private let historyFile: String?
    /// Written to when a line shall be given up.
    private let wake: (read: Int32, write: Int32)

    /// - Parameters:
    ///   - historyFile: Where lines are kept between sessions, readable by its owner only; nil for nowhere.
    ///   - completion: The whole words that may stand for a word, given what is before it on the line.
    init(historyFile: String?, completion: @escaping @Sendable (_ word: String, _ before: String) -> [String]) {
        self.historyFile = historyFile
        var ends: [Int32] = [-1, -1]
        pipe(&ends)
        self.wake = (ends[0], ends[1])
        Self.shared.withLock { $0.completion = completion }
        setlocale(LC_ALL, "")
        shim_edit_configure("ftnode", Self.complete)
        stifle_history(Self.historyMax)
        if let historyFile { read_history(historyFile) }
    }

    deinit {
        close(self.wake.read)
        close(self.wake.write)
    }

    /// Gives up the line that is being typed, as Ctrl-C does; safe in a signal's handler thread.
    func interrupt() {
        var byte: UInt8 = 1
        _ = write(self.wake.write, &byte, 1)
    }

    /// Waits for one line.
    func readLine(prompt: String) async -> EditedLine {
        await withCheckedContinuation { continuation in
            self.queue.async { continuation.resume(returning: self.read(prompt)) }
        }
    }

    /// Keeps a line for the arrow keys and the next session.
    func remember(_ line: String) {
        self.queue.sync {
            let text = line.split(whereSeparator: \.isNewline).joined(separator: " ")
            guard !text.isEmpty else { return }
            add_history(text)
            guard let file = self.historyFile else { return }
            if write_history(file) == 0 { chmod(file, 0o600) }
        }
    }

    private func read(_ prompt: String) -> EditedLine {
        Self.shared.withLock { $0.line = nil }
        rl_callback_handler_install(prompt) { text in
            let line: EditedLine
            if let text {
                line = .text(String(cString: text))
                free(text)
            } else {
                line = .end
            }
            LineEditor.shared.withLock { $0.line = line }
            rl_callback_handler_remove()
        }
        while true {
            var sources = [
                pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0),
                pollfd(fd: self.wake.read, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&sources, 2, -1) > 0 else { continue }
            if sources[1].revents != 0 {
                var byte: UInt8 = 0
                _ = Foundation.read(self.wake.read, &byte, 1)
                rl_callback_handler_remove()
                return .interrupted
            }
            rl_callback_read_char()
            if let line = Self.shared.withLock({ $0.line }) { return line }
        }
    }

    /// Asked by the library for what may stand for `text`, which is from `start` on in its line.
    private static let complete:
        @convention(c) (UnsafePointer<CChar>?, Int32, Int32) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = {
            text,
            start,
            _ in
            shim_edit_end_completion()
            guard let text, let buffer = shim_edit_buffer() else { return nil }
            let before = String(decoding: Array(String(cString: buffer).utf8.prefix(Int(start))), as: UTF8.self)
            let completion = LineEditor.shared.withLock { $0.completion }
            let found = completion?(String(cString: text), before) ?? []
            guard !found.isEmpty else { return nil }
            LineEditor.shared.withLock { $0.candidates = found.reversed() }
            return rl_completion_matches(text) { _, _ in
                guard let next = LineEditor.shared.withLock({ $0.candidates.popLast() }) else { return nil }
                return strdup(next)
            }
        }
}
