/// Applies `body` to `0..<count`, at most `width` at once, and gives the results in order.
///
/// `body` computes and reads; it runs on the concurrent pool.
func parallelMap<Result: Sendable>(
    count: Int,
    width: Int,
    _ body: @escaping @Sendable (Int) throws -> Result
) async throws -> [Result] {
    try await withThrowingTaskGroup(of: (Int, Result).self) { group in
        var results = [Result?](repeating: nil, count: count)
        var next = 0
        while next < min(width, count) {
            let place = next
            group.addTask { (place, try body(place)) }
            next += 1
        }
        while let (place, result) = try await group.next() {
            results[place] = result
            guard next < count else { continue }
            let place = next
            group.addTask { (place, try body(place)) }
            next += 1
        }
        return results.compactMap { $0 }
    }
}
