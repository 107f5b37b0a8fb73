"""Flight calls one by one over gRPC, with messages written and read by hand: what a test sends is what stands here."""

import grpc
import pyarrow
import pyarrow.ipc

SERVICE = "/arrow.flight.protocol.FlightService/"
PACKAGE = "arrow.flight.protocol.sql."


def varint(number):
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def field(number, value):
    """One field of a message: bytes and text with their length, numbers and truth values as varints."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(int(value))


def fields(message):
    """The fields of a message, in their order, as (number, bytes or int)."""
    found, place = [], 0

    def number():
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(message):
        tag = number()
        kind = tag & 7
        if kind == 0:
            found.append((tag >> 3, number()))
        elif kind == 1:
            found.append((tag >> 3, message[place : place + 8]))
            place += 8
        elif kind == 2:
            size = number()
            assert place + size <= len(message), "a field is longer than its message"
            found.append((tag >> 3, message[place : place + size]))
            place += size
        else:
            raise AssertionError(f"wire type {kind}")
    return found


def first(message, number, otherwise=None):
    return next((value for key, value in fields(message) if key == number), otherwise)


def every(message, number):
    return [value for key, value in fields(message) if key == number]


def packed(name, message=b""):
    """The message in a google.protobuf.Any."""
    return field(1, f"type.googleapis.com/{PACKAGE}{name}") + field(2, message)


def unpacked(message, name):
    url = first(message, 1).decode()
    assert url.rsplit("/", 1)[-1] == PACKAGE + name, url
    return first(message, 2, b"")


def descriptor(name, message=b""):
    return field(1, 2) + field(2, packed(name, message))


def schema(message):
    """Reads one framed message of the Arrow stream format."""
    return pyarrow.ipc.read_schema(pyarrow.BufferReader(message))


def framed(header, body=b""):
    header += b"\0" * (-len(header) % 8)
    return b"\xff\xff\xff\xff" + len(header).to_bytes(4, "little") + header + body


def flight_data(table, first_descriptor):
    """The messages of an upload: the schema with the descriptor, then the rows."""
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    messages = []
    for message in pyarrow.ipc.MessageReader.open_stream(pyarrow.BufferReader(sink.getvalue())):
        data = field(2, message.metadata.to_pybytes())
        body = message.body.to_pybytes()
        if body:
            data += field(1000, body)
        messages.append(data if messages else field(1, first_descriptor) + data)
    return messages


class Info:
    """What a client reads of a FlightInfo."""

    def __init__(self, message):
        self.message = message
        self.schema = schema(first(message, 1))
        self.endpoints = every(message, 3)
        self.tickets = [first(first(endpoint, 1), 1) for endpoint in self.endpoints]
        self.locations = [location for endpoint in self.endpoints for location in every(endpoint, 2)]


class Wire:
    """One connection, and the headers that its client sends with every call."""

    def __init__(self, port, authority, keeps_cookies=False):
        credentials = grpc.ssl_channel_credentials(authority.encode())
        options = [("grpc.max_receive_message_length", -1)]
        self.channel = grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=options)
        self.headers = {}
        self.keeps_cookies = keeps_cookies
        self.calls = []

    def close(self):
        self.channel.close()

    def metadata(self, extra=()):
        return list(self.headers.items()) + list(extra)

    def learn(self, call):
        """Keeps what the client's middleware keeps: cookies, and the token of a handshake."""
        for key, value in list(call.initial_metadata() or ()) + list(call.trailing_metadata() or ()):
            if key == "set-cookie" and self.keeps_cookies:
                name, _, rest = value.partition("=")
                # As java.net.HttpCookie writes them back; one without time to live is forgotten.
                if "Max-Age=0" in rest:
                    self.headers.pop("cookie", None)
                else:
                    self.headers["cookie"] = f"{name}={rest.split(';')[0]}"
            if key == "authorization":
                self.headers["authorization"] = value

    def handshake(self, extra):
        call = self.channel.stream_stream(SERVICE + "Handshake")(iter([b""]), metadata=extra)
        answers = list(call)
        self.calls.append("Handshake")
        self.learn(call)
        return answers

    def unary(self, method, request, timeout=None):
        answer, call = self.channel.unary_unary(SERVICE + method).with_call(
            request, metadata=self.metadata(), timeout=timeout
        )
        self.calls.append(method)
        self.learn(call)
        return answer

    def stream(self, method, request):
        call = self.channel.unary_stream(SERVICE + method)(request, metadata=self.metadata())
        answers = list(call)
        self.calls.append(method)
        self.learn(call)
        return answers

    def info(self, name, message=b""):
        return Info(self.unary("GetFlightInfo", descriptor(name, message)))

    def open(self, ticket):
        """A DoGet that the caller reads and ends."""
        self.calls.append("DoGet")
        return self.channel.unary_stream(SERVICE + "DoGet")(field(1, ticket), metadata=self.metadata())

    def get(self, ticket):
        """All rows; every message is as large as clients take."""
        parts = []
        for data in self.stream("DoGet", field(1, ticket)):
            assert len(data) < 16 << 20, f"a message of {len(data)} bytes"
            parts.append(framed(first(data, 2), first(data, 1000, b"")))
        return pyarrow.ipc.open_stream(pyarrow.BufferReader(b"".join(parts))).read_all()

    def read(self, name, message=b""):
        """GetFlightInfo, then DoGet of the first endpoint, as most clients do."""
        info = self.info(name, message)
        assert len(info.tickets) == 1 and not info.locations, f"{len(info.tickets)} endpoints, {info.locations}"
        table = self.get(info.tickets[0])
        assert table.schema.equals(info.schema), f"{info.schema} was announced, {table.schema} came"
        return table

    def action(self, kind, body=b""):
        return [first(answer, 1, b"") for answer in self.stream("DoAction", field(1, kind) + field(2, body))]

    def put(self, messages):
        call = self.channel.stream_stream(SERVICE + "DoPut")(iter(messages), metadata=self.metadata())
        answers = [first(answer, 1, b"") for answer in call]
        self.calls.append("DoPut")
        self.learn(call)
        return answers
