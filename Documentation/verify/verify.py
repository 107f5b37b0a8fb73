#!/usr/bin/env python3
"""Verifies an audit package; written apart from the server's own verifier, so that two programs must agree.

usage: verify.py PACKAGE.zip [KEYS ...]     KEYS: files of public keys (vkey lines, or the JSON of GET /v1/keys)

Needs Python 3.9 and the package `cryptography`. Exit: 0 valid, 1 tampered, 2 incomplete, 3 policy not met or no keys
given, 4 unreadable. The first thing that is wrong is named. More than half of the keys' names must have cosigned.
"""
import base64, calendar, hashlib, json, sys, zipfile
from datetime import datetime
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TAMPERED, INCOMPLETE, POLICY, UNREADABLE = 1, 2, 3, 4


class Wrong(Exception):
    def __init__(self, code, text):
        self.code, self.text = code, text


def need(condition, code, text):
    if not condition:
        raise Wrong(code, text)


# --- hashes: RFC 6962 section 2.1

def leaf(record):
    return hashlib.sha256(b"\x00" + record).digest()


class Tree:
    """The roots of the perfect subtrees so far, as (level, hash)."""
    def __init__(self, hashes=()):
        self.peaks, self.size = [], 0
        for value in hashes:
            self.add(value)

    def add(self, value, level=0):
        need(self.size % (1 << level) == 0, TAMPERED, "a subtree stands where none can begin")
        self.size += 1 << level
        while self.peaks and self.peaks[-1][0] == level:
            value = hashlib.sha256(b"\x01" + self.peaks.pop()[1] + value).digest()
            level += 1
        self.peaks.append((level, value))

    def root(self):
        value = self.peaks[-1][1]
        for _, left in reversed(self.peaks[:-1]):
            value = hashlib.sha256(b"\x01" + left + value).digest()
        return value


# --- records: canonical JSON (RFC 8785); numbers are taken as they are written

class Number(str):
    pass


def canonical(value):
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(json.dumps(key, ensure_ascii=False) + ":" + canonical(value[key]) for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return str(value) if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


def check_record(record, sequence, organization, previous, time):
    """Checks one record behind another; gives its time."""
    members = ("organization", "sequence", "previous", "recorded_at")
    try:
        value = json.loads(record, parse_float=Number, parse_int=Number)
        same = canonical(value).encode() == record and all(isinstance(value[member], str) for member in members)
    except (ValueError, KeyError, TypeError, RecursionError):
        same = False
    need(same, TAMPERED, f"record {sequence}: no record in canonical JSON")
    need(value["organization"] == organization, TAMPERED, f"record {sequence}: of another organization")
    need(value["sequence"] == str(sequence), TAMPERED, f"record {sequence}: reordered, it says {value['sequence']}")
    need(previous is None or value["previous"] == previous.hex(), TAMPERED, f"record {sequence}: broken chain")
    need(time <= value["recorded_at"], TAMPERED, f"record {sequence}: recorded_at goes back")
    return value["recorded_at"]


# --- signatures: C2SP signed-note, tlog-checkpoint, tlog-cosignature

def read_keys(text):
    """Name and key, and when it is valid: first and last second, log, first and last size of its checkpoints."""
    listed = {"keys": [{"key": line.strip()} for line in text.splitlines() if line.strip() and not line.startswith("#")]}
    if text.lstrip().startswith("{"):
        listed = json.loads(text)
    return {(row["key"].split("+", 2)[0], base64.b64decode(row["key"].split("+", 2)[2])[1:], seconds(row.get("valid_from"), 0),
             seconds(row.get("valid_to"), 1 << 63), listed.get("origin"), row.get("first_size", 0), row.get("last_size", 1 << 63))
            for row in listed["keys"]}


def seconds(time, default):
    return calendar.timegm(datetime.strptime(time[:19], "%Y-%m-%dT%H:%M:%S").timetuple()) if time else default


def key_id(name, kind, key):
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:4]


def is_signed(key, signature, message):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except InvalidSignature:
        return False


def check_note(note, keys):
    """Gives origin, size, root; whether the log signed; the names that cosigned."""
    text, _, rest = note.rpartition(b"\n\n")
    text += b"\n"
    origin, size, root = text.decode().split("\n")[:3]
    has_log, cosigners = False, set()
    for line in rest.decode().splitlines():
        dash, name, blob = line.split(" ")
        blob = base64.b64decode(blob)
        for owner, key, first_time, last_time, log, first, last in keys:
            fits = log != origin or first <= int(size) <= last
            if name == origin and blob[:4] == key_id(origin, 1, key) and owner.rpartition("/")[0] == origin.rpartition("/")[0]:
                need(is_signed(key, blob[4:], text), TAMPERED, "checkpoint: wrong signature of the log")
                has_log = has_log or fits
            if name == owner and blob[:4] == key_id(owner, 4, key):
                time = int.from_bytes(blob[4:12], "big")
                message = b"cosignature/v1\ntime %d\n" % time + text
                need(is_signed(key, blob[12:], message), TAMPERED, f"checkpoint: wrong signature of {owner}")
                if fits and first_time <= time <= last_time:
                    cosigners.add(owner)
    return origin, int(size), base64.b64decode(root), has_log, cosigners


# --- what explains records: opened personal values, records about erasures (C2SP tlog-proof)

def check_openings(lines, organization, records):
    for line in lines:
        opening = json.loads(line, parse_float=Number, parse_int=Number)
        where = f"record {opening['sequence']}: {opening['path']}"
        need(int(opening["sequence"]) in records, TAMPERED, f"{where}: opened, and the record is not shown")
        record = json.loads(records[int(opening["sequence"])])
        place = record
        for token in opening["path"].split("/")[1:]:
            token = token.replace("~1", "/").replace("~0", "~")
            place = place[int(token)] if isinstance(place, list) else place[token]
        key, value = organization.encode(), canonical(opening["value"]).encode()
        text = (b"flasktrack/personal/1\n" + len(key).to_bytes(2, "big") + key + bytes.fromhex(opening["salt"])
                + len(value).to_bytes(4, "big") + value)
        need(place == {"$commitment": hashlib.sha256(text).hexdigest()}, TAMPERED, f"{where}: another value is opened")
        owner = {"path": opening["path"], "subject": opening["subject"]}
        need(owner in record["personal"], TAMPERED, f"{where}: opened as of another data subject")


def climb(value, index, size, path):
    """The root that an inclusion proof leads to: RFC 9162 section 2.1.3.2."""
    last = size - 1
    for other in path:
        if index & 1 or index == last:
            value = hashlib.sha256(b"\x01" + other + value).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            value = hashlib.sha256(b"\x01" + value + other).digest()
        index, last = index >> 1, last >> 1
    return value if last == 0 else None


def check_erasures(lines, organization, size, root):
    for line in map(json.loads, lines):
        head, record = line["proof"].split("\n\n")[0].split("\n"), json.loads(line["record"])
        where = f"record {record['sequence']}: about an erasure"
        index, path = int(head[1].split(" ")[1]), [base64.b64decode(text) for text in head[2:]]
        need(record["organization"] == organization and record["action"] in ("erase_requested", "erase_completed")
             and record["sequence"] == index + 1 <= size, TAMPERED, f"{where}: it is none")
        need(climb(leaf(line["record"].encode()), index, size, path) == root, TAMPERED, f"{where}: not in the log")


# --- what nodes have signed beside the checkpoint: the manifest, re-readings of the disk, proofs of a fork

def plain_signers(note, keys, where):
    """The text of a note, and the names of known keys that have signed it as it is."""
    text, _, rest = note.rpartition(b"\n\n")
    text += b"\n"
    signers = set()
    for dash, name, blob in (line.split(" ") for line in rest.decode().splitlines()):
        blob = base64.b64decode(blob)
        for owner, key, *_ in keys:
            if name == owner and blob[:4] == key_id(owner, 1, key):
                need(is_signed(key, blob[4:], text), TAMPERED, f"{where}: wrong signature of {owner}")
                signers.add(owner)
    return text.decode(), signers


def check_scrub(note, name, origin, size, root_at, keys):
    text, signers = plain_signers(note, keys, name)
    lines = text.split("\n")
    need(len(lines) == 8 and lines[0] == "flasktrack/scrub/v1" and lines[1] == origin, TAMPERED,
         f"{name}: no note on a re-reading of this log")
    root = root_at(int(lines[2])) if signers and int(lines[2]) <= size else None
    need(root is None or root.hex() == lines[3], TAMPERED, f"{name}: another history was read")


def continues(old, old_root, new, path):
    """The root of the larger tree that a consistency proof leads to: RFC 9162 section 2.1.4.2; None if it does not fit."""
    at, last, path = old - 1, new - 1, list(path)
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path.pop(0) if at else old_root
    for other in path:
        if at & 1 or at == last:
            first = hashlib.sha256(b"\x01" + other + first).digest()
            second = hashlib.sha256(b"\x01" + other + second).digest()
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = hashlib.sha256(b"\x01" + second + other).digest()
        at, last = at >> 1, last >> 1
    return second if last == 0 and first == old_root else None


def check_fork(proof, name, origin, keys):
    """Never returns when two contradictory histories are signed by keys that are known."""
    head, _, rest = proof.partition(b"\n")
    need(head == b"flasktrack/fork-proof@v1", TAMPERED, f"{name}: no proof of a fork")
    link, notes = [], []
    while rest:
        line, _, rest = rest.partition(b"\n")
        word, _, value = line.decode().partition(" ")
        if word == "note":
            notes.append(check_note(rest[:int(value)], keys))
            rest = rest[int(value):]
        else:
            link.append(base64.b64decode(value))
    (old_origin, old, old_root, *old_by), (new_origin, new, new_root, *new_by) = notes
    need(old_origin == new_origin == origin, TAMPERED, f"{name}: of another log")
    is_fork = link and link[0] != old_root and continues(old, link[0], new, link[1:]) == new_root
    need(is_fork if old < new else old == new and old_root != new_root, TAMPERED, f"{name}: proves no fork")
    need(not (any(old_by) and any(new_by)), TAMPERED, f"{name}: two histories are signed, at {old} and {new} records")


# --- packages

def tile_name(kind, index, width):
    parts = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        parts.insert(0, f"x{index % 1000:03}")
    return f"tile/{kind}/{'/'.join(parts)}" + ("" if width == 256 else f".p/{width}")


def check_full(parts, size, organization, personal):
    hashes, previous, time = [], bytes(32), ""
    for first in range(0, size, 256):
        width = min(256, size - first)
        bundle, tile = parts(tile_name("entries", first // 256, width)), parts(tile_name(0, first // 256, width))
        for place in range(width):
            sequence, length = first + place + 1, int.from_bytes(bundle[:2], "big")
            record, bundle = bundle[2:2 + length], bundle[2 + length:]
            need(record, INCOMPLETE, f"record {sequence}: missing")
            need(leaf(record) == tile[32 * place:32 * place + 32], TAMPERED, f"record {sequence}: modified, or its tile")
            time = check_record(record, sequence, organization, previous, time)
            if b'"personal":[' in record:
                personal[sequence] = record
            previous = leaf(record)
            hashes.append(previous)
        need(not bundle, TAMPERED, f"record {first + width + 1}: more than was signed")
    root, level, leaves = Tree(hashes).root(), 0, hashes
    while hashes:
        for first in range(0, len(hashes), 256):
            name = tile_name(level, first // 256, min(256, len(hashes) - first))
            need(parts(name) == b"".join(hashes[first:first + 256]), TAMPERED, f"{name}: not the tile of these records")
        hashes = [Tree(hashes[first:first + 256]).root() for first in range(0, len(hashes) - 255, 256)]
        level += 1
    return root, size, lambda count: Tree(leaves[:count]).root()


def check_selection(parts, names, size, organization, personal, scrubbed):
    tree, shown, previous, time, roots = Tree(), 0, bytes(32), "", {}
    for name in sorted(name for name in names if name.startswith("outline/")):
        records = iter(parts(name.replace("outline/", "records/")).split(b"\n")[:-1])
        for line in map(json.loads, parts(name).splitlines()):
            need(line["sequence"] == tree.size + 1, TAMPERED, f"{name}: record {tree.size + 1} is passed over")
            value = bytes.fromhex(line["hash"])
            if line["shown"]:
                record = next(records, None)
                need(record is not None, INCOMPLETE, f"record {line['sequence']}: missing")
                need(leaf(record) == value, TAMPERED, f"record {line['sequence']}: modified, or its line of the outline")
                time = check_record(record, line["sequence"], organization, previous, time)
                if b'"personal":[' in record:
                    personal[line["sequence"]] = record
                shown += 1
            tree.add(value, line["level"])
            if tree.size in scrubbed:
                roots[tree.size] = list(tree.peaks)
            previous = value if line["level"] == 0 else None
        need(next(records, None) is None, TAMPERED, f"{name}: does not name all records that are shown")
    need(tree.size == size, TAMPERED, f"the outline covers {tree.size} of {size} records")
    def root_at(count):
        tree.peaks = roots.get(count, [])
        return tree.root() if tree.peaks else None

    return tree.root(), shown, root_at


def verify(path, key_files):
    try:
        archive = zipfile.ZipFile(path)
        names = archive.namelist()
        need(len(set(names)) == len(names), UNREADABLE, "a part comes twice")
        manifest = json.loads(archive.read("MANIFEST.json"))
        files = {file["name"]: file for file in manifest["files"]}
        note = archive.read("checkpoint")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise Wrong(UNREADABLE, f"unreadable: {error}")

    def parts(name):
        need(name in names, INCOMPLETE, f"{name}: missing")
        return archive.read(name)

    keys = set().union(*(read_keys(open(file).read()) for file in key_files))
    own = keys or read_keys(parts("keys.json").decode())
    origin, size, root, has_log, cosigners = check_note(note, own)
    organization, personal = origin.rpartition("/")[2], {}
    scrubbed = {int(archive.read(name).split(b"\n")[2]) for name in names if name.startswith("scrub/")}
    if manifest["kind"] == "full":
        found, shown, root_at = check_full(parts, size, organization, personal)
    else:
        found, shown, root_at = check_selection(parts, names, size, organization, personal, scrubbed)
    need(found == root, TAMPERED, "the records are not those of the signed root")
    need(manifest["tree"] == {"root": root.hex(), "size": size} and manifest["origin"] == origin, TAMPERED,
         "MANIFEST.json: not about this checkpoint")
    for name, check in (("personal/openings.ndjson", lambda lines: check_openings(lines, organization, personal)),
                        ("personal/erasures.ndjson", lambda lines: check_erasures(lines, organization, size, root))):
        if name in names:
            check(parts(name).decode().splitlines())
    for name in files:
        need(hashlib.sha256(parts(name)).hexdigest() == files[name]["sha256"], TAMPERED, f"{name}: changed")
    extra = set(names) - set(files) - {"MANIFEST.json", "MANIFEST.sig"}
    need(not extra, TAMPERED, f"{min(extra, default='')}: not in the manifest")
    for name in sorted(names):
        if name.startswith("scrub/"):
            check_scrub(parts(name), name, origin, size, root_at, own)
        if name.startswith("forks/"):
            check_fork(parts(name), name, origin, own)
    text = "flask-track-audit-manifest/1\n" + hashlib.sha256(archive.read("MANIFEST.json")).hexdigest() + "\n"
    signed, makers = plain_signers(parts("MANIFEST.sig"), own, "MANIFEST.sig") if "MANIFEST.sig" in names else (text, set())
    need(signed == text, TAMPERED, "MANIFEST.sig: about another manifest")
    needed = len({key[0] for key in own}) // 2 + 1
    need(makers, POLICY, "MANIFEST.sig: signed by nobody whose key you gave")
    need(has_log, POLICY, "not signed as the log by a key that you gave")
    need(len(cosigners) >= needed, POLICY, f"cosigned by {len(cosigners)}, {needed} needed")
    need(keys, POLICY, "consistent with its own keys, which proves nothing: give keys from elsewhere")
    return f"{origin}: {shown} of {size} records shown, root {root.hex()}, cosigned by {', '.join(sorted(cosigners))}"


if __name__ == "__main__":
    try:
        print("valid:", verify(sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else sys.exit(__doc__))
    except Wrong as wrong:
        print("not valid:", wrong.text)
        sys.exit(wrong.code)
    except zipfile.BadZipFile as error:
        print("not valid:", error)
        sys.exit(TAMPERED)
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        print("not valid: unreadable:", repr(error))
        sys.exit(UNREADABLE)
