"""What a store holds: points, runs, and how they are told apart and checked."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from theory.errors import require
from theory.provenance import HASH_DIGITS, canonical, digest

FINISHED, DIVERGED, FAILED, KILLED = "finished", "diverged", "failed", "killed"
GOOD = f"('{FINISHED}', '{DIVERGED}')"  # what stays: the others may be tried again


class Run(NamedTuple):
    """One replica: ``result`` is JSON (escape times in samples, null where censored), ``trajectory`` compressed or None.

    ``status``: finished; diverged (a number was not finite); failed (``error`` says how); killed (its worker died each time).
    """

    point: str
    replica: int
    status: str
    result: str
    censored: bool
    samples: float
    seconds: float
    error: str | None = None
    trajectory: bytes | None = None


@dataclass(frozen=True)
class Point:
    """A configuration, how many runs are wanted of it, and the seconds that one is predicted to take."""

    program: str
    config: str
    runs: int
    cost: float

    @classmethod
    def of(cls, program: str, config: Mapping[str, Any], runs: int, cost: float) -> "Point":
        """The point of a configuration of plain values."""
        return cls(program, canonical(config), runs, cost)

    @property
    def hash(self) -> str:
        """Its identity."""
        return digest(self.config)

    @property
    def values(self) -> dict[str, Any]:
        """The configuration as a dict."""
        return dict(json.loads(self.config))


@dataclass(frozen=True)
class Tally:
    """Runs wanted and there, of these by status, censored (of the finished), seconds of computing, samples."""

    points: int
    wanted: int
    statuses: dict[str, int]
    censored: int
    seconds: float
    samples: float

    @property
    def done(self) -> int:
        """All rows, whatever their status."""
        return sum(self.statuses.values())


def number_of(point: str) -> int:
    """A hash as SQLite keeps it. Raises InputError for what is none."""
    ok = len(point) == HASH_DIGITS and all(c in "0123456789abcdef" for c in point)
    require(ok, "point", repr(point), f"a hash of {HASH_DIGITS} hexadecimal digits")
    return int(point, 16)


def hash_of(number: int) -> str:
    """The hash that SQLite keeps as a number."""
    return f"{number:0{HASH_DIGITS}x}"


def sealed(run: Run, environment: int) -> tuple[Any, ...]:
    """A row of the table ``runs`` with its checksum."""
    row = (
        number_of(run.point), run.replica, run.status, run.result, int(run.censored), float(run.samples),
        float(run.seconds), run.error, environment,
    )  # fmt: skip
    return (*row, zlib.crc32(repr(row).encode()))


def intact(row: tuple[Any, ...]) -> bool:
    """Whether a row of the table ``runs`` matches its checksum."""
    return zlib.crc32(repr(tuple(row[:-1])).encode()) == row[-1]


def trajectory_crc(point: int, replica: int, data: bytes) -> int:
    """Checksum of a row of the table ``trajectories``."""
    return zlib.crc32(data, zlib.crc32(repr((point, replica)).encode()))
