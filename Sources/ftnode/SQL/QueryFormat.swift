internal import ArgumentParser

/// The forms of a result on the command line.
enum QueryFormat: String, ExpressibleByArgument, CaseIterable, Sendable {
    case table
    case box
    case markdown
    case json
    case ndjson
    case csv
    case arrow
    case parquet
}
