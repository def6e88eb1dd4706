# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Broken files from sound ones: bits, bytes and numbers, and the inside of JSON, tables, XML, DICOM, PNG, gzip, zip."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pydicom

# what a field may hold that its reader never thought of
NUMBERS = (
    b"0",
    b"-1",
    b"1e400",
    b"nan",
    b"inf",
    b"-0",
    b"99999999999999999999",
    b"2147483648",
    b"65536",
    b"0.5",
    b"1e9",
)
WORDS = (
    *("", " ", "\0", "NaN", "-1", "0", "1e400", "99999999999999999999", "é\u0301\u202e", "\ud800", "a" * 70_000),
    *("../../../etc/passwd", "/etc/passwd", "/dev/zero", ".", "$import os", "[", "{}", '{"size": [1, 1]}', "1 2 3"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**31, 2**63, 10**30, float("nan"), float("inf"), 1e308, [], {}, [[]], [None], {"a": 1}),
    *WORDS,
)
SIZES = (
    b"\0" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\0\0\0",
    b"\0\0\0\x80",
    b"\xff\x7f",
    b"\0\x80",
)


def _place(r: random.Random, data: bytes) -> int:
    """Somewhere in the file, its beginning more often: that is where sizes stand."""
    return r.randrange(max(1, min(len(data), r.choice((64, 400, len(data) or 1)))))


def _flip(r: random.Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(r.choice((1, 1, 2, 8, 40))):
        changed[_place(r, changed)] ^= 1 << r.randrange(8)
    return bytes(changed)


def _overwrite(r: random.Random, data: bytes) -> bytes:
    place, piece = _place(r, data), r.choice((*SIZES, bytes(r.randrange(256) for _ in range(r.randrange(1, 9)))))
    return data[:place] + piece + data[place + len(piece) :]


def _truncate(r: random.Random, data: bytes) -> bytes:
    return data[: r.choice((r.randrange(len(data) + 1), max(0, len(data) - r.randrange(1, 9))))]


def _delete(r: random.Random, data: bytes) -> bytes:
    place = _place(r, data)
    return data[:place] + data[place + r.choice((1, 2, 4, r.randrange(1, 200))) :]


def _repeat(r: random.Random, data: bytes) -> bytes:
    place = _place(r, data)
    piece = data[place : place + r.choice((1, 4, 60, 2000))]
    return data[:place] + piece * r.choice((2, 3, 1000 if len(piece) < 100 else 20)) + data[place:]


def _insert(r: random.Random, data: bytes) -> bytes:
    place = _place(r, data)
    piece = r.choice(
        (b"\0" * 1000, b"\xff\xfe", b"\xef\xbb\xbf", b"A" * 100_000, bytes(r.randrange(256) for _ in range(9)))
    )
    return data[:place] + piece + data[place:]


def _renumber(r: random.Random, data: bytes) -> bytes:
    """Another number in place of one that is written in letters."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[:200_000]))
    if not found:
        return _overwrite(r, data)
    match = r.choice(found)
    return data[: match.start()] + r.choice((*NUMBERS, b"9" * 5000)) + data[match.end() :]


def _nest(r: random.Random, data: bytes) -> bytes:
    place, deep = _place(r, data), r.choice((50, 5000, 200_000))
    opening, closing = r.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b"(", b")")))
    return data[:place] + opening * deep + r.choice((b"", b"1" + closing * deep)) + data[place:]


BYTES = (_flip, _flip, _overwrite, _overwrite, _truncate, _delete, _repeat, _insert, _renumber)
TEXTS = (*BYTES, _nest, _renumber)


def _nodes(tree: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a JSON tree."""
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [pair for key in keys for pair in ((tree, key), *_nodes(tree[key]))]


def _json(r: random.Random, data: bytes) -> bytes:
    tree = json.loads(data)
    for _ in range(r.choice((1, 1, 1, 3))):
        nodes = _nodes(tree)
        if not nodes:
            break
        container, key = r.choice(nodes)
        how = r.randrange(6)
        if how == 0:
            del container[key]
        elif how == 1:
            other, place = r.choice(nodes)
            container[key] = json.loads(json.dumps(other[place]))
        elif how == 2 and isinstance(container, list):
            container.extend(container[:1] * r.choice((1, 3, 500)))
        else:
            container[key] = r.choice(VALUES)
    return json.dumps(tree, ensure_ascii=r.random() < 0.5).encode("utf-8", "surrogatepass")


def _table(r: random.Random, data: bytes) -> bytes:
    """Cells of a table are replaced; some with the quotes that they need, some without."""
    lines = data.decode("utf-8").splitlines()
    for _ in range(r.choice((1, 1, 2))):
        row = r.randrange(len(lines))
        separator = max(",;\t", key=lines[0].count)
        cells = lines[row].split(separator)
        word = r.choice(
            (*WORDS, *(number.decode() for number in NUMBERS), "[[0, 0, 1e400, 5]]", "[1]", "[[[]]]", "[" * 9999)
        )
        cells[r.randrange(len(cells))] = '"' + word.replace('"', '""') + '"' if r.random() < 0.7 else word
        lines[row] = separator.join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _xml(r: random.Random, data: bytes) -> bytes:
    """What makes a parser open other files or use up the memory, in front of the root or in an element."""
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    evil = (
        f'<!DOCTYPE r [<!ENTITY l0 "ha">{laughs}]>',
        '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE r SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE r [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
    )
    text = data.decode("utf-8")
    start = text.index("?>") + 2
    if r.random() < 0.6:
        body = text[start:].replace(">", f">&{r.choice(('l9', 'e', 'p'))};", 3 if r.random() < 0.5 else 0)
        changed = text[:start] + r.choice(evil) + body
        return changed.encode(r.choice(("utf-8", "utf-16", "utf-16-le")))
    return text.replace(
        "<", r.choice(("<a ", "<![CDATA[", "<!--", "<?", "&#0;<", "&#x110000;<")), r.choice((1, 5))
    ).encode()


def _dicom(r: random.Random, data: bytes) -> bytes:
    """A tag gets a value of another kind, or is gone; also the transfer syntax."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    elements = list(dataset.iterall()) + list(dataset.file_meta)
    for _ in range(r.choice((1, 1, 2))):
        element = r.choice(elements)
        if element.VR in ("US", "SS", "UL", "SL"):
            element._value = r.choice((0, 1, 2, 3, 12, 16, 32, 64, 255, 32767, 65535))
            element._value = [element._value] * r.choice((1, 1, 1, 2)) if r.random() < 0.2 else element._value
        elif element.VR in ("IS", "DS", "LO", "CS", "UI", "PN", "SH", "DA"):
            syntaxes = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99"]
            syntaxes += ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90", "1.2.3"]
            words = [
                "",
                "0",
                "-1",
                "nan",
                "1e400",
                "99999999999",
                "1\\2\\3",
                "0\\0",
                "x",
                "MONOCHROME1",
                "RGB",
                *syntaxes,
            ]
            element.VR, element._value = "UN", r.choice(words).encode() + b"\0" * r.randrange(2)
        elif element.VR in ("OB", "OW", "UN") and isinstance(element.value, bytes):
            element._value = r.choice(BYTES)(r, element.value)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(stream, dataset, write_like_original=True)
    return stream.getvalue()


def _png(r: random.Random, data: bytes) -> bytes:
    """A chunk is changed, and its checksum made right again."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append([data[place + 4 : place + 8], data[place + 8 : place + 8 + length]])
        place += 12 + length
    chunk = r.choice(chunks[: r.choice((1, len(chunks)))])
    if chunk[0] == b"IHDR" and r.random() < 0.6:
        side = r.choice((0, 1, 3000, 9000, 20_000, 65_535, 2**20, 2**31 - 1))
        place = r.choice((0, 4))
        chunk[1] = chunk[1][:place] + struct.pack(">I", side) + chunk[1][place + 4 :]
    elif chunk[0] == b"IDAT":
        chunk[1] = zlib.compress(r.choice((*BYTES, lambda *_: bytes(3_000_000)))(r, zlib.decompress(chunk[1])))
    else:
        chunk[1] = r.choice(BYTES)(r, chunk[1])
    if r.random() < 0.1:
        chunks.append(list(r.choice(chunks)))
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:8] + b"".join(parts)


def _gzip(r: random.Random, data: bytes) -> bytes:
    inside = gzip.decompress(data)
    if r.random() < 0.1:
        return gzip.compress(inside + bytes(r.choice((1000, 50_000_000))), 1)
    return gzip.compress(r.choice(TEXTS)(r, inside), 1)


def _zip(r: random.Random, data: bytes) -> bytes:
    """A member is changed, and its checksum made right again."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        chosen = r.choice(old.namelist())
        for name in old.namelist():
            content = old.read(name)
            if name == chosen and r.random() < 0.1:
                continue
            new.writestr(name, r.choice(BYTES)(r, content) if name == chosen else content)
    return stream.getvalue()


INSIDE: dict[str, Callable[[random.Random, bytes], bytes]] = {
    ".json": _json,
    ".csv": _table,
    ".tsv": _table,
    ".xml": _xml,
    ".dcm": _dicom,
    ".png": _png,
    ".gz": _gzip,
    ".pt": _zip,
    ".npz": _zip,
}


def mutate(r: random.Random, name: str, data: bytes, others: list[bytes]) -> bytes:
    """A broken file.

    Args:
        r: the same numbers give the same file.
        name: of the file; what is inside is changed by its ending.
        data: of the sound file.
        others: of other sound ones, which a piece may come from.
    """
    ending = "." + name.rsplit(".", 1)[-1]
    text = ending in (".json", ".csv", ".tsv", ".xml", ".txt")
    for _ in range(r.choice((1, 1, 1, 2, 4))):
        if ending in INSIDE and r.random() < 0.5:
            try:
                data = INSIDE[ending](r, data)
                continue
            except Exception:  # it is no longer what it was
                pass
        if others and r.random() < 0.05:
            other = r.choice(others)
            data = data[: r.randrange(len(data) + 1)] + other[r.randrange(len(other)) :]
        else:
            data = r.choice(TEXTS if text else BYTES)(r, data)
    return data
