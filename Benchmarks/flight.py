"""DoGet over TLS: a node of ours beside the C++ Flight server of pyarrow with the same table, in turns.

usage: flight.py PORT CA_FILE TOKEN ORGANIZATION CERTIFICATE KEY [RUNS]

CERTIFICATE and KEY are the peer's, for 127.0.0.1, and signed by a CA whose certificate stands in the same folder as `ca.crt`. Prints one JSON object:
megabytes of Arrow data a second of both (the best run of each counts) and their ratio, and how many runs of ours were answered from a kept answer. Without one,
a run of ours includes planning and the scan of the store; the peer has the whole table in memory.
"""

import json
import pathlib
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

import pyarrow
import pyarrow.flight

SQL = "SELECT * FROM audit_log"


class Server(pyarrow.flight.FlightServerBase):
    """Hands out one table; the stream itself is C++."""

    def __init__(self, location, table, certificates):
        super().__init__(location, tls_certificates=certificates)
        self.table = table

    def do_get(self, context, ticket):
        return pyarrow.flight.RecordBatchStream(self.table)


def serve(port, file, certificate, key):
    with pyarrow.memory_map(file) as source:
        table = pyarrow.ipc.open_stream(source).read_all()
    pair = tuple(pathlib.Path(path).read_bytes() for path in (certificate, key))
    Server(f"grpc+tls://127.0.0.1:{port}", table, [pair]).serve()


def varint(number):
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def command(sql):
    query = field(1, sql.encode())
    name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return pyarrow.flight.FlightDescriptor.for_command(field(1, name) + field(2, query))


def read_ours(client, options):
    info = client.get_flight_info(command(SQL), options)
    return client.do_get(info.endpoints[0].ticket, options).read_all()


def read_theirs(client):
    return client.do_get(pyarrow.flight.Ticket(b"table")).read_all()


def kept_answers(port, ca_file, token):
    request = urllib.request.Request(f"https://127.0.0.1:{port}/metrics", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=ca_file)) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith('ft_query_cache_total{result="hit"'))


def timed(read):
    started = time.perf_counter()
    table = read()
    return time.perf_counter() - started, table


def main():
    port, ca_file, token, organization, certificate, key = sys.argv[1:7]
    runs = int(sys.argv[7]) if len(sys.argv) > 7 else 7
    ours = pyarrow.flight.connect(f"grpc+tls://127.0.0.1:{port}", tls_root_certs=pathlib.Path(ca_file).read_text())
    headers = [(b"authorization", f"Bearer {token}".encode()), (b"x-flasktrack-catalog", organization.encode())]
    options = pyarrow.flight.FlightCallOptions(headers=headers)
    table = read_ours(ours, options)
    file = str(pathlib.Path(key).parent / "flight.arrow")
    with pyarrow.OSFile(file, "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        peer_port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, __file__, "serve", str(peer_port), file, certificate, key])
    try:
        root = (pathlib.Path(key).parent / "ca.crt").read_text()
        theirs = pyarrow.flight.connect(f"grpc+tls://127.0.0.1:{peer_port}", tls_root_certs=root)
        theirs.wait_for_available(timeout=30)
        assert read_theirs(theirs).equals(table), "the servers have different tables"
        kept = kept_answers(port, ca_file, token)
        best = {"ours": float("inf"), "theirs": float("inf")}
        for _ in range(runs):
            best["ours"] = min(best["ours"], timed(lambda: read_ours(ours, options))[0])
            best["theirs"] = min(best["theirs"], timed(lambda: read_theirs(theirs))[0])
        kept = kept_answers(port, ca_file, token) - kept
    finally:
        server.terminate()
        server.wait()
    megabytes = table.nbytes / 1e6
    figures = {name: megabytes / seconds for name, seconds in best.items()}
    result = {"rows": table.num_rows, "megabytes": megabytes, **figures, "ratio": figures["ours"] / figures["theirs"]}
    result["kept"] = kept
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if sys.argv[1] == "serve":
    serve(*sys.argv[2:6])
else:
    main()
