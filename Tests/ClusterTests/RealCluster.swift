internal import Testing

/// Tests over real node processes; one after another, for each starts several.
@Suite("A real cluster", .serialized)
enum RealCluster {
    /// Tests that leave their cluster as they found it, and so share one.
    @Suite("shared by many tests", .sharedCluster)
    enum Shared {}
}
