extension QueryOutcome {
    /// The same answer, read through `batches`: by whoever counts its rows or may end it.
    package func replacing(batches: RecordBatchStream) -> QueryOutcome {
        QueryOutcome(
            schema: self.schema,
            batches: batches,
            provenance: self.provenance,
            absences: self.absences,
            plan: self.plan,
            statistics: self.statistics
        )
    }
}
