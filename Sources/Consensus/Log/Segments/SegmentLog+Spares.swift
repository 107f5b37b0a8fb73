internal import Storage
internal import Synchronization

// Segments that are made before they are wanted.
//
// The first write of a block also changes the file system's journal, and a sync then waits for both: that took 1.1 to 3.6
// times the processor's time of a sync of a block that was written before (decision 0013). Segments that are used again have
// been written; new ones are filled with zeros beside the log, while the segment before them is being written.
extension SegmentLog {
    /// Batches in a segment from which on filling the next one costs less than the syncs that it makes cheaper. With few
    /// large ones the disk has enough to do.
    static let batchesWorthFilling = 64

    /// Has the next segment made, when none is left for it and small batches come.
    /// - Parameter batches: How many went into the segment that has just become full.
    func prepareSpare(afterBatches batches: Int) {
        guard let preparer, batches >= Self.batchesWorthFilling, self.configuration.sparesMax > 0 else { return }
        let isDue = self.state.withLock { state in
            guard state.spares.isEmpty, !state.isPreparing, state.failure == nil else { return false }
            state.isPreparing = true
            return true
        }
        if isDue { preparer.enqueue { self.makeSpare() } }
    }

    private func makeSpare() {
        var file: (any LogFile)?
        do {
            file = try self.files.create(
                Self.spareName,
                sizeBytes: self.configuration.segmentBytes,
                isFilled: true
            )
        } catch {
            // The next segment is made when it is needed, or is refused then. What there is of this one goes.
            try? self.files.remove(Self.spareName)
        }
        self.state.withLock { state in
            state.isPreparing = false
            if let file { state.spares.append((Self.spareName, file)) }
        }
    }
}
