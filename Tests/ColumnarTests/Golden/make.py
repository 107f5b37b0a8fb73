"""Makes all_types.arrows with pyarrow: the tests read it, so that the decoder is held against another implementation.

    python3 Tests/ColumnarTests/Golden/make.py
"""
import datetime as dt
import decimal
import os

import pyarrow as pa

us = dt.datetime(2024, 2, 29, 12, 34, 56, 789012)
fields = [
    ("null", pa.null(), [None] * 4),
    ("bool", pa.bool_(), [True, False, None, True]),
    ("int8", pa.int8(), [-128, 127, None, 0]),
    ("int16", pa.int16(), [-32768, 32767, None, 0]),
    ("int32", pa.int32(), [-(2**31), 2**31 - 1, None, 0]),
    ("int64", pa.int64(), [-(2**63), 2**63 - 1, None, 0]),
    ("uint8", pa.uint8(), [0, 255, None, 1]),
    ("uint16", pa.uint16(), [0, 65535, None, 1]),
    ("uint32", pa.uint32(), [0, 2**32 - 1, None, 1]),
    ("uint64", pa.uint64(), [0, 2**64 - 1, None, 1]),
    ("float32", pa.float32(), [0.5, -1.25, None, 0.0]),
    ("float64", pa.float64(), [0.1, -1e300, None, 0.0]),
    ("decimal", pa.decimal128(18, 2), [decimal.Decimal(x) for x in ("123.45", "-0.01")] + [None, decimal.Decimal("0.00")]),
    ("utf8", pa.utf8(), ["", "flask", None, "ü漢🙂"]),
    ("binary", pa.binary(), [b"", b"\x00\xff", None, b"x"]),
    ("date32", pa.date32(), [dt.date(2024, 2, 29), dt.date(1969, 12, 31), None, dt.date(1970, 1, 1)]),
    ("time64", pa.time64("us"), [dt.time(23, 59, 59, 999999), dt.time(0), None, dt.time(1)]),
    ("timestamp", pa.timestamp("us"), [us, dt.datetime(1969, 12, 31, 23, 59, 59), None, dt.datetime(1970, 1, 1)]),
    ("timestamptz", pa.timestamp("us", "UTC"), [us, us, None, us]),
    ("interval", pa.month_day_nano_interval(), [pa.MonthDayNano([14, 3, 4000000000]), pa.MonthDayNano([0, 0, 0]), None, pa.MonthDayNano([-1, -2, -3])]),
    ("list", pa.list_(pa.int32()), [[1, None, 3], [], None, [4]]),
    ("struct", pa.struct([("a", pa.int32()), ("b", pa.utf8())]), [{"a": 1, "b": "x"}, {"a": None, "b": None}, None, {"a": 2, "b": "y"}]),
    ("map", pa.map_(pa.utf8(), pa.int32()), [[("k", 1), ("l", None)], [], None, [("m", 2)]]),
    ("fixed", pa.list_(pa.int16(), 2), [[1, 2], [3, None], None, [5, 6]]),
]
schema = pa.schema([pa.field(n, t) for n, t, _ in fields], metadata={"made by": "pyarrow"})
batch = pa.record_batch([pa.array(v, t) for _, t, v in fields], schema=schema)
target = os.path.join(os.path.dirname(os.path.abspath(__file__)), "all_types.arrows")
with pa.OSFile(target, "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
    writer.write_batch(batch)
    writer.write_batch(batch.slice(1, 2))  # sliced arrays
    writer.write_batch(batch.slice(0, 0))  # no rows
print(target, os.path.getsize(target))

# What clients send that is kept in another form: plain, and with both compressions.
long = "a text that is longer than a view keeps in place"
union = pa.UnionArray.from_dense(
    pa.array([0, 1, 0, 1], pa.int8()),
    pa.array([0, 0, 1, 1], pa.int32()),
    [pa.array(["a", "b"]), pa.array([7, None], pa.int32())],
    ["text", "number"],
)
forms = {
    "large_utf8": pa.array(["", "flask", None, "ü漢🙂"], pa.large_string()),
    "large_binary": pa.array([b"", b"\x00\xff", None, b"x"], pa.large_binary()),
    "large_list": pa.array([[1, 2], [], None, [3]], pa.large_list(pa.int32())),
    "utf8_view": pa.array(["short", long, None, long[::-1]], pa.string_view()),
    "binary_view": pa.array([b"", long.encode(), None, b"123456789012"], pa.binary_view()),
    "dictionary": pa.array(["red", "blue", None, "red"]).dictionary_encode(),
    "small_dictionary": pa.DictionaryArray.from_arrays(
        pa.array([1, 0, 1, None], pa.uint8()), pa.array(["x", "y"], pa.large_string())
    ),
    "list_of_large": pa.array([["a"], None, ["b", "c"], []], pa.list_(pa.large_string())),
    "union": union,
}
batch = pa.record_batch(list(forms.values()), names=list(forms))
for name, codec in (("clients", None), ("clients-lz4", "lz4"), ("clients-zstd", "zstd")):
    target = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".arrow")
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.OSFile(target, "wb") as sink, pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    print(target, os.path.getsize(target))
