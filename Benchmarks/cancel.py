#!/usr/bin/env python3
"""Measures how long a cancelled statement goes on: from the cancellation until no node's worker has it any more.

usage: cancel.py FIRST_PORT NODES CA_FILE TOKEN [ROUNDS [WAY…]]

Needs the clients of Tests/Clients/requirements.txt. The statement runs on the shards of eight organizations, which are
created, and would take hours. It is ended by DELETE /v1/queries/ID, by the reset of a Flight call, by a connection that
closes, and by a deadline. Each node's ft_worker_statements is read without a pause; the time is that of the last node,
and includes the reading that found none. Prints one JSON object a way, in milliseconds.
"""

import http.client
import json
import os
import re
import ssl
import statistics
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "Tests", "Clients"))

import flight_wire as wire
import grpc

FIRST_PORT, NODES, CA_FILE, TOKEN = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
ROUNDS = int(sys.argv[5]) if len(sys.argv) > 5 else 10
ORGANIZATIONS = [f"cancel-{letter}" for letter in "abcdefgh"]
SQL = (
    "select organization, count(*) from audit_log, range(10000000) t(n), range(10000000) u(m)"
    " where n % 7 = sequence % 7 and (n + m) % 13 = {number} group by 1"
)
PATIENCE = 30
STATEMENTS = re.compile(rb'^ft_worker_statements\{worker="worker-\d+"\} (\d+)', re.M)


class Node:
    """One kept connection to a node's API."""

    def __init__(self, port):
        context = ssl.create_default_context(cafile=CA_FILE)
        self.connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=PATIENCE)
        self.headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}

    def send(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body is not None else None, self.headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def statements(self):
        return sum(map(int, STATEMENTS.findall(self.send("GET", "/metrics")[1])))


def set_up():
    node = Node(FIRST_PORT)
    for key in ORGANIZATIONS:
        status, body = node.send("POST", "/v1/organizations", {"key": key, "name": key})
        assert status in (201, 409), body
        if status == 201:
            record = {"action": "weigh", "entity_type": "sample", "entity_id": "s-1"}
            status, body = node.send("POST", f"/v1/organizations/{key}/records", record)
            assert status == 201, body


class Watch:
    """Reads every node's count of statements until told to stop; one thread a node."""

    def __init__(self):
        self.nodes = [Node(FIRST_PORT + number) for number in range(NODES)]

    def wait_for_all(self):
        """Until every shard runs its part."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            counts = [node.statements() for node in self.nodes]
            if sum(counts) >= len(ORGANIZATIONS):
                return counts
        raise AssertionError(f"the statement runs on {counts} and not on {len(ORGANIZATIONS)} shards")

    def wait_for_none(self):
        """When each node was first seen without a statement."""
        ended = [None] * len(self.nodes)

        def look(place):
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:
                if self.nodes[place].statements() == 0:
                    ended[place] = time.monotonic()
                    return

        threads = [threading.Thread(target=look, args=(place,)) for place in range(len(self.nodes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(ended), "the statement went on"
        return max(ended)


def flight(sql, timeout=None):
    connection = wire.Wire(FIRST_PORT, open(CA_FILE, encoding="utf-8").read())
    connection.headers["authorization"] = f"Bearer {TOKEN}"
    call = connection.channel.unary_unary(wire.SERVICE + "GetFlightInfo").future(
        wire.descriptor("CommandStatementQuery", wire.field(1, sql)), metadata=connection.metadata(), timeout=timeout
    )
    return connection, call


def by_delete(sql, watch):
    node, other = Node(FIRST_PORT), Node(FIRST_PORT + NODES - 1)
    thread = threading.Thread(target=node.send, args=("POST", "/v1/query", {"sql": sql, "organizations": ORGANIZATIONS}))
    thread.start()
    watch.wait_for_all()
    queries = json.loads(other.send("GET", "/v1/queries")[1])["queries"]
    (query,) = [query["id"] for query in queries if query["sql"] == sql]
    begin = time.monotonic()
    status, body = other.send("DELETE", f"/v1/queries/{query}")
    assert status == 204, body
    end = watch.wait_for_none()
    thread.join()
    return begin, end


def by_reset(sql, watch):
    connection, call = flight(sql)
    watch.wait_for_all()
    begin = time.monotonic()
    call.cancel()
    end = watch.wait_for_none()
    connection.close()
    return begin, end


def by_close(sql, watch):
    node = Node(FIRST_PORT)
    body = json.dumps({"sql": sql, "organizations": ORGANIZATIONS})
    node.connection.request("POST", "/v1/query", body, node.headers)
    watch.wait_for_all()
    begin = time.monotonic()
    node.connection.sock.close()
    return begin, watch.wait_for_none()


def by_deadline(sql, watch):
    limit = 2
    begin = time.monotonic()
    connection, call = flight(sql, timeout=limit)
    watch.wait_for_all()
    try:
        call.result()
        raise AssertionError("the deadline was not kept")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    end = watch.wait_for_none()
    connection.close()
    return begin + limit, end


WAYS = {"delete": by_delete, "reset": by_reset, "close": by_close, "deadline": by_deadline}


def main():
    set_up()
    watch = Watch()
    looks = []
    for _ in range(20):
        begin = time.monotonic()
        watch.nodes[0].statements()
        looks.append((time.monotonic() - begin) * 1000)
    for name in sys.argv[6:] or WAYS:
        times = []
        for number in range(ROUNDS):
            begin, end = WAYS[name](SQL.format(number=number), watch)
            times.append(max(0, end - begin) * 1000)
        print(
            json.dumps(
                {
                    "cancelled_by": name,
                    "rounds": ROUNDS,
                    "median_ms": round(statistics.median(times), 1),
                    "max_ms": round(max(times), 1),
                    "one_look_ms": round(statistics.median(looks), 1),
                }
            ),
            flush=True,
        )


main()
