/// Who does the parts of a verification that depend on nothing but their input.
package struct VerificationLanes: Sendable {
    /// Runs a body for every number below a count, in any order or at once, and returns when all are done.
    package typealias Perform = @Sendable (_ count: Int, _ body: @Sendable (Int) -> Void) -> Void

    let perform: Perform

    package init(perform: @escaping Perform) { self.perform = perform }

    /// The calling thread alone.
    package static let one = VerificationLanes { count, body in for number in 0..<count { body(number) } }
}
