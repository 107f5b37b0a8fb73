import Foundation
import Testing

@testable import Transport

/// OpenSSL and the end of the process.
@Suite(.timeLimit(.minutes(10)))
struct OpenSSLLibraryTests {
    @Test func servesUntilTheProcessHasEnded() async {
        await #expect(processExitsWith: .success) {
            // What was registered first runs last: after the library's own cleaning up, if it does any.
            atexit {
                if (try? TLSContext(client: TLSClientConfiguration(caFile: nil))) == nil { _exit(9) }
            }
            _ = try TLSContext(client: TLSClientConfiguration(caFile: nil))
            exit(0)
        }
    }
}
