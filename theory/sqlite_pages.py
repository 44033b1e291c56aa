"""The rows that the pages of an SQLite file hold, each page read for itself: what is left when the trees above them are not.

File format: https://www.sqlite.org/fileformat2.html, sections 1.5 (cells), 2.1 (records) and 4 (log). Nothing here tells a
row that was deleted or is half written from a good one: that is for checksums in the rows.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MAGIC = b"SQLite format 3\0"
INTERIOR_INDEX, LEAF_INDEX, LEAF_TABLE = 2, 10, 13
INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type: bytes
LOG_HEADER, FRAME_HEADER = 32, 24

Value = int | float | str | bytes | None
Broken = (IndexError, ValueError, struct.error)  # UnicodeDecodeError is a ValueError


class Row(NamedTuple):
    """Of a table with row ids (``rowid`` is None in an index, and in a table that is one), the values; None: unreadable."""

    rowid: int | None
    values: tuple[Value, ...] | None


class Pages:
    """Pages of a file and of the write-ahead log beside it, the newest of a number first."""

    def __init__(self, path: Path, page_bytes: int) -> None:
        self.size = page_bytes
        self.images = [_mapped(path), _mapped(path.with_name(path.name + "-wal"))]
        head = self.images[0][:100]
        self.usable = page_bytes - (head[20] if head.startswith(MAGIC) else 0)
        self.places = {number + 1: (0, number * page_bytes) for number in range(len(self.images[0]) // page_bytes)}
        self.shadowed: list[tuple[int, int]] = []  # older images: a frame may come from a transaction that never ended
        for number, at in self._frames():
            if number in self.places:
                self.shadowed.append(self.places[number])
            self.places[number] = (1, at)

    def rows(self) -> Iterator[Row]:
        """Every cell of every page that is a leaf, or an inner page of an index."""
        for place in (*self.places.values(), *self.shadowed):
            file, at = place
            page = self.images[file][at : at + self.size]
            start = 100 if place == (0, 0) else 0
            kind = page[start]
            if kind in (INTERIOR_INDEX, LEAF_INDEX, LEAF_TABLE):
                header = start + (12 if kind == INTERIOR_INDEX else 8)
                cells = min(int.from_bytes(page[start + 3 : start + 5]), (self.size - header) // 2)
                for (cell,) in struct.iter_unpack(">H", page[header : header + 2 * cells]):
                    yield self._row(page, kind, cell)

    def _row(self, page: bytes, kind: int, at: int) -> Row:
        rowid = None
        try:
            length, at = varint(page, at + 4 if kind == INTERIOR_INDEX else at)
            if kind == LEAF_TABLE:
                rowid, at = varint(page, at)
            return Row(rowid, record(self._payload(page, at, length, kind == LEAF_TABLE)))
        except Broken:
            return Row(rowid, None)

    def _payload(self, page: bytes, at: int, length: int, table: bool) -> bytes:
        """What begins in the cell and may go on in a chain of overflow pages."""
        most = self.usable - 35 if table else (self.usable - 12) * 64 // 255 - 23
        if length <= most:
            return page[at : at + length]
        least = (self.usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (self.usable - 4)
        local = local if local <= most else least
        parts, left, follow = [page[at : at + local]], length - local, page[at + local : at + local + 4]
        if left > len(self.places) * self.size:
            raise ValueError(length)
        while left > 0:
            file, start = self.places.get(int.from_bytes(follow), (0, len(self.images[0])))
            follow, part = self.images[file][start : start + 4], self.images[file][start + 4 : start + self.usable]
            if not part:
                raise ValueError(start)
            parts.append(part[:left])
            left -= len(part)
        return b"".join(parts)

    def _frames(self) -> Iterator[tuple[int, int]]:
        """Page numbers and places of the log's frames, without those that an earlier use of the log left behind."""
        log = self.images[1]
        for at in range(LOG_HEADER, len(log) - self.size - FRAME_HEADER + 1, self.size + FRAME_HEADER):
            if log[at + 8 : at + 16] == log[16:24]:  # the salt
                yield int.from_bytes(log[at : at + 4]), at + FRAME_HEADER


def _mapped(path: Path) -> mmap.mmap | bytes:
    """A file, not loaded as a whole; nothing where there is none."""
    with suppress(FileNotFoundError, ValueError), path.open("rb") as file:  # ValueError: it is empty
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return b""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number that is not negative, big-endian in base 128 with at most nine bytes, and where it ends."""
    value = 0
    for k in range(8):
        byte = data[at + k]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + k + 1
    return value << 8 | data[at + 8], at + 9


def record(data: bytes) -> tuple[Value, ...]:
    """Values of a record. Raises one of ``Broken`` where it is none."""
    end, at = varint(data, 0)
    body, values = end, []
    while at < end:
        kind, at = varint(data, at)
        value: Value
        size = INTEGERS.get(kind, 8 if kind == 7 else max(kind - 12, 0) // 2)
        piece = data[body : body + size]
        if kind in (10, 11) or len(piece) < size:
            raise ValueError(kind)
        if kind in (0, 8, 9):
            value = None if kind == 0 else kind - 8
        elif kind == 7:
            (value,) = struct.unpack(">d", piece)
        elif kind in INTEGERS:
            value = int.from_bytes(piece, signed=True)
        else:
            value = piece.decode() if kind % 2 else piece
        values.append(value)
        body += size
    if body != len(data):
        raise ValueError(body)
    return tuple(values)
