"""Real clients against a running node: ADBC, pyarrow.flight, pandas and polars.

usage: flight_clients.py PORT CA_FILE TOKEN ORGANIZATION [CHECK…]

Prints one line a check and exits 1 when any fails. The organization exists and may have records; the token is an
operator's. What is appended belongs to this script: entities of the type `flight-client`.
"""

import contextlib
import hashlib
import json
import ssl
import sys
import time
import traceback
import urllib.error
import urllib.request
import uuid

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi
import adbc_driver_manager
import pandas
import polars
import pyarrow
import pyarrow.flight

PORT, CA_FILE, TOKEN, ORGANIZATION = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
CA = open(CA_FILE, encoding="utf-8").read()
URI = f"grpc+tls://127.0.0.1:{PORT}"
OPTIONS = adbc_driver_flightsql.DatabaseOptions
RUN = uuid.uuid4().hex
HEADER = OPTIONS.RPC_CALL_HEADER_PREFIX.value
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def connect(**options):
    options = {"username": "anybody", "password": TOKEN, **options}
    options = {name: value for name, value in options.items() if value is not None}
    options[OPTIONS.TLS_ROOT_CERTS.value] = CA
    return adbc_driver_flightsql.dbapi.connect(URI, db_kwargs=options, autocommit=True)


def bearer(**options):
    return connect(
        username=None, password=None, **{OPTIONS.AUTHORIZATION_HEADER.value: f"Bearer {TOKEN}"}, **options
    )


def rows(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def expect(actual, wanted):
    assert actual == wanted, f"{actual!r} is not {wanted!r}"


@contextlib.contextmanager
def refused(*words, kind=adbc_driver_manager.Error):
    try:
        yield
    except kind as error:
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        return
    raise AssertionError(f"nothing was refused, {words} was expected")


def events(count, run=RUN, **columns):
    return pyarrow.table(
        {
            "action": ["weigh"] * count,
            "entity_type": ["flight-client"] * count,
            "entity_id": [f"{run}-{number}" for number in range(count)],
            "after": [json.dumps({"grams": number}) for number in range(count)],
            "reason": [None if number % 2 else f"number {number}, \"quoted\"" for number in range(count)],
            **columns,
        }
    )


@check
def adbc_connects_by_password_and_bearer():
    for connection in (connect(), bearer()):
        with connection:
            expect(rows(connection, "select 1 as one, 'two' as two, null as three"), [(1, "two", None)])
            expect(connection.adbc_get_info()["vendor_name"], "Flask Track")
    with refused("UNAUTHENTICATED", "unauthenticated"):
        connect(password="wrong")


@check
def adbc_reads_tables_and_provenance():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("select organization, count(*) as n, max(sequence) as last from audit_log group by all order by 1")
        table = cursor.fetch_arrow_table()
        positions = json.loads(table.schema.metadata[b"flasktrack.provenance"])
        found = {row["organization"]: row["last"] for row in table.to_pylist()}
        for position in positions:
            if position["organization"] in found:
                expect(position["sequence"], found[position["organization"]])


@check
def adbc_lists_what_there_is():
    with connect() as connection:
        objects = connection.adbc_get_objects(depth="all", table_name_filter="audit\\_log").read_all().to_pylist()
        catalog = next(entry for entry in objects if entry["catalog_name"] == ORGANIZATION)
        (schema,) = catalog["catalog_db_schemas"]
        expect(schema["db_schema_name"], "main")
        (table,) = schema["db_schema_tables"]
        expect((table["table_name"], table["table_type"]), ("audit_log", "BASE TABLE"))
        columns = {column["column_name"]: column["xdbc_type_name"] for column in table["table_columns"]}
        expect((columns["action"], columns["sequence"], columns["after"]), ("VARCHAR", "UBIGINT", "JSON"))
        expect(sorted(connection.adbc_get_table_types()), ["BASE TABLE", "VIEW"])
        assert "action" in connection.adbc_get_table_schema("audit_log").names


@check
def adbc_binds_parameters():
    with connect() as connection, connection.cursor() as cursor:
        for number in (1, 41):
            cursor.execute("select ? + 1 as n, upper(?) as t", (number, "aé'\"x"))
            expect(cursor.fetchall(), [(number + 1, "AÉ'\"X")])
        cursor.execute("select count(*) from audit_log where action = ? and sequence >= ?", ("no such", 1))
        expect(cursor.fetchall(), [(0,)])
        with refused("INVALID_ARGUMENT", "parameters"):
            cursor.execute("select upper(?)", ("a", "b"))
        with refused("INVALID_ARGUMENT", "sql_invalid"):
            cursor.execute("select ? + 1", ("not a number",))


@check
def adbc_is_told_errors():
    with connect() as connection:
        with refused("INVALID_ARGUMENT", "sql_syntax", "at byte 12"):
            rows(connection, "select from where")
        with refused("INVALID_ARGUMENT", "sql_invalid", "nope", "at byte 7"):
            rows(connection, "select nope from audit_log")
        with refused("sql_not_allowed"):
            rows(connection, "drop table audit_log")
        with connection.cursor() as cursor, refused("read_only"):
            cursor.adbc_statement.set_sql_query("delete from audit_log")
            cursor.adbc_statement.execute_update()
        expect(rows(connection, "select 7"), [(7,)])


@check
def adbc_cancels_a_running_statement():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("select range as n, repeat('x', 200) as filler from range(3000000)")
        reader = cursor.fetch_record_batch()
        assert reader.read_next_batch().num_rows > 0
        started = time.monotonic()
        cursor.adbc_cancel()
        with contextlib.suppress(Exception):
            while True:
                reader.read_next_batch()
        assert time.monotonic() - started < 5, "the cancelled statement went on"
    with connect() as connection:
        expect(rows(connection, "select 1"), [(1,)])


@check
def adbc_ingests_events_once():
    options = {f"{HEADER}x-flasktrack-catalog": ORGANIZATION}
    with bearer(**options) as connection, connection.cursor() as cursor:
        count = f"select count(*), count(reason) from audit_log where entity_type = 'flight-client' and entity_id like '{RUN}-%'"
        for _ in range(2):
            expect(cursor.adbc_ingest("audit_log", events(1201), mode="append"), 1201)
            expect(rows(connection, count), [(1201, 601)])
        grams = f"select sum(cast(json_extract(after, '$.grams') as double)) from audit_log where entity_id like '{RUN}-%'"
        expect(rows(connection, grams), [(1200 * 1201 / 2,)])
        with refused("no member", "colour"):
            cursor.adbc_ingest("audit_log", events(1, colour=["red"]), mode="append")
        with refused("only appended"):
            cursor.adbc_ingest("audit_log", events(1), mode="create")
        bad = events(3, run=RUN + "-bad", severity=["info", "loud", "info"])
        with refused("INVALID_ARGUMENT", "row 2", "severity"):
            cursor.adbc_ingest("audit_log", bad, mode="append")
        expect(rows(connection, count.replace(RUN, RUN + "-bad")), [(0, 0)])


@check
def adbc_keeps_session_options_in_cookies():
    with refused("with_cookie_middleware"), connect() as connection:
        connection.adbc_connection.set_options(**{"adbc.connection.catalog": ORGANIZATION})
    with connect(**{OPTIONS.WITH_COOKIE_MIDDLEWARE.value: "true"}) as connection:
        connection.adbc_connection.set_options(**{"adbc.connection.catalog": ORGANIZATION})
        expect(connection.adbc_current_catalog, ORGANIZATION)
        for (organization,) in rows(connection, "select distinct organization from audit_log"):
            expect(organization, ORGANIZATION)


@check
def profiles_and_compression_are_kept():
    sql = (
        "select timestamp '2026-01-31 12:00:00.123456' as t, date '2026-01-31' as d, sum(range) as s, [1, 2] as l"
        " from range(5)"
    )
    with bearer(**{f"{HEADER}x-flasktrack-profile": "grafana"}) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        table = cursor.fetch_arrow_table()
        expect([str(kind) for kind in table.schema.types], ["timestamp[ns]", "timestamp[ns]", "double", "string"])
        expect(str(table["t"][0].as_py()), "2026-01-31 12:00:00.123456")
        expect((table["s"][0].as_py(), table["l"][0].as_py()), (10.0, "[1,2]"))
    sql = "select range as n, 'row ' || (range % 10) as t, case when range % 3 = 0 then range / 2 end as h from range(200000)"
    plain = None
    for codec in ("none", "lz4", "zstd"):
        with bearer(**{f"{HEADER}x-flasktrack-compression": codec}) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            table = cursor.fetch_arrow_table()
            plain = plain or table
            assert table.equals(plain), f"{codec} changed the rows"


def flight_client():
    client = pyarrow.flight.connect(URI, tls_root_certs=CA)
    pair = client.authenticate_basic_token("anybody", TOKEN)
    return client, pyarrow.flight.FlightCallOptions(headers=[pair])


def varint(number):
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def command(name, data):
    return field(1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()) + field(2, data)


def query(sql):
    return pyarrow.flight.FlightDescriptor.for_command(command("CommandStatementQuery", field(1, sql.encode())))


@check
def pyarrow_flight_reads_statements_and_paths():
    client, options = flight_client()
    info = client.get_flight_info(query("select range as n from range(100000) order by n desc"), options)
    (endpoint,) = info.endpoints
    expect(list(endpoint.locations), [])
    table = client.do_get(endpoint.ticket, options).read_all()
    expect((table.num_rows, table["n"][0].as_py()), (100000, 99999))
    assert table.schema.equals(info.schema, check_metadata=True)
    path = pyarrow.flight.FlightDescriptor.for_path(ORGANIZATION, "audit_log")
    info = client.get_flight_info(path, options)
    table = client.do_get(info.endpoints[0].ticket, options).read_all()
    expect(set(table["organization"].to_pylist()) <= {ORGANIZATION}, True)
    assert client.get_schema(path, options).schema.equals(info.schema)
    assert any(ORGANIZATION.encode() in flight.descriptor.path for flight in client.list_flights(options=options))
    assert "CreatePreparedStatement" in {action.type for action in client.list_actions(options)}


def kept_answers():
    lines = rest("/metrics")[1].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith('ft_query_cache_total{result="hit"'))


@check
def answers_are_kept_while_no_record_comes():
    run = "kept-" + RUN
    sql = f"select entity_id, after, repeat(entity_id, 60) as long from audit_log where entity_id like '{run}-%' order by sequence"
    options = {f"{HEADER}x-flasktrack-catalog": ORGANIZATION}
    with bearer(**options) as connection, connection.cursor() as cursor:

        def read():
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

        count = 0
        for size in (2500, 3):
            cursor.adbc_ingest("audit_log", events(size, run=f"{run}-{size}"), mode="append")
            count += size
            first = read()
            expect(first.num_rows, count)
            # Others append to this organization too, which ends an answer.
            for _ in range(10):
                before = kept_answers()
                again = read()
                assert again.equals(first), "a kept answer is another one"
                if kept_answers() > before:
                    break
            else:
                raise AssertionError("nothing is kept")
            body = rest("/v1/query", {"sql": sql, "organizations": [ORGANIZATION], "format": "arrow"})[1]
            assert pyarrow.ipc.open_stream(body).read_all().equals(first), "REST has another answer"
            with bearer(**options, **{f"{HEADER}x-flasktrack-compression": "zstd"}) as other, other.cursor() as squeezed:
                squeezed.execute(sql)
                assert squeezed.fetch_arrow_table().equals(first), "a compressed answer is another one"


@check
def pyarrow_flight_is_refused_what_is_not_its_own():
    client, options = flight_client()
    info = client.get_flight_info(query("select 1"), options)
    ticket = info.endpoints[0].ticket
    expect(client.do_get(ticket, options).read_all().num_rows, 1)
    with refused("ticket_unknown", kind=pyarrow.ArrowException):
        client.do_get(ticket, options).read_all()
    forged = pyarrow.flight.Ticket(command("TicketStatementQuery", field(1, b"x" * 24)))
    with refused("ticket_unknown", kind=pyarrow.ArrowException):
        client.do_get(forged, options).read_all()
    with refused("no command", kind=pyarrow.ArrowException):
        client.do_get(pyarrow.flight.Ticket(b"nonsense"), options).read_all()
    with refused("token", kind=pyarrow.ArrowException):
        client.get_flight_info(query("select 1"))
    held = client.get_flight_info(query("select 2"), options)
    result = list(client.do_action(pyarrow.flight.Action("CancelFlightInfo", field(1, held.serialize())), options))
    expect(result[0].body.to_pybytes(), b"\x08\x01")
    with refused("ticket_unknown", kind=pyarrow.ArrowException):
        client.do_get(held.endpoints[0].ticket, options).read_all()


@check
def pyarrow_flight_sends_what_is_malformed():
    client, options = flight_client()
    ingest = command("CommandStatementIngest", field(2, b"audit_log") + field(4, ORGANIZATION.encode()))
    descriptor = pyarrow.flight.FlightDescriptor.for_command(ingest)
    colour = pyarrow.table({"colour": ["red"]})
    with refused("no member", kind=pyarrow.ArrowException):
        writer, reader = client.do_put(descriptor, colour.schema, options)
        writer.write_table(colour)
        writer.done_writing()
        reader.read()
        writer.close()
    kinds = events(4, run=RUN + "-kinds", actor_id=["a", "b", "a", None], actor_kind=["human"] * 4)
    kinds = kinds.set_column(4, "reason", kinds["reason"].cast(pyarrow.large_string()))
    kinds = kinds.set_column(0, "action", kinds["action"].dictionary_encode())
    kinds = kinds.set_column(2, "entity_id", kinds["entity_id"].cast(pyarrow.string_view()))
    kinds = kinds.drop_columns(["actor_id", "actor_kind"])
    writer, reader = client.do_put(descriptor, kinds.schema, options)
    writer.write_table(kinds)
    writer.done_writing()
    expect(reader.read().to_pybytes(), b"\x08\x04")
    writer.close()


@check
def pandas_and_polars_read_through_adbc():
    sql = "select range as n, 'r' || range as t from range(1000) order by n"
    with connect() as connection:
        frame = pandas.read_sql(sql, connection)
        expect((len(frame), int(frame["n"].sum()), frame["t"].iloc[-1]), (1000, 499500, "r999"))
        frame = polars.read_database(sql, connection)
        expect((frame.height, frame["n"].sum(), frame["t"][-1]), (1000, 499500, "r999"))
    options = {f"{HEADER}x-flasktrack-catalog": ORGANIZATION}
    with bearer(**options) as connection:
        frame = polars.from_arrow(events(10, run=RUN + "-polars"))
        expect(frame.write_database("audit_log", connection, engine="adbc", if_table_exists="append"), 10)
        frame = events(10, run=RUN + "-pandas").to_pandas()
        frame.to_sql("audit_log", connection, index=False, if_exists="append")
        count = f"select count(*) from audit_log where entity_id like '{RUN}-pandas%' or entity_id like '{RUN}-polars%'"
        expect(rows(connection, count), [(20,)])


def rest(path, body=None, **headers):
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json", **headers}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"https://127.0.0.1:{PORT}{path}", data, headers)
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=CA_FILE)) as answer:
        return answer.headers, answer.read()


@check
def downloads_have_manifests():
    sql = "select range as n, '=1+' || range as t from range(1000)"
    forms = {
        "application/json": "json",
        "text/csv": "csv",
        "application/x-ndjson;q=0.5, application/vnd.apache.arrow.stream": "arrow",
        "application/vnd.apache.parquet": "parquet",
        "image/png, */*": "json",
    }
    for accept, form in forms.items():
        headers, body = rest("/v1/query", {"sql": sql, "organizations": [ORGANIZATION]}, accept=accept)
        manifest = json.loads(rest(f"/v1/queries/{headers['request-id']}/manifest")[1])
        expect((manifest["format"], manifest["rows"], manifest["statement"]), (form, 1000, sql))
        expect((manifest["bytes"], manifest["sha256"]), (len(body), hashlib.sha256(body).hexdigest()))
        expect(manifest["organizations"], [ORGANIZATION])
        if form == "csv":
            expect(body.split(b"\r\n")[:2], [b"n,t", b"0,'=1+0"])
        if form == "arrow":
            expect(pyarrow.ipc.open_stream(body).read_all().num_rows, 1000)
    with refused("404", kind=urllib.error.HTTPError):
        rest("/v1/queries/nothing/manifest")


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
