"""What is intact of a damaged store, read page by page into a new one.

No tree is followed: a row comes through if it lies on a page that is intact and its own check holds, even where the first
page of the file or the pages above it are destroyed. Checks: the hash of a configuration or an environment, the checksum of
a run or a trajectory. Rows are never deleted from a store, so a copy on an abandoned page is as good as the row itself.
How many runs of a point were wanted, the predicted cost and the commands have no check.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from theory.errors import InputError, require
from theory.provenance import digest
from theory.sqlite_pages import Pages, Row
from theory.store import UPSERT, Store
from theory.store_files import PAGE_BYTES, holder_of, in_words, transaction
from theory.store_rows import FINISHED, GOOD, intact, number_of, trajectory_crc

CHUNK = 10_000  # rows kept in one transaction
KEEP = {
    "points": "INSERT INTO points VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET runs = max(runs, excluded.runs)",
    "runs": f"INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) {UPSERT}",
    "trajectories": "INSERT OR IGNORE INTO trajectories VALUES (?, ?, ?, ?)",
    "environments": "INSERT OR IGNORE INTO environments VALUES (?, ?)",
    "commands": "INSERT INTO commands SELECT ?1, ?2, ?3 WHERE NOT EXISTS "
    "(SELECT 1 FROM commands WHERE (time, command, environment) = (?1, ?2, ?3))",
    "recorded": "INSERT OR IGNORE INTO temp.recorded VALUES (?)",
}


@dataclass(frozen=True)
class Salvaged:
    """What came through, and what did not.

    ``lost`` runs are wanted of these points and not there (or were never run), ``orphans`` are runs whose configuration is
    lost, ``rejected`` rows were found and did not pass their check.
    """

    points: int
    runs: int
    trajectories: int
    lost: int
    orphans: int
    rejected: int

    def __str__(self) -> str:
        """For people."""
        return (
            f"kept {self.points} points, {self.runs} runs, {self.trajectories} trajectories; "
            f"{self.lost} runs of these points are lost or were never run, {self.orphans} have lost their configuration, "
            f"{self.rejected} damaged rows are left out"
        )


def salvage(source: Path, target: Path) -> Salvaged:
    """Copy what is intact of ``source`` into ``target``, a store that is made. ``source`` stays as it is.

    A finished run that has lost its trajectory is left out: run again it gets both, bit for bit.
    Raises InputError if the target is there, the source is being written to, or nothing in it can be read.
    """
    require(source.is_file(), "store", source, "a file")
    require(not target.exists(), "target", target, "a new file", "name another one")
    holder = holder_of(source)
    require(holder is None, "store", source, "one that nobody writes to", f"held by {holder}")
    found = _Found(Pages(source, PAGE_BYTES).rows())
    rows = iter(found)
    first = next(rows, None)
    if first is None:
        raise InputError("store", f"{source} without a single intact row", "a store", "nothing can be salvaged")
    with Store.write(target) as store, in_words(target):
        connection = store.connection
        connection.execute("CREATE TEMP TABLE recorded (point INTEGER PRIMARY KEY)")
        rows = chain([first], rows)
        while part := list(islice(rows, CHUNK)):
            _keep(connection, part)
        with transaction(connection):
            _complete(connection)
        return _count(connection, found.rejected)


class _Found:
    """Rows that pass their check, each with the table it belongs to; counts the others."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows, self.rejected = rows, 0

    def __iter__(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        for row in self.rows:
            match row:
                case Row(None, (int(point), int(), int())):  # the index of the trajectories
                    yield "recorded", (point,)
                case Row(int(), (str(), str(), str(), int(), str() | None)):
                    pass  # the schema
                case _ if (kept := _checked(row)) is not None:
                    yield kept
                case _:
                    self.rejected += 1


def _checked(row: Row) -> tuple[str, tuple[Any, ...]] | None:
    """Table and row, by the shape of its values; None if its check fails. The layout is that of ``store_files.TABLES``."""
    match row:
        case Row(int(number), (None, str(program), str(config), int(runs), int() | float() as cost)):
            return ("points", (number, program, config, runs, cost)) if number == number_of(digest(config)) else None
        case Row(None, (int(), int(), str(), str(), int(), int() | float(), int() | float(), _, int(), int()) as run):
            sealed = (*run[:5], *map(float, run[5:7]), *run[7:])  # type: ignore[arg-type]  # 5.0 is kept as 5
            return ("runs", sealed) if intact(sealed) else None
        case Row(int(), (int(point), int(replica), int(crc), bytes(data))):
            fits = crc == trajectory_crc(point, replica, data)
            return ("trajectories", (point, replica, crc, data)) if fits else None
        case Row(int(number), (None, str(description))):
            return ("environments", (number, description)) if number == number_of(digest(description)) else None
        case Row(int(), (str(time), str(command), int(environment))):
            return "commands", (time, command, environment)
    return None


def _keep(connection: sqlite3.Connection, rows: list[tuple[str, tuple[Any, ...]]]) -> None:
    tables = defaultdict(list)
    for table, row in rows:
        tables[table].append(row)
    with transaction(connection):
        for table, those in tables.items():
            connection.executemany(KEEP[table], those)


def _complete(connection: sqlite3.Connection) -> None:
    """Leave no run without a trajectory that it had, no trajectory without its run, no run without an environment."""
    path = "SELECT 1 FROM trajectories t WHERE t.point = r.point AND t.replica = r.replica"
    run = f"SELECT 1 FROM runs r WHERE r.point = t.point AND r.replica = t.replica AND status IN {GOOD}"
    connection.execute("INSERT OR IGNORE INTO temp.recorded SELECT point FROM trajectories")
    connection.execute(
        f"DELETE FROM runs AS r WHERE status = '{FINISHED}' AND point IN (SELECT point FROM temp.recorded) "
        f"AND NOT EXISTS ({path})"
    )
    connection.execute(f"DELETE FROM trajectories AS t WHERE NOT EXISTS ({run})")
    connection.execute("INSERT OR IGNORE INTO environments SELECT DISTINCT environment, '{}' FROM runs")


def _count(connection: sqlite3.Connection, rejected: int) -> Salvaged:
    there = "(SELECT count(*) FROM runs WHERE point = p.id AND replica < p.runs)"
    (points, runs, trajectories, lost, orphans), *_ = connection.execute(
        "SELECT (SELECT count(*) FROM points), (SELECT count(*) FROM runs), (SELECT count(*) FROM trajectories), "
        f"(SELECT coalesce(sum(p.runs - {there}), 0) FROM points p), "
        "(SELECT count(*) FROM runs WHERE point NOT IN (SELECT id FROM points))"
    )
    return Salvaged(points, runs, trajectories, lost, orphans, rejected)
