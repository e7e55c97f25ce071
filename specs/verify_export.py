"""
Judges an exported file (see export.md) with nothing but Python: chains, proofs, values, checkpoint, signature.

    python verify_export.py FILE [--checkpoint FILE] [--key FILE.pub]

It shares no code with the library that wrote the file. Exits with 0 where all is sound, with 1 where something is not.
"""

import base64
import hashlib
import sys
import zlib

MAGIC = b"pluperfect export 1\n"


class Unsound(Exception):
    pass


def demand(condition, what):
    if not condition:
        raise Unsound(what)


def sha256(data):
    return hashlib.sha256(data).digest()


# --- msgpack, as much of it as there is in these files ---------------------------------------------------


class Ext(tuple):
    """(code, bytes)"""


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        demand(self.at + count <= len(self.data), "msgpack: it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, width):
        return int.from_bytes(self.take(width), "big")

    def value(self, depth=0):
        demand(depth < 200, "msgpack: too deep")
        kind = self.number(1)
        if kind < 0x80:
            return kind
        if kind < 0x90:
            return self.map(kind & 15, depth)
        if kind < 0xA0:
            return [self.value(depth + 1) for _ in range(kind & 15)]
        if kind < 0xC0:
            return self.text(kind & 31)
        if kind >= 0xE0:
            return kind - 256
        if kind in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[kind]
        if 0xC4 <= kind <= 0xC6:
            return self.take(self.number(1 << (kind - 0xC4)))
        if 0xC7 <= kind <= 0xC9:
            return self.ext(self.number(1 << (kind - 0xC7)))
        if kind in (0xCA, 0xCB):
            return ("float", self.take(4 if kind == 0xCA else 8))
        if 0xCC <= kind <= 0xCF:
            return self.number(1 << (kind - 0xCC))
        if 0xD0 <= kind <= 0xD3:
            width = 1 << (kind - 0xD0)
            return int.from_bytes(self.take(width), "big", signed=True)
        if 0xD4 <= kind <= 0xD8:
            return self.ext(1 << (kind - 0xD4))
        if 0xD9 <= kind <= 0xDB:
            return self.text(self.number(1 << (kind - 0xD9)))
        if kind in (0xDC, 0xDD):
            count = self.number(2 if kind == 0xDC else 4)
            return [self.value(depth + 1) for _ in range(count)]
        if kind in (0xDE, 0xDF):
            return self.map(self.number(2 if kind == 0xDE else 4), depth)
        raise Unsound("msgpack: a byte that begins nothing")

    def text(self, size):
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            raise Unsound("msgpack: a text is not UTF-8") from None

    def ext(self, size):
        return Ext((self.number(1), self.take(size)))

    def map(self, count, depth):
        found = {}
        for _ in range(count):
            key = self.value(depth + 1)
            demand(isinstance(key, str | int | bytes), "msgpack: a key that is none")
            found[key] = self.value(depth + 1)
        return found


def whole(data):
    reader = Reader(data)
    found = reader.value()
    demand(reader.at == len(data), "msgpack: something is left over")
    return found


# --- the file -------------------------------------------------------------------------------------------


def content(file):
    demand(file.startswith(MAGIC), "it is no export of version 1")
    demand(len(file) > 60, "it is cut short")
    length, digest = int.from_bytes(file[20:28], "big"), file[28:60]
    unpack = zlib.decompressobj()
    try:
        data = unpack.decompress(file[60:], length + 1)
    except zlib.error as error:
        raise Unsound(f"it cannot be unpacked: {error}") from None
    demand(len(data) == length and unpack.eof and not unpack.unused_data, "its length is not the one it gives")
    demand(sha256(data) == digest, "its digest is not the one it gives")
    return data


def join(left, right):
    return sha256(b"\1" + left + right)


def led_to(leaf, index, size, path):
    """The root that a path leads to, after RFC 9162, section 2.1.3.2."""
    demand(0 <= index < size, "a record stands outside of the tree")
    last, node = size - 1, leaf
    for beside in path:
        demand(last > 0, "a path is too long")
        if index % 2 or index == last:
            node = join(beside, node)
            while index % 2 == 0 and index != 0:
                index, last = index // 2, last // 2
        else:
            node = join(node, beside)
        index, last = index // 2, last // 2
    demand(last == 0, "a path is too short")
    return node


def judge(data):
    reader = Reader(data)
    header = whole(reader.value())
    demand(isinstance(header, dict), "its header is none")
    places = sorted(
        (position, run, seq) for run, positions, _ in header["runs"] for seq, position in enumerate(positions, 1)
    )
    demand(len({position for position, _, _ in places}) == len(places), "two records have one position")
    demand(all(positions == sorted(positions) for _, positions, _ in header["runs"]), "positions do not rise")
    demand(len({run for run, _, _ in header["runs"]}) == len(header["runs"]), "a run is there twice")
    rows = [reader.value() for _ in places]
    sizes = {}
    for digest, size in header["blobs"]:
        value = reader.value()
        demand(isinstance(value, bytes) and (sha256(value), len(value)) == (digest, size), "a value is another one")
        sizes[digest] = size
    demand(reader.at == len(data), "something is left over")
    gone = {digest: size for digest, size, _, _ in header["redacted"]}
    named, leaves = set(), {}
    for (_, run, seq), raw in zip(places, rows, strict=True):
        where = f"run {run.hex()}, record {seq}"
        row = whole(raw)
        demand(isinstance(row, list) and len(row) == 2 and isinstance(row[0], bytes), f"{where}: its row is none")
        record, digests = whole(row[0]), []
        demand(isinstance(record, list) and len(record) >= 8, f"{where}: its record is none")
        demand(record[:2] == [run, seq], f"{where} is another record")
        demand(isinstance(record[4], str) and not record[4].startswith("store/"), f"{where} is a store's own record")
        before = (
            (leaves[run],) if run in leaves else (b"", bytes(32))
        )  # the first follows none; format 1 had 32 zero bytes
        demand(record[6] in before, f"{where} does not follow the one before it")
        for value in row[1]:
            if isinstance(value, bytes):
                digests.append(sha256(value))
                continue
            demand(isinstance(value, Ext) and value[0] == 1 and len(value[1]) == 40, f"{where}: a value is none")
            digest, size = value[1][:32], int.from_bytes(value[1][32:], "big")
            demand(size in (sizes.get(digest), gone.get(digest)), f"{where}: a value is missing, or has another size")
            digests.append(digest)
            named.add(digest)
        leaves[run] = sha256(b"\0" + row[0] + b"".join(digests))
    demand(named == {*sizes, *gone}, "values that no record names")
    for run, positions, path in header["runs"]:
        root = led_to(leaves[run], positions[-1] - 1, header["size"], path)
        demand(root == header["root"], f"run {run.hex()}: its proof does not lead to the root")
    return header, len(places), len(gone)


# --- checkpoint and signature (RFC 8032, section 5.1.7) --------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
I = pow(2, (P - 1) // 4, P)


def add(one, other):
    a, b = (one[1] - one[0]) * (other[1] - other[0]) % P, (one[1] + one[0]) * (other[1] + other[0]) % P
    c, d = 2 * one[3] * other[3] * D % P, 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(factor, point):
    found = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            found = add(found, point)
        point, factor = add(point, point), factor >> 1
    return found


def point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * I % P
    demand(y < P and (x * x - square) % P == 0 and not (x == 0 and sign), "a signature's point is none")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def signed(public, message, signature):
    base = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    key, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    one, other = times(s, base), add(r, times(h, key))
    return s < L and (one[0] * other[2] - other[0] * one[2]) % P == 0 == (one[1] * other[2] - other[1] * one[2]) % P


def check_checkpoint(text, header, key):
    body, gap, signatures = text.partition("\n\n")
    lines = body.split("\n")
    demand(gap and len(lines) == 4, "the checkpoint is none")
    told = [f"pluperfect/{header['store'].hex()}", str(header["size"]), base64.b64encode(header["root"]).decode()]
    demand(lines[:3] == told, "the checkpoint is of another tree than the file")
    if key is None:
        return
    name, told, public = key.strip().split("+", 2)
    public = base64.b64decode(public)
    demand(public[:1] == b"\1" and sha256(name.encode() + b"\n" + public)[:4].hex() == told, "the key is none")
    for line in signatures.splitlines():
        mark, signer, data = line.split(" ")
        data = base64.b64decode(data)
        if (mark, signer, data[:4].hex()) == ("\u2014", name, told):
            demand(len(data) == 68 and signed(public[1:], f"{body}\n".encode(), data[4:]), "the signature is false")
            return
    raise Unsound(f"the checkpoint is not signed by {name}")


def main(arguments):
    options = dict(zip(arguments[1::2], arguments[2::2], strict=False))
    with open(arguments[0], "rb") as file:
        data = file.read()
    key = open(options["--key"], encoding="utf-8").read() if "--key" in options else None
    try:
        header, records, gone = judge(content(data))
        texts = [header["checkpoint"]] if header["checkpoint"] else []
        if "--checkpoint" in options:
            texts.append(open(options["--checkpoint"], encoding="utf-8").read())
        demand(texts or key is None, "there is no checkpoint to check the signature of")
        for text in texts:
            check_checkpoint(text, header, key)
    except Unsound as error:
        print(f"UNSOUND: {error}")
        return 1
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        print(f"UNSOUND: something is not what export.md says: {type(error).__name__}: {error}")
        return 1
    held = f", held against {len(texts)} checkpoint(s)" if texts else ", no checkpoint: the root may be made up"
    signs = ", signature good" if key else ""
    print(f"sound: {len(header['runs'])} runs, {records} records, {gone} values redacted{held}{signs}")
    print(f"store {header['store'].hex()}, size {header['size']}, root {header['root'].hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
