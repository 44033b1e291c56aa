"""A store's runs as columns, one row a run, in chunks: memory does not grow with the store. Knows pandas only when asked.

Columns: the keys of the configurations (a list joined by commas); ``point``, ``replica``, ``status``; ``escape_<spike>`` in
samples (inf: censored, nan: no such spike, or the run did not finish); ``censored``, ``samples_run`` (samples the run took;
``samples`` is its budget), ``seconds``, ``error``; ``commit``, ``platform``, ``host``, ``versions``.
"""

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.errors import InputError
from theory.results import Array, time_grid
from theory.store import Store
from theory.store_files import damaged, in_words
from theory.store_payload import read_times, unpack_overlaps
from theory.store_rows import FINISHED, hash_of, intact

PROGRAM = "sims.sweep"  # other programs keep their runs in the same file, in ways of their own
MINE = f"point NOT IN (SELECT id FROM points WHERE program != '{PROGRAM}')"
CHUNK = 50_000
BOOL, INT, FLOAT, TEXT = "bool", "int64", "float64", "text"
NONE = "none"
KINDS = {bool: BOOL, int: INT, float: FLOAT, type(None): NONE}
ENVIRONMENT = ("commit", "platform", "host")
Column = tuple[str, NDArray[Any]]  # its kind, its values; text is an object array, None where there is none


@dataclass(frozen=True)
class Layout:
    """What the columns of a store are: kinds by key of the configurations, spikes, environments by their number."""

    config: dict[str, str]
    spikes: tuple[str, ...]
    environments: dict[int, dict[str, str]]

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of every column, in their order."""
        escapes = dict.fromkeys((f"escape_{spike}" for spike in self.spikes), FLOAT)
        measured = {"censored": BOOL, "samples_run": FLOAT, "seconds": FLOAT, "error": TEXT}
        where = dict.fromkeys((*ENVIRONMENT, "versions"), TEXT)
        return self.config | {"point": TEXT, "replica": INT, "status": TEXT} | escapes | measured | where


@contextmanager
def snapshot(path: Path) -> Iterator[Store]:
    """The store as it is now, whatever is written meanwhile. Raises InputError where it is damaged."""
    with Store.read(path) as store, in_words(path):
        store.connection.execute("BEGIN")
        yield store


def library(name: str) -> Any:
    """An optional library. Raises InputError that names the extra if it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise InputError("sweep", f"no {name}", "an installation with it", "pip install 'downstairs[data]'") from None


def plain(value: Any) -> Any:
    """A value of a configuration, a list joined by commas."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def layout_of(store: Store) -> Layout:
    """One pass over the points."""
    seen: Counter[tuple[str, str]] = Counter()
    spikes: dict[str, None] = {}
    n_points = 0
    for n_points, point in enumerate(store.points(PROGRAM), 1):  # noqa: B007 - their number
        values = point.values
        seen.update(zip(values, map(_kind, values.values()), strict=True))
        spikes |= dict.fromkeys(values.get("spikes", ()))
    kinds: dict[str, dict[str, int]] = {}
    for (key, kind), count in seen.items():
        kinds.setdefault(key, {})[kind] = count
    environments = store.connection.execute("SELECT id, description FROM environments").fetchall()
    return Layout(
        {key: _common(kinds[key], n_points) for key in sorted(kinds)}, tuple(spikes),
        {number: _described(json.loads(text)) for number, text in environments},
    )  # fmt: skip


def _kind(value: Any) -> str:
    kind = KINDS.get(type(value), TEXT)
    return TEXT if kind == INT and not -(2**63) <= value < 2**63 else kind


def _common(kinds: dict[str, int], n_points: int) -> str:
    """The kind that holds all of them; where a number is missing it is nan."""
    if len(kinds) == 1 and sum(kinds.values()) == n_points and NONE not in kinds:
        return next(iter(kinds))
    return FLOAT if set(kinds) <= {INT, FLOAT, NONE} and set(kinds) != {NONE} else TEXT


def _described(environment: dict[str, Any]) -> dict[str, str]:
    rest = {k: v for k, v in environment.items() if k not in ENVIRONMENT}
    versions = ", ".join(f"{name} {value}" for name, value in rest.items())
    return {name: str(environment.get(name, "")) for name in ENVIRONMENT} | {"versions": versions}


def chunks(store: Store, layout: Layout) -> Iterator[dict[str, Column]]:
    """All runs of sweeps by point and replica. Raises InputError where a row does not match its checksum."""
    cursor = store.connection.execute(f"SELECT * FROM runs WHERE {MINE} ORDER BY point, replica")
    while rows := cursor.fetchmany(CHUNK):
        for row in rows:
            if not intact(row):
                raise damaged(store.path, f"run {hash_of(row[0])}:{row[1]} does not match its checksum")
        yield _columns(store, layout, rows)


def _columns(store: Store, layout: Layout, rows: list[tuple[Any, ...]]) -> dict[str, Column]:
    number, replica, status, result, censored, samples, seconds, error, environment, _ = zip(*rows, strict=True)
    ids, of = np.unique(np.array(number, dtype=np.int64), return_inverse=True)
    configs = _configs(store, ids)
    columns = {
        key: _column(kind, [plain(config.get(key)) for config in configs], of) for key, kind in layout.config.items()
    }
    escapes = _escapes(layout.spikes, [config.get("spikes", []) for config in configs], of, status, result)
    places, at = np.unique(np.array(environment, dtype=np.int64), return_inverse=True)
    described = [layout.environments[int(place)] for place in places]
    everything = {
        **columns,
        "point": _column(TEXT, [hash_of(int(i)) for i in ids], of),
        "replica": _column(INT, replica),
        "status": _column(TEXT, status),
        **{f"escape_{spike}": (FLOAT, escapes[:, k]) for k, spike in enumerate(layout.spikes)},
        "censored": _column(BOOL, censored),
        "samples_run": _column(FLOAT, samples),
        "seconds": _column(FLOAT, seconds),
        "error": _column(TEXT, error),
        **{name: _column(TEXT, [d[name] for d in described], at) for name in (*ENVIRONMENT, "versions")},
    }
    return everything


def _configs(store: Store, ids: NDArray[np.int64]) -> list[dict[str, Any]]:
    texts = store.connection.execute(
        "SELECT config FROM points WHERE id BETWEEN ? AND ? AND program = ? AND EXISTS (SELECT 1 FROM runs WHERE point = id) "
        "ORDER BY id",
        (int(ids[0]), int(ids[-1]), PROGRAM),
    ).fetchall()
    return [json.loads(text) for (text,) in texts]


def _column(kind: str, values: Any, at: NDArray[np.intp] | None = None) -> Column:
    if kind == TEXT:
        column = np.empty(len(values), dtype=object)
        column[:] = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    else:
        column = np.array(values, dtype=kind)
    return kind, column if at is None else column[at]


def _escapes(
    spikes: tuple[str, ...],
    of_point: list[list[str]],
    of: NDArray[np.intp],
    status: tuple[str, ...],
    result: tuple[str, ...],
) -> Array:
    """Times (n_runs, r) in samples by the store's spikes; the points of a store may differ in theirs."""
    times = np.full((len(of), len(spikes)), np.nan)
    finished = np.array([s == FINISHED for s in status])
    kinds: dict[tuple[str, ...], list[int]] = {}
    for index, spikes_there in enumerate(of_point):
        kinds.setdefault(tuple(spikes_there), []).append(index)
    for names, points in kinds.items():
        rows = np.flatnonzero(finished & np.isin(of, points))
        if rows.size and names:
            columns = np.array([spikes.index(name) for name in names])
            times[rows[:, None], columns] = read_times([result[row] for row in rows])
    return times


def times_of(config: dict[str, Any]) -> NDArray[np.int64]:
    """Samples (n_times,) at which a point's overlaps are recorded; by networks at multiples of their grain."""
    samples = int(config["samples"])
    grid = time_grid(samples, config["records"], 0)
    if "grain" not in config:
        return grid
    from theory.network_runs import RunPlan  # imports SymPy, which a status has no time for

    return RunPlan.of(tuple(config["spikes"]), config["grain"], samples, config["threshold"], (), grid).times


def overlaps_of(path: Path, record: bytes, config: dict[str, Any]) -> NDArray[np.float32]:
    """Overlaps (n_times, r) of one run as stored. Raises InputError where they are damaged."""
    shape = len(times_of(config)), len(config["spikes"])
    try:
        return unpack_overlaps(record, shape[1]).reshape(shape)
    except (zlib.error, ValueError) as error:
        raise damaged(path, error) from error
