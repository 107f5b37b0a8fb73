"""Real readers against a lake that "ftnode export" has made: deltalake, polars and pyarrow.

usage: lake_clients.py LAKE ORGANIZATION=COUNT…

The lake has exactly the records 1 to COUNT of each organization. Prints one line a check and exits 1 when any fails.
"""

import hashlib
import json
import pathlib
import sys
import traceback

import deltalake
import polars
import pyarrow.dataset

LAKE = pathlib.Path(sys.argv[1]) / "audit_log"
WANTED = {name: int(count) for name, count in (part.split("=") for part in sys.argv[2:])}
EXPECTED = sorted((name, sequence) for name, count in WANTED.items() for sequence in range(1, count + 1))


def expect(actual, wanted, what):
    assert actual == wanted, f"{what}: {actual!r:.300} is not {wanted!r:.300}"


def delta_log():
    """What the log says is in the files, with their digests."""
    table = deltalake.DeltaTable(str(LAKE))
    expect(table.protocol().min_reader_version, 1, "reader version")
    expect(table.metadata().partition_columns, ["organization", "month"], "partitions")
    named = {pathlib.PurePosixPath(path) for path in
             (uri.removeprefix("file://").removeprefix(str(LAKE) + "/") for uri in table.file_uris())}
    found = {path.relative_to(LAKE) for path in LAKE.glob("organization=*/**/*.parquet")}
    expect({str(path) for path in found}, {str(path) for path in named}, "files")
    for commit in sorted((LAKE / "_delta_log").glob("*.json")):
        for line in commit.read_text().splitlines():
            add = json.loads(line).get("add")
            if add:
                data = (LAKE / add["path"]).read_bytes()
                expect(len(data), add["size"], "size")
                expect(hashlib.sha256(data).hexdigest(), add["tags"]["sha256"], "digest")
    for name, count in WANTED.items():
        expect(table.transaction_version(f"flasktrack:{name}"), count, "progress")


def deltalake_rows():
    table = deltalake.DeltaTable(str(LAKE))
    rows = polars.from_arrow(table.to_pyarrow_table()).select("organization", "sequence").rows()
    expect(sorted(rows), EXPECTED, "rows of deltalake")


def polars_rows():
    rows = polars.scan_delta(str(LAKE)).select("organization", "sequence").sort("organization", "sequence").collect()
    expect(rows.rows(), EXPECTED, "rows of polars")
    frame = polars.scan_delta(str(LAKE)).filter(polars.col("sequence") == 1).collect()
    expect(frame.height, len(WANTED), "first records")
    expect(frame.schema["recorded_at"], polars.Datetime("us", "UTC"), "type of recorded_at")
    expect(frame.schema["sequence"], polars.Int64, "type of sequence")
    expect(frame.schema["after"], polars.String, "type of after")
    expect(
        frame.select((polars.col("recorded_at").dt.strftime("%Y-%m") == polars.col("month")).all()).item(), True, "month"
    )


def hive_rows():
    frame = polars.scan_parquet(str(LAKE) + "/organization=*/month=*/*.parquet", hive_partitioning=True).collect()
    rows = frame.select("organization", "sequence").rows()
    expect(sorted(rows), EXPECTED, "rows of polars without the log")
    rows = pyarrow.dataset.dataset(LAKE, partitioning="hive", exclude_invalid_files=True).count_rows()
    expect(rows, len(EXPECTED), "rows of pyarrow without the log")


failed = False
for check in (delta_log, deltalake_rows, polars_rows, hive_rows):
    try:
        check()
        print(f"ok {check.__name__}")
    except Exception:
        failed = True
        print(f"FAILED {check.__name__}\n{traceback.format_exc()}")
sys.exit(1 if failed else 0)
