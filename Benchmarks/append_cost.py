#!/usr/bin/env python3
"""Sorts the samples of a profile of three nodes into the steps of an append.

usage: perf record -e cpu-clock -F 997 -g -p PID,PID,PID -- sleep 5
       perf script -F comm,ip,sym | swift demangle --simplified | Benchmarks/append_cost.py [MICROSECONDS]

MICROSECONDS: CPU time of one append over all nodes (scripts/bench.sh prints servers_in_cores / rate); then each step is
given in microseconds too. The first step of the list that has a frame in a sample's stack gets the sample.
"""

import re
import sys

STEPS = [
    ("hash (SHA-256 of records)", r"sha256"),
    ("projection into the columnar store", r"ColumnarStores|AuditLogDataset|duckdb|Projector"),
    ("log: fdatasync", r"fdatasync|do_fsync"),
    ("log: encode and write", r"SegmentLog|LogWriter"),
    ("RocksDB: apply", r"ShardApplier.*|RocksStore\.write", r"rocksdb"),
    ("RocksDB: flush and compaction", r"rocksdb::DBImpl::Background|rocksdb::ThreadPoolImpl"),
    ("RocksDB: other", r"rocksdb"),
    ("apply: records, tree, receipts", r"ShardApplier|LaneQueue|OrganizationShard|LedgerAppender"),
    ("replicate: frames and links", r"RaftFrame|PeerLinks|PeerDoor|PeerService|HTTP2ClientHandler"),
    ("consensus: turn of the raft thread", r"RaftLoop|RaftCore|RaftHost"),
    ("decode: parse and check the event", r"EventDraft|EventParser|EventBatch|JSONCanonicalizer"),
    ("API: route, token, command, receipt as JSON", r"APIRouter|CommandGateway|CommandProposer|JSONOutput|Problem"),
    ("TLS", r"SSL_|TLSSession|TLSHandler\.(?!channelRead)|AES|aes|gcm|BIO_|EVP_"),
    ("HTTP/2", r"nghttp2|HTTP2Session|HTTP2Stream|HTTP2ServerHandler|FrameWriter|HeaderBlock|Mailbox"),
    ("sockets: read and write", r"Socket\.|__libc_(read|write|recv|send)|sock_|tcp_|ksys_(read|write)"),
    ("waking and switching threads", r"futex|schedule|finish_task_switch|epoll|eventfd|pthread_cond|switch_to"),
    ("Swift tasks and event loops", r"swift_task|swift_job|SelectableEventLoop|runJob|SerialThread"),
]


def stacks(lines):
    stack = []
    for line in lines:
        line = line.rstrip()
        if not line:
            if stack:
                yield stack
            stack = []
        elif line[0] in " \t":
            stack.append(line.strip().split(" ", 1)[-1])
    if stack:
        yield stack


def step_of(stack):
    text = "\n".join(stack)
    for name, *patterns in STEPS:
        if all(re.search(pattern, text) for pattern in patterns):
            return name
    return "other"


def main():
    total_microseconds = float(sys.argv[1]) if len(sys.argv) > 1 else None
    counts = {}
    for stack in stacks(sys.stdin):
        name = step_of(stack)
        counts[name] = counts.get(name, 0) + 1
    total = sum(counts.values())
    if total == 0:
        sys.exit("append_cost.py: no samples")
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        share = count / total
        cost = f"  {share * total_microseconds:7.1f} us" if total_microseconds else ""
        print(f"{share * 100:5.1f} %{cost}  {name}")
    print(f"{total} samples")


main()
