/// The calls of a store that can be made to fail.
package enum StoreOperation: String, CaseIterable, Sendable {
    case write
    case sync
    /// A get, a get of several keys, or a scan; of the store or of a snapshot.
    case read
    case snapshot
    case checkpoint
    case flush
}

/// A failure to come.
package struct StoreFault: Sendable {
    /// How long a fault lasts.
    package enum Duration: Sendable {
        case once
        case forEver
    }

    package let operation: StoreOperation
    /// Counts the calls of `operation` since the fault was armed; the first call is 1.
    package let number: Int
    package let duration: Duration
    /// The code of the error thrown: `.io` for a device that fails or is full, `.corruption` for damaged bytes.
    package let code: StorageError.Code
    /// A write that fails reached the write-ahead log all the same, or a failed sync the disk: the caller cannot know,
    /// and may find its effect after a crash.
    package let hasEffect: Bool

    package init(
        _ operation: StoreOperation,
        number: Int = 1,
        duration: Duration = .once,
        code: StorageError.Code = .io,
        hasEffect: Bool = false
    ) {
        precondition(number >= 1, "calls are counted from 1")
        self.operation = operation
        self.number = number
        self.duration = duration
        self.code = code
        self.hasEffect = hasEffect
    }
}

/// Counts calls and says which of them fail.
struct FaultPlan: Sendable {
    private struct Armed {
        let fault: StoreFault
        let callsBefore: Int
    }

    private var calls: [StoreOperation: Int] = [:]
    private var armed: [Armed] = []

    func count(of operation: StoreOperation) -> Int { self.calls[operation] ?? 0 }

    mutating func arm(_ fault: StoreFault) {
        self.armed.append(Armed(fault: fault, callsBefore: self.count(of: fault.operation)))
    }

    mutating func disarm() { self.armed = [] }

    /// Counts a call; returns the fault that meets it.
    mutating func next(_ operation: StoreOperation) -> StoreFault? {
        let number = self.count(of: operation) + 1
        self.calls[operation] = number
        let place = self.armed.firstIndex { armed in
            guard armed.fault.operation == operation else { return false }
            let since = number - armed.callsBefore
            return armed.fault.duration == .once ? since == armed.fault.number : since >= armed.fault.number
        }
        guard let place else { return nil }
        let fault = self.armed[place].fault
        if fault.duration == .once { self.armed.remove(at: place) }
        return fault
    }
}
