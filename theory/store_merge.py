"""Stores joined into one: each array task writes its own file, and their runs belong together.

Rows are copied as they are, with their checksums, which are compared when a row is read (comparing here would take three
times as long as the copy). Ten files at most are attached at once, SQLite's limit, and joined in one transaction.
"""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from theory.errors import require
from theory.store import UPSERT, Store
from theory.store_files import damaged, in_words, read_uri, transaction
from theory.store_rows import GOOD, hash_of

CACHE = 262144  # KiB, while rows are sorted in among others: 10^6 of them make 80 MB

JOIN = (
    "INSERT OR IGNORE INTO main.environments SELECT * FROM {0}.environments",
    "INSERT INTO main.commands SELECT * FROM {0}.commands EXCEPT SELECT * FROM main.commands",
    "INSERT INTO main.points SELECT * FROM {0}.points WHERE true ORDER BY id "
    "ON CONFLICT (id) DO UPDATE SET runs = excluded.runs WHERE runs < excluded.runs",
    # Before the runs, while these show whose run there is: a trajectory belongs to the run that stays.
    "INSERT OR IGNORE INTO main.trajectories SELECT * FROM {0}.trajectories t WHERE NOT EXISTS (SELECT 1 FROM main.runs r "
    f"WHERE r.point = t.point AND r.replica = t.replica AND r.status IN {GOOD}) ORDER BY t.rowid",
    # Of two failures the first stays, so that joining twice changes nothing.
    f"INSERT INTO main.runs SELECT * FROM {{0}}.runs WHERE true {UPSERT} AND excluded.status IN {GOOD}",
)
DIFFERENT = (
    "SELECT s.point, s.replica, (s.status, s.result, s.samples) IS NOT (t.status, t.result, t.samples), a.data, b.data "
    "FROM {0}.runs s JOIN main.runs t USING (point, replica) LEFT JOIN {0}.trajectories a USING (point, replica) "
    "LEFT JOIN main.trajectories b USING (point, replica) "
    f"WHERE s.status IN {GOOD} AND t.status IN {GOOD} AND ("
    "(s.status, s.result, s.samples) IS NOT (t.status, t.result, t.samples) OR a.crc IS NOT b.crc)"
)


@dataclass(frozen=True)
class Merged:
    """What came of joining ``sources`` files: runs ``added``, runs ``known`` before, and which contradict what was there."""

    sources: int
    added: int
    known: int
    conflicts: tuple[str, ...]


def merge(target: Store, sources: Sequence[Path]) -> Merged:
    """Take over what other stores have and ``target`` has not; they may be written to meanwhile. Idempotent.

    Of a point the larger number of runs is wanted. A good run replaces a failed one; of two good ones that differ the
    target's stays and the other is reported as ``HASH:replica in FILE``. Raises InputError naming a source that is no
    store or damaged: the transaction it was part of is taken back.
    """
    for source in sources:
        require(
            source.resolve() != target.path.resolve(), "sources", source, "other stores than the target", "leave it out"
        )
        Store.read(source).close()
    at_once = target.connection.getlimit(sqlite3.SQLITE_LIMIT_ATTACHED)
    totals, added, conflicts = 0, 0, []
    with in_words(target.path), _wide_cache(target.connection):
        for start in range(0, len(sources), at_once):
            group = sources[start : start + at_once]
            with _attached(target.connection, group) as names, transaction(target.connection):
                for source, name in zip(group, names, strict=True):
                    total, new = _join(target.connection, source, name)
                    totals, added = totals + total, added + new
                    if new < total:
                        conflicts += [f"{key} in {source}" for key in _conflicts(target.connection, name)]
    return Merged(len(sources), added, totals - added, tuple(conflicts))


def _join(connection: sqlite3.Connection, source: Path, name: str) -> tuple[int, int]:
    """Numbers of runs in a source, and of those that are new."""
    with in_words(source):
        (verdict,) = connection.execute(f"PRAGMA {name}.quick_check(1)").fetchone()
    if verdict != "ok":
        raise damaged(source, verdict.splitlines()[-1])
    (total,) = connection.execute(f"SELECT count(*) FROM {name}.runs").fetchone()
    for statement in JOIN:
        added = connection.execute(statement.format(name)).rowcount
    return total, added


def _conflicts(connection: sqlite3.Connection, name: str) -> list[str]:
    """Good runs of a source that are not those of the target; the same numbers may be packed differently."""
    return [
        f"{hash_of(point)}:{replica}"
        for point, replica, scalars, theirs, ours in connection.execute(DIFFERENT.format(name))
        if scalars or theirs is None or ours is None or zlib.decompress(theirs) != zlib.decompress(ours)
    ]


@contextmanager
def _attached(connection: sqlite3.Connection, sources: Sequence[Path]) -> Iterator[list[str]]:
    names: list[str] = []
    try:
        for k, source in enumerate(sources):
            connection.execute(f"ATTACH ? AS source_{k}", (read_uri(source),))
            names.append(f"source_{k}")
        yield names
    finally:
        for name in names:
            connection.execute(f"DETACH {name}")


@contextmanager
def _wide_cache(connection: sqlite3.Connection) -> Iterator[None]:
    (usual,) = connection.execute("PRAGMA cache_size").fetchone()
    connection.execute(f"PRAGMA cache_size = -{CACHE}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA cache_size = {usual}")
