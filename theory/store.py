"""Finished runs on disk, one SQLite file: a writer that never loses what it has acknowledged, and any number of readers.

A *point* is a configuration (canonical JSON, known by its hash) with the number of runs wanted of it; a *run* is what one
replica of a point gave. One transaction a batch; every row carries a checksum; nothing is unpickled. What the file has to do
with disks, locks and other processes is in ``theory.store_files``.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from theory.errors import require
from theory.provenance import HASH_DIGITS, digest
from theory.store_files import (
    damaged,
    holder_of,
    in_words,
    open_reader,
    open_writer,
    release_lock,
    take_lock,
    transaction,
)
from theory.store_rows import (
    DIVERGED,
    FAILED,
    FINISHED,
    GOOD,
    KILLED,
    Point,
    Run,
    Tally,
    hash_of,
    intact,
    number_of,
    sealed,
    trajectory_crc,
)  # fmt: skip

__all__ = [
    "DIVERGED", "FAILED", "FINISHED", "KILLED", "Point", "Run", "Store", "Tally", "damaged", "hash_of", "holder_of", "intact",
    "number_of",
]  # fmt: skip

PAGE, WINDOW = 500, 65536  # points and replicas looked at together: memory does not grow with the store
POINT = "id, program, config, runs, cost"
# A run that is known stays as it is, unless it had failed.
UPSERT = (
    "ON CONFLICT (point, replica) DO UPDATE SET status = excluded.status, result = excluded.result, "
    "censored = excluded.censored, samples = excluded.samples, seconds = excluded.seconds, error = excluded.error, "
    f"environment = excluded.environment, crc = excluded.crc WHERE status NOT IN {GOOD}"
)


class Store:
    """An open store; a context manager. Use ``Store.write`` or ``Store.read``."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int | None) -> None:
        self.path, self.connection, self._lock = path, connection, lock

    @classmethod
    def write(cls, path: Path, command: str = "", environment: str = "{}") -> "Store":
        """Open for writing, made if it is not there. Raises InputError if another process holds it or it is damaged."""
        require(path.parent.is_dir(), "store", path.parent, "an existing directory", "create it first")
        require(not path.is_dir(), "store", path, "a file", "name a file in it")
        lock = take_lock(path)
        try:
            store = cls(path, open_writer(path), lock)
        except BaseException:
            release_lock(lock)
            raise
        try:
            if command:
                store._add_command(command, environment)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def read(cls, path: Path) -> "Store":
        """Open for reading, while another process may write. Raises InputError if there is none or it is damaged."""
        return cls(path, open_reader(path), None)

    def close(self) -> None:
        """After a writer the store is one plain file again, without a write-ahead log, unless someone reads it just now."""
        if self._lock is None:
            self.connection.close()
            return
        with suppress(sqlite3.Error):  # wait for nobody: what a reader holds up, the next writer does
            for step in ("busy_timeout = 0", "wal_checkpoint(TRUNCATE)", "journal_mode = DELETE"):
                self.connection.execute(f"PRAGMA {step}").fetchall()
        self.connection.close()
        release_lock(self._lock)
        self._lock = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_points(self, points: Iterable[Point]) -> None:
        """Want these; of a point that is known, the larger number of runs. One transaction."""
        rows = ((number_of(p.hash), p.program, p.config, p.runs, p.cost) for p in points)
        with in_words(self.path), transaction(self.connection):
            self.connection.executemany(
                "INSERT INTO points VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET runs = max(runs, excluded.runs), "
                "cost = excluded.cost WHERE runs < excluded.runs OR cost <> excluded.cost",
                rows,
            )

    def add_environment(self, description: str) -> int:
        """Number of an environment, entered if it is new."""
        number = number_of(digest(description))
        self.connection.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", (number, description))
        return number

    def _add_command(self, command: str, environment: str) -> None:
        """Who opened the store, and when."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with in_words(self.path), transaction(self.connection):
            where = self.add_environment(environment)
            self.connection.execute("INSERT INTO commands VALUES (?, ?, ?)", (now, command, where))

    def add(self, runs: Iterable[Run], environment: str) -> None:
        """Keep finished runs, all or none of them. A run that is known stays as it is, unless it had failed."""
        with in_words(self.path), transaction(self.connection):
            where = self.add_environment(environment)
            rows, trajectories = [], []
            for run in runs:
                rows.append(sealed(run, where))
                if run.trajectory is not None and run.status in (FINISHED, DIVERGED):
                    key = number_of(run.point), run.replica
                    trajectories.append((*key, trajectory_crc(*key, run.trajectory), run.trajectory))
            # First, while it shows whose run there is: a trajectory belongs to the run that stays.
            self.connection.executemany(
                "INSERT OR IGNORE INTO trajectories SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS "
                f"(SELECT 1 FROM runs WHERE point = ?1 AND replica = ?2 AND status IN {GOOD})",
                trajectories,
            )
            self.connection.executemany(f"INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) {UPSERT}", rows)

    def point(self, point: str) -> Point:
        """The point with this hash. Raises InputError if there is none."""
        rows = self._rows(f"SELECT {POINT} FROM points WHERE id = ?", number_of(point))
        require(
            bool(rows), "point", point, "the hash of a point that is there", "python -m sims.sweep status lists them"
        )
        return Point(*rows[0][1:])

    def points(self, program: str = "") -> Iterator[Point]:
        """All points, or those of one program, in the order of their hashes."""
        for page in self._pages("? IN ('', program)", program):
            yield from (Point(*fields) for _, *fields in page)

    def left(self, program: str, shard: tuple[int, int] = (0, 1), again: bool = False) -> tuple[int, float]:
        """How many runs ``missing`` will give, and the seconds predicted for them, in one query."""
        lacking, _ = _shard_sql(shard, again)
        [(count, seconds)] = self._rows(
            "SELECT coalesce(sum(n), 0), coalesce(sum(n * cost), 0.0) FROM "
            f"(SELECT {lacking} AS n, cost FROM points p WHERE program = ?)",
            program,
        )
        return int(count), float(seconds)

    def missing(
        self, program: str, shard: tuple[int, int] = (0, 1), again: bool = False
    ) -> Iterator[tuple[Point, list[int]]]:
        """Points with replicas that are not there, at most ``WINDOW`` at once; ``again``: failed ones count as not there.

        Of ``shard`` (i, N) only the replicas r with (hash + r) mod N = i: the same split whatever is there.
        """
        index, shards = shard
        lacking, there = _shard_sql(shard, again)
        known = f"SELECT replica FROM runs WHERE point = ? AND replica BETWEEN ? AND ? AND {there}"
        for page in self._pages(f"program = ? AND {lacking} > 0", program):
            for number, *fields in page:
                point = Point(*fields)
                for low in range(0, point.runs, WINDOW):
                    done = {replica for (replica,) in self._rows(known, number, low, low + WINDOW - 1)}
                    first = low + (index - number - low) % shards
                    todo = [r for r in range(first, min(low + WINDOW, point.runs), shards) if r not in done]
                    if todo:
                        yield point, todo

    def runs(self, point: str) -> list[Run]:
        """Finished and failed runs of a point by replica. Raises InputError where a row does not match its checksum."""
        number, found = number_of(point), []
        for *row, crc, data in self._rows(
            "SELECT runs.*, trajectories.crc, data FROM runs LEFT JOIN trajectories USING (point, replica) "
            "WHERE point = ? ORDER BY replica",
            number,
        ):
            _, replica, status, result, censored, samples, seconds, error, *_ = row
            if not intact(tuple(row)) or (data is not None and crc != trajectory_crc(number, replica, data)):
                raise damaged(self.path, f"run {point}:{replica} does not match its checksum")
            found.append(Run(point, replica, status, result, bool(censored), samples, seconds, error, data))
        return found

    def tally(self) -> Tally:
        """How much is there."""
        [(points, wanted)] = self._rows("SELECT count(*), coalesce(sum(runs), 0) FROM points")
        statuses = dict(self._rows("SELECT status, count(*) FROM runs GROUP BY status"))
        [sums] = self._rows("SELECT coalesce(sum(censored), 0), total(seconds), total(samples) FROM runs")
        return Tally(points, wanted, statuses, *sums)

    def checksum(self) -> str:
        """Of what was computed: equal for equal results, whatever computed them, when, where and in what order.

        Trajectories count uncompressed: two builds of zlib may pack the same numbers differently.
        """
        total = sha256()
        with in_words(self.path):
            for *row, data in self.connection.execute(
                "SELECT point, replica, status, result, samples, data FROM runs "
                "LEFT JOIN trajectories USING (point, replica) ORDER BY point, replica"
            ):
                try:
                    path = None if data is None else zlib.decompress(data)
                except zlib.error as error:
                    raise damaged(self.path, f"trajectory {hash_of(row[0])}:{row[1]}: {error}") from error
                total.update(repr((*row, path)).encode())
        return total.hexdigest()[:HASH_DIGITS]

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query, of one moment."""
        with in_words(self.path):
            return self.connection.execute(query, values).fetchall()

    def _pages(self, condition: str, *values: Any) -> Iterator[list[tuple[Any, ...]]]:
        """Points ``p`` that meet a condition, by hash, page by page: nothing stays open meanwhile."""
        last = -1
        query = f"SELECT {POINT} FROM points p WHERE id > ? AND {condition} ORDER BY id LIMIT {PAGE}"
        while page := self._rows(query, last, *values):
            last = page[-1][0]
            yield page


def has_share(point: Point, shard: tuple[int, int]) -> bool:
    """Whether a shard (see ``Store.missing``) has any replica of a point."""
    index, shards = shard
    return (index - number_of(point.hash)) % shards < point.runs


def _shard_sql(shard: tuple[int, int], again: bool) -> tuple[str, str]:
    """Of a point ``p``, the number of replicas of a shard that are not there; and when a run counts as there."""
    index, shards = shard
    there = f"status IN {GOOD}" if again else "1"
    share = f"(p.runs - ((({index} - p.id) % {shards} + {shards}) % {shards}) + {shards - 1}) / {shards}"
    ours = f"AND (p.id + replica) % {shards} = {index}" if shards > 1 else ""
    known = f"SELECT count(*) FROM runs WHERE point = p.id AND replica < p.runs AND {there} {ours}"
    return f"({share} - ({known}))", there
