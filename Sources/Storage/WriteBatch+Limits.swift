/// What a batch may hold, the same in every store.
package enum StorageLimits {
    /// Bytes of all keys and values of one batch.
    package static let batchBytesMax = 256 << 20
    /// Bytes of one key.
    package static let keyBytesMax = 64 << 10
}

extension WriteBatch {
    /// Refuses a batch that a store must not begin to write; it changes nothing and poisons nothing.
    /// - Throws: ``StorageError`` `.invalidArgument`.
    package func validate() throws(StorageError) {
        guard self.sizeBytes <= StorageLimits.batchBytesMax else {
            throw StorageError(
                code: .invalidArgument,
                message: "a batch of \(self.sizeBytes) bytes is over the limit of \(StorageLimits.batchBytesMax)"
            )
        }
        for operation in self.operations {
            let keyBytes: Int
            switch operation {
            case .put(_, let key, _), .delete(_, let key):
                keyBytes = key.count
            case .deleteRange(let family, let lower, let upper):
                keyBytes = max(lower.count, upper.count)
                guard !bytesPrecede(upper, lower) else {
                    throw StorageError(
                        code: .invalidArgument,
                        message: "a range to delete from \(family.rawValue) ends before it begins"
                    )
                }
            }
            guard keyBytes <= StorageLimits.keyBytesMax else {
                throw StorageError(
                    code: .invalidArgument,
                    message: "a key of \(keyBytes) bytes is over the limit of \(StorageLimits.keyBytesMax)"
                )
            }
        }
    }
}
