"""What other clients of Flight SQL send, call by call, against a running node.

usage: flight_sequences.py PORT CA_FILE TOKEN ORGANIZATION [CHECK…]

The JDBC driver (and so DBeaver and Tableau) and Grafana's data source cannot be had from PyPI: their calls are made
here by hand, in their order and with their values, and what those clients would read is checked. flightsql-dbapi, by
which Superset connects, is run itself. Prints one line a check and exits 1 when any fails.
"""

import base64
import os
import struct
import sys
import time
import traceback
import uuid

PORT, CA_FILE, TOKEN, ORGANIZATION = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
# flightsql-dbapi has no option for it; read when gRPC is loaded.
sys.dont_write_bytecode = True
os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = CA_FILE

import flight_wire as wire
import grpc
import pyarrow
import pyarrow.types
import sqlalchemy

CA = open(CA_FILE, encoding="utf-8").read()
RUN = uuid.uuid4().hex
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def expect(actual, wanted):
    assert actual == wanted, f"{actual!r} is not {wanted!r}"


def refused(code, words, call):
    try:
        call()
    except grpc.RpcError as error:
        expect(error.code(), code)
        assert words in error.details(), f"{words!r} is not in {error.details()!r}"
        return
    raise AssertionError(f"nothing was refused, {words!r} was expected")


def basic():
    return base64.b64encode(f"anybody:{TOKEN}".encode()).decode()


# --- the JDBC driver ---------------------------------------------------------------------------------------------


class JDBC:
    """A connection of the Flight SQL JDBC driver: its calls, and its decisions on what comes back."""

    def __init__(self, catalog=None):
        self.wire = wire.Wire(PORT, CA, keeps_cookies=True)
        self.wire.handshake([("authorization", f"Basic {basic()}")])
        assert self.wire.headers["authorization"].startswith("Bearer "), "the handshake gave no token"
        if catalog:
            self.set_options(catalog=catalog)

    def set_options(self, **options):
        body = b""
        for name, value in options.items():
            body += wire.field(1, wire.field(1, name) + wire.field(2, wire.field(1, value)))
        (result,) = self.wire.action("SetSessionOptions", body)
        expect(wire.every(result, 1), [])

    def prepare(self, sql):
        body = wire.packed("ActionCreatePreparedStatementRequest", wire.field(1, sql))
        (result,) = self.wire.action("CreatePreparedStatement", body)
        return Prepared(self.wire, wire.unpacked(result, "ActionCreatePreparedStatementResult"))

    def query(self, sql):
        statement = self.prepare(sql)
        try:
            return statement.execute()
        finally:
            statement.close()

    def close(self):
        (result,) = self.wire.action("CloseSession")
        expect(wire.first(result, 1), 1)
        self.wire.close()


class Prepared:
    def __init__(self, connection, result):
        self.wire = connection
        self.handle = wire.first(result, 1)
        # Old drivers run what has no columns, new ones what says so, as an update by DoPut.
        assert wire.first(result, 2), "a statement without dataset_schema is taken for an update"
        self.schema = wire.schema(wire.first(result, 2))
        assert len(self.schema) > 0, "a statement without columns is taken for an update"
        expect(wire.first(result, 4), 0)
        self.parameters = wire.schema(wire.first(result, 3))

    def bind(self, *values):
        """setInt, setString and so on: values take the types of the parameters' schema."""
        expect(len(self.parameters), len(values))
        columns = [pyarrow.array([value], kind) for value, kind in zip(values, self.parameters.types)]
        rows = pyarrow.table(columns, schema=self.parameters)
        (answer,) = self.wire.put(
            wire.flight_data(rows, wire.descriptor("CommandPreparedStatementQuery", wire.field(1, self.handle)))
        )
        self.handle = wire.first(answer, 1, self.handle)

    def execute(self):
        info = self.wire.info("CommandPreparedStatementQuery", wire.field(1, self.handle))
        # All endpoints are opened at once, and whichever is ready comes first: only one keeps rows in order.
        expect(len(info.tickets), 1)
        table = self.wire.get(info.tickets[0])
        assert table.schema.equals(info.schema), f"{info.schema} was announced, {table.schema} came"
        return table

    def close(self):
        body = wire.packed("ActionClosePreparedStatementRequest", wire.field(1, self.handle))
        self.wire.action("ClosePreparedStatement", body)


@check
def jdbc_connects_queries_and_closes():
    connection = JDBC(catalog=ORGANIZATION)
    connection.query("select 1")
    expect(
        connection.wire.calls,
        ["Handshake", "DoAction", "DoAction", "GetFlightInfo", "DoGet", "DoAction"],
    )
    # Two statements: the handle of one that is closed is gone, that of the other is not.
    one, two = connection.prepare("select 1 as one"), connection.prepare("select 2 as two")
    one.close()
    refused(grpc.StatusCode.NOT_FOUND, "statement_unknown", one.execute)
    expect(two.execute().to_pylist(), [{"two": 2}])
    expect(two.execute().to_pylist(), [{"two": 2}])
    two.close()
    two.close()
    table = connection.query("select distinct organization from audit_log")
    assert set(table["organization"].to_pylist()) <= {ORGANIZATION}, "the catalog of the URL was forgotten"
    connection.close()


@check
def jdbc_binds_values_of_the_types_it_is_told():
    connection = JDBC()
    for sql, values, columns, rows in (
        ("select ? + 1 as n", (41.0,), ["double"], [[42.0]]),
        ("select ? % 2 = 0 as even, upper(?) as t", (41.0, "aé"), ["bool", "string"], [[False, "AÉ"]]),
        ("select ? as t", ("plain",), ["string"], [["plain"]]),
        ("select ? << 2 as n", (1,), ["int64"], [[4]]),
        ("select ?::int + ? as n", (1, 2), None, [[3]]),
        ("select count(*) as n from audit_log where action = ? and sequence > ?", ("none", 5), ["int64"], [[0]]),
        ("select max(sequence + ?) as n from audit_log where sequence + ? < 0", (1, 1), None, [[None]]),
    ):
        statement = connection.prepare(sql)
        if columns:
            expect([str(kind) for kind in statement.schema.types], columns)
        statement.bind(*values)
        table = statement.execute()
        expect([list(row.values()) for row in table.to_pylist()], rows)
        # Bound to what the driver was told, the columns are what it was told.
        expect(table.schema.types, statement.schema.types)
        statement.close()
    # Without a value: the error of the execution, not of the preparation.
    statement = connection.prepare("select ? + 1 as n")
    refused(grpc.StatusCode.INVALID_ARGUMENT, "parameter", statement.execute)
    connection.close()


@check
def jdbc_is_told_columns_of_other_values_after_binding():
    """A client that binds its own types gets columns of those: FlightInfo tells which."""
    connection = JDBC()
    statement = connection.prepare("select ? + 1 as n")
    expect([str(kind) for kind in statement.schema.types], ["double"])
    statement.parameters = pyarrow.schema([("1", pyarrow.int64())])
    statement.bind(41)
    table = statement.execute()
    expect((str(table.schema.types[0]), table["n"].to_pylist()), ("int64", [42]))
    connection.close()


@check
def jdbc_errors_come_when_preparing():
    connection = JDBC()
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    refused(invalid, "sql_invalid", lambda: connection.prepare("select nope from audit_log where action = ?"))
    refused(invalid, "(at byte 7)", lambda: connection.prepare("select nope from audit_log where action = ?"))
    refused(invalid, "sql_syntax", lambda: connection.prepare("select ? from where"))
    refused(grpc.StatusCode.PERMISSION_DENIED, "sql_not_allowed", lambda: connection.prepare("delete from audit_log"))
    # executeUpdate: always by DoPut.
    statement = connection.prepare("select 1")
    update = wire.descriptor("CommandPreparedStatementUpdate", wire.field(1, statement.handle))
    refused(invalid, "read_only", lambda: connection.wire.put([wire.field(1, update)]))
    connection.close()


@check
def jdbc_reads_what_there_is():
    connection = JDBC(catalog=ORGANIZATION)
    read = connection.wire.read
    everything = {row["info_name"]: row["value"] for row in read("CommandGetSqlInfo").to_pylist()}
    expect((everything[0], everything[3], everything[8], everything[504]), ("Flask Track", True, 0, '"'))
    for number in list(range(0, 6)) + list(range(500, 577)):
        assert number in everything, f"SqlInfo {number} is missing"
    catalogs = read("CommandGetCatalogs")["catalog_name"].to_pylist()
    assert ORGANIZATION in catalogs
    schemas = read("CommandGetDbSchemas", wire.field(1, ORGANIZATION) + wire.field(2, "%"))
    expect(schemas.to_pylist(), [{"catalog_name": ORGANIZATION, "db_schema_name": "main"}])
    expect(read("CommandGetTableTypes")["table_type"].to_pylist(), ["BASE TABLE", "VIEW"])
    where = wire.field(1, ORGANIZATION) + wire.field(2, "main") + wire.field(3, "audit\\_log")
    for kind in ("TABLE", "BASE TABLE", "table"):
        (row,) = read("CommandGetTables", where + wire.field(4, kind)).to_pylist()
        expect((row["table_name"], row["table_type"]), ("audit_log", "BASE TABLE"))
    expect(read("CommandGetTables", where + wire.field(4, "SYSTEM TABLE")).num_rows, 0)
    (row,) = read("CommandGetTables", where + wire.field(5, True)).to_pylist()
    columns = wire.schema(row["table_schema"])
    sequence = columns.field("sequence")
    expect(sequence.metadata[b"ARROW:FLIGHT:SQL:TYPE_NAME"], b"UBIGINT")
    expect(sequence.metadata[b"ARROW:FLIGHT:SQL:TABLE_NAME"], b"audit_log")
    assert sequence.metadata[b"ARROW:FLIGHT:SQL:REMARKS"]
    named = wire.field(1, ORGANIZATION) + wire.field(3, "audit_log")
    expect(read("CommandGetPrimaryKeys", named).num_rows, 0)
    expect(read("CommandGetImportedKeys", named).num_rows, 0)
    expect(read("CommandGetExportedKeys", named).num_rows, 0)
    both = named + wire.field(4, ORGANIZATION) + wire.field(6, "audit_log")
    expect(read("CommandGetCrossReference", both).num_rows, 0)
    connection.close()


@check
def jdbc_cancels_by_ending_the_stream():
    connection = JDBC()
    sql = f"select range as n, repeat('x', 200) as filler_{RUN} from range(3000000)"
    statement = connection.prepare(sql)
    info = connection.wire.info("CommandPreparedStatementQuery", wire.field(1, statement.handle))
    stream = connection.wire.open(info.tickets[0])
    for _ in range(3):
        next(stream)
    stream.cancel()
    statement.close()
    expect(connection.query("select 7 as n")["n"].to_pylist(), [7])
    refused(grpc.StatusCode.NOT_FOUND, "ticket_unknown", lambda: connection.wire.get(info.tickets[0]))
    connection.close()


# --- calls that drivers make when they are told to --------------------------------------------------------------


@check
def results_are_polled_renewed_and_cancelled():
    connection = wire.Wire(PORT, CA)
    connection.headers["authorization"] = f"Bearer {TOKEN}"

    def poll(sql):
        answer = connection.unary("PollFlightInfo", wire.descriptor("CommandStatementQuery", wire.field(1, sql)))
        # Without a descriptor the result is complete; all of it is there at once.
        expect((wire.every(answer, 2), wire.first(answer, 3)), ([], struct.pack("<d", 1)))
        return wire.first(answer, 1)

    info = wire.Info(poll("select 5 as n"))
    (renewed,) = connection.action("RenewFlightEndpoint", wire.field(1, info.endpoints[0]))
    expect(wire.first(renewed, 1), wire.first(info.endpoints[0], 1))
    seconds = wire.first(wire.first(renewed, 3), 1)
    assert 20 <= seconds - time.time() <= 40, f"the result waits until {seconds}, now is {time.time()}"
    expect(connection.get(info.tickets[0])["n"].to_pylist(), [5])
    gone = grpc.StatusCode.NOT_FOUND
    refused(gone, "ticket_unknown", lambda: connection.action("RenewFlightEndpoint", wire.field(1, info.endpoints[0])))
    for action, wrap, unwrap in (
        ("CancelFlightInfo", lambda message: wire.field(1, message), lambda result: result),
        (
            "CancelQuery",
            lambda message: wire.packed("ActionCancelQueryRequest", wire.field(1, message)),
            lambda result: wire.unpacked(result, "ActionCancelQueryResult"),
        ),
    ):
        message = poll("select range as n from range(3000000)")
        (result,) = connection.action(action, wrap(message))
        expect(wire.first(unwrap(result), 1), 1)
        refused(gone, "ticket_unknown", lambda: connection.get(wire.Info(message).tickets[0]))
        refused(gone, "ticket_unknown", lambda: connection.action(action, wrap(message)))
    connection.close()


# --- Grafana -----------------------------------------------------------------------------------------------------

# What becomes a column of a frame; of any other type the column comes out empty.
FRAMED = {
    "string", "float", "double", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
}


def grafana():
    connection = wire.Wire(PORT, CA)
    connection.headers = {
        "authorization": f"Bearer {TOKEN}",
        "x-flasktrack-profile": "grafana",
        "database": ORGANIZATION,
    }
    return connection


def frame(connection, sql):
    """A query as the data source runs it: the first endpoint alone, times as nanoseconds whatever their unit."""
    info = connection.info("CommandStatementQuery", wire.field(1, sql))
    table = connection.get(info.tickets[0])
    assert table.schema.equals(info.schema)
    columns = {}
    for name, column in zip(table.column_names, table.columns):
        if pyarrow.types.is_timestamp(column.type):
            expect((column.type.unit, column.type.tz), ("ns", None))
            columns[name] = column.cast(pyarrow.int64()).to_pylist()
        else:
            assert str(column.type) in FRAMED, f"{name} is {column.type}: Grafana shows nothing"
            columns[name] = column.to_pylist()
    return columns


@check
def grafana_checks_its_health_and_builds_queries():
    connection = grafana()
    expect(list(frame(connection, "select 1").values()), [[1]])
    numbers = connection.read("CommandGetSqlInfo")["info_name"].to_pylist()
    assert {0, 1, 2, 508, 509} <= set(numbers)
    kinds = wire.field(4, "BASE TABLE") + wire.field(4, "table")
    tables = connection.read("CommandGetTables", kinds).to_pylist()
    assert "audit_log" in {row["table_name"] for row in tables}
    expect({row["table_type"] for row in tables}, {"BASE TABLE"})
    expect({row["catalog_name"] for row in tables}, {ORGANIZATION})
    row = connection.read("CommandGetTables", wire.field(3, "audit_log") + wire.field(5, True)).to_pylist()[0]
    for column in wire.schema(row["table_schema"]):
        if pyarrow.types.is_timestamp(column.type):
            expect(column.type.unit, "ns")
        else:
            assert str(column.type) in FRAMED, f"{column.name} is {column.type}"
    refused(
        grpc.StatusCode.UNAUTHENTICATED,
        "token",
        lambda: wire.Wire(PORT, CA).info("CommandStatementQuery", wire.field(1, "select 1")),
    )
    connection.close()


@check
def grafana_shows_every_type():
    connection = grafana()
    found = frame(
        connection,
        "select timestamp '2026-01-31 12:00:00.123456' as t, date '2026-01-31' as d, sum(range)::hugeint as s,"
        " 1.5::decimal(9, 2) as m, 12::decimal(9, 0) as w, [1, 2] as l, {'a': 1} as st, map {'k': 1} as mp,"
        " 'x'::enum('x', 'y') as e, time '12:30:00' as tod, interval '90 minutes' as i, '\\x01\\x02'::blob as b,"
        " uuid '00000000-0000-0000-0000-000000000001' as u, 3::utinyint as n, null as nothing, true as yes,"
        " timestamptz '2026-01-31 12:00:00+02' as tz, sum(range) as h from range(5)",
    )
    expect(found["t"], [1769860800123456000])
    expect(found["d"], [1769817600000000000])
    expect(found["tz"], [1769853600000000000])
    expect((found["s"], found["h"], found["m"], found["w"]), ([10.0], [10.0], [1.5], [12]))
    expect((found["l"], found["e"], found["tod"], found["n"]), (["[1,2]"], ["x"], ["12:30:00"], [3]))
    expect((found["st"], found["mp"], found["nothing"], found["yes"]), (['{"a":1}'], ['{"k":1}'], [None], [True]))
    assert found["i"][0] and found["b"][0] and found["u"][0].endswith("01"), found
    whole = frame(connection, "select * from audit_log limit 3")
    assert "recorded_at" in whole
    connection.close()


@check
def grafana_macros_are_understood():
    connection = grafana()
    start, end = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"
    total = frame(connection, "select count(*) as n from audit_log")["n"][0]
    bins = frame(
        connection,
        "select date_bin(interval '3600 second', recorded_at, timestamp '1970-01-01T00:00:00Z') as recorded_at_binned,"
        " count(*) as n from audit_log"
        f" where recorded_at >= cast('{start}' as timestamp) and recorded_at <= cast('{end}' as timestamp)"
        " group by date_bin(interval '3600 second', recorded_at, timestamp '1970-01-01T00:00:00Z') order by 1",
    )
    expect(sum(bins["n"]), total)
    for moment in bins["recorded_at_binned"]:
        expect(moment % 3_600_000_000_000, 0)
    parts = frame(
        connection,
        "select datepart('year', recorded_at) as time_year, datepart('minute', recorded_at) as time_minute,"
        f" count(*) as n from audit_log where recorded_at >= cast('{start}' as timestamp) - interval '10 second'"
        " group by datepart('year', recorded_at), datepart('minute', recorded_at)",
    )
    expect(sum(parts["n"]), total)
    assert all(0 <= minute < 60 for minute in parts["time_minute"])
    connection.close()


@check
def grafana_signs_in_by_password():
    connection = wire.Wire(PORT, CA)
    # The Go client leaves the padding out.
    connection.handshake([("authorization", "Basic " + basic().rstrip("="))])
    expect(list(frame(connection, "select 1").values()), [[1]])
    connection.close()


# --- Superset ----------------------------------------------------------------------------------------------------


def superset(**query):
    text = "&".join(f"{name}={value}" for name, value in query.items())
    return sqlalchemy.create_engine(f"datafusion://anybody:{TOKEN}@127.0.0.1:{PORT}?{text}")


@check
def superset_connects_and_looks_around():
    engine = superset(**{"x-flasktrack-catalog": ORGANIZATION})
    with engine.connect() as connection:
        # Without SqlInfo 504 there is no connection at all.
        expect(engine.dialect.identifier_preparer.initial_quote, '"')
        expect([tuple(row) for row in connection.execute(sqlalchemy.text("select 1 as one, 'two' as two"))], [(1, "two")])
        inspector = sqlalchemy.inspect(connection)
        expect(set(inspector.get_schema_names()), {"main"})
        assert "audit_log" in inspector.get_table_names(schema="main")
        assert inspector.has_table("audit_log", schema="main")
        columns = {column["name"]: column["type"] for column in inspector.get_columns("audit_log", schema="main")}
        assert isinstance(columns["recorded_at"], sqlalchemy.types.TIMESTAMP), columns
        expect(inspector.get_pk_constraint("audit_log", schema="main"), [])
        expect((inspector.get_indexes("audit_log"), inspector.get_foreign_keys("audit_log")), ([], []))


@check
def superset_reads_a_table():
    engine = superset(**{"x-flasktrack-catalog": ORGANIZATION})
    table = sqlalchemy.table("audit_log", *map(sqlalchemy.column, ("organization", "action", "sequence")), schema="main")
    with engine.connect() as connection:
        query = sqlalchemy.select(table.c.organization, sqlalchemy.func.count().label("n"))
        query = query.group_by(table.c.organization)
        for organization, count in connection.execute(query):
            expect(organization, ORGANIZATION)
            assert count > 0
        limited = sqlalchemy.select(table.c.sequence).where(table.c.action == "it's").order_by(table.c.sequence)
        expect(connection.execute(limited.limit(10)).fetchall(), [])
        # What Superset's editor sends: a statement with its own limit around it.
        rows = connection.execute(sqlalchemy.text("SELECT * FROM (select range as n from range(5)) AS inner_qry LIMIT 3"))
        expect([row[0] for row in rows], [0, 1, 2])


@check
def superset_binds_values_in_unions():
    """With its switch for prepared statements each value comes in a dense union of five types."""
    engine = superset(**{"feature-sqlalchemy-prepared-statements": "on"})
    with engine.connect() as connection:
        sql = "select ? as n, ? as x, ? as t, ? as b"
        rows = connection.connection.cursor().execute(sql, (7, 1.5, "it's", True)).fetchall()
        expect([tuple(row) for row in rows], [(7, 1.5, "it's", True)])


def main():
    wanted = set(sys.argv[5:])
    failed = 0
    for function in CHECKS:
        if wanted and function.__name__ not in wanted:
            continue
        started = time.monotonic()
        try:
            function()
            print(f"ok {function.__name__} {time.monotonic() - started:.2f} s", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED {function.__name__}\n{traceback.format_exc()}", flush=True)
    sys.exit(1 if failed else 0)


main()
