import NIOCore
import Testing

@testable import Transport

struct FloodGuardTests {
    private static func take(_ count: Int, of guardian: inout FloodGuard) -> [Bool] {
        (0..<count).map { _ in guardian.take() }
    }

    @Test func lendsABurstAndRefillsWithTime() {
        let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
        var guardian = FloodGuard(burst: 3, perSecond: 2, now: start)
        #expect(Self.take(4, of: &guardian) == [true, true, true, false])
        guardian.refill(now: start + .seconds(1))
        #expect(Self.take(2, of: &guardian) == [true, false])
        guardian.refill(now: start + .seconds(60))
        #expect(Self.take(4, of: &guardian) == [true, true, true, false])
    }

    @Test func usefulFramesGiveTokensBack() {
        var guardian = FloodGuard(burst: 2, perSecond: 1, now: .uptimeNanoseconds(0))
        for _ in 0..<100 {
            guardian.reward()
            let isAllowed = guardian.take()
            #expect(isAllowed)
        }
    }
}
