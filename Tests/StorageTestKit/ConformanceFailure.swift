/// A promise of a store that it did not keep.
package struct ConformanceFailure: Error, CustomStringConvertible {
    package let promise: String
    package let detail: String

    package init(_ promise: String, _ detail: String) {
        self.promise = promise
        self.detail = detail
    }

    package var description: String { "\(self.promise): \(self.detail)" }
}

/// Checks of one promise.
struct Check {
    let promise: String

    init(_ promise: String) { self.promise = promise }

    func equal<Value: Equatable>(_ found: Value, _ wanted: Value, _ what: String) throws {
        guard found == wanted else {
            throw ConformanceFailure(self.promise, "\(what) is \(found), not \(wanted)")
        }
    }

    func holds(_ condition: Bool, _ what: String) throws {
        guard condition else { throw ConformanceFailure(self.promise, what) }
    }
}
