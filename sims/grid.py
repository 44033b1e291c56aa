"""The grid of a sweep: a TOML file whose lists are axes, read whole and checked whole before anything runs.

Every key of ``KEYS`` may be given in its table; a list of values makes an axis, and the points are all combinations. Whatever
is wrong is reported with its key and line.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from math import isfinite, prod
from pathlib import Path
from typing import Any

from solvers.options import TASKS
from theory.errors import InputError, require
from theory.store import Point

MAX_POINTS, MAX_RUNS = 10**6, 10**7
REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """One key: its table, default (``REQUIRED``: none), how a value is read (or ValueError), and what is allowed in words."""

    table: str
    default: Any
    read: Callable[[Any], Any]
    allowed: str
    axis: bool = True


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise ValueError
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _word(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return read


def _auto(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value == "auto" else read(value)


NUMBER, WHOLE, TEXT = "a finite number", "a whole number", "a text in quotes"
VIEWS = ("ode", "first-passage", "sde", "chain", "highd")
KEYS = {
    "task": Key("model", "mixed-cumulant", _word(*TASKS), ", ".join(TASKS)),
    "p": Key("model", 4, _whole, WHOLE),
    "corr": Key("model", 0.0, _number, NUMBER),
    "coupling": Key("model", "copula", _word("copula", "even"), "copula, even"),
    "latent": Key("model", "standard", _text, TEXT),
    "beta_m": Key("model", 0.0, _number, NUMBER),
    "beta_u": Key("model", None, _number, NUMBER),
    "beta_v": Key("model", 10.0, _number, NUMBER),
    "teacher": Key("model", None, _text, TEXT),
    "noise": Key("model", 0.0, _number, NUMBER),
    "activation": Key("model", None, _text, TEXT),
    "loss": Key("model", None, _word("correlation", "squared"), "correlation, squared"),
    "hidden": Key("network", REQUIRED, _whole, WHOLE),
    "bias_scale": Key("network", 0.0, _number, NUMBER),
    "lr_second": Key("network", 0.05, _number, NUMBER),
    "lr_bias": Key("network", 0.0, _number, NUMBER),
    "lr_output": Key("network", 0.15, _number, NUMBER),
    "view": Key("run", "chain", _word(*VIEWS), ", ".join(VIEWS)),
    "dim": Key("run", REQUIRED, _whole, WHOLE),
    "lr": Key("run", None, _auto(_number), "a finite number, or auto"),
    "kappa": Key("run", None, _number, NUMBER),
    "batch": Key("run", 1, _whole, WHOLE),
    "threshold": Key("run", None, _number, NUMBER),
    "init": Key("run", "random", _text, TEXT),
    "target": Key("run", None, _text, TEXT),
    "samples": Key("run", None, _auto(_number), "a finite number, or auto"),
    "budget": Key("run", 20.0, _number, NUMBER),
    "records": Key("run", 0, _whole, WHOLE, axis=False),
    "runs": Key("run", REQUIRED, _whole, WHOLE, axis=False),
    "seed": Key("run", 0, _whole, WHOLE),
}
TABLES = ("model", "network", "run")
NEURON = {"threshold": 0.3, "loss": "correlation"}
NETWORK = {"threshold": 0.5, "loss": "squared", "activation": "relu"}


@dataclass(frozen=True)
class Grid:
    """``values`` holds the list of values of every key, an axis where there is more than one; ``text`` is what was read."""

    name: str
    text: str
    values: Mapping[str, tuple[Any, ...]]

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The keys that vary."""
        return {key: values for key, values in self.values.items() if len(values) > 1}

    @property
    def n_points(self) -> int:
        """Combinations."""
        return prod(len(values) for values in self.values.values())

    def words(self) -> Iterator[dict[str, Any]]:
        """Every combination; the last axis of the file varies fastest."""
        for combination in product(*self.values.values()):
            yield dict(zip(self.values, combination, strict=True))

    def points(self) -> Iterator[Point]:
        """Every point, checked. Raises InputError that names the line of the key to blame."""
        from sims.points import resolve

        for words in self.words():
            try:
                yield resolve(words)
            except InputError as error:
                raise self._located(error, words) from error

    def _located(self, error: InputError, words: Mapping[str, Any]) -> InputError:
        key = error.argument.lstrip("-").replace("-", "_")
        others = ", ".join(f"{axis} = {words[axis]}" for axis in self.axes if axis != key)
        return error.at(f"{self.name}{_line(self.text, key)}", others and f"this at {others}")


def read_grid(source: Path | Mapping[str, Mapping[str, Any]]) -> Grid:
    """The grid of a TOML file, or of the same tables as a dict. Raises InputError."""
    if isinstance(source, Mapping):
        return grid_of(dict(source), "grid", "")
    try:
        text = source.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise InputError("grid", source, "a TOML file", error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise InputError("grid", source, "a TOML file in UTF-8", str(error)) from None
    except ValueError as error:  # not TOML, or a number too long to be read
        raise InputError("grid", source, "a TOML file", str(error)) from None
    return grid_of(tables, str(source), text)


def grid_of(tables: Mapping[str, Any], name: str, text: str) -> Grid:
    """Check tables, keys and the kind of every value."""
    for table, content in tables.items():
        where = f"{name}{_line(text, table)}, {table}"
        known = table in TABLES and isinstance(content, Mapping)
        require(known, where, repr(table), "the tables " + ", ".join(f"[{t}]" for t in TABLES), _meant(table, TABLES))
    network = "network" in tables
    given: dict[str, tuple[Any, ...]] = {}
    for table, content in tables.items():
        for key, value in content.items():
            where = f"{name}{_line(text, key, table)}, {key}"
            mine = [k for k, entry in KEYS.items() if entry.table == table]
            require(key in mine, where, f"a key that [{table}] does not have", ", ".join(mine), _meant(key, list(KEYS)))
            given[key] = _values(KEYS[key], value, where)
    for key, entry in KEYS.items():
        if entry.default is REQUIRED and (network or entry.table != "network"):
            require(
                key in given, f"{name}, {key}", "nothing", f"{entry.allowed}, in [{entry.table}]", "it has no default"
            )
    rest = {k: (e.default,) for k, e in KEYS.items() if k not in given and (network or e.table != "network")}
    kind = {k: (v,) for k, v in (NETWORK if network else NEURON).items() if k not in given}
    grid = Grid(name, text, given | rest | kind)
    require(grid.n_points <= MAX_POINTS, name, f"{grid.n_points} points", f"at most {MAX_POINTS}", "shorten an axis")
    (runs,), (records,) = grid.values["runs"], grid.values["records"]
    require(1 <= runs <= MAX_RUNS, f"{name}{_line(text, 'runs')}, runs", runs, f"1 … {MAX_RUNS}")
    require(0 <= records <= 10**4, f"{name}{_line(text, 'records')}, records", records, "0 (none) … 10^4 times")
    seeds = grid.values["seed"]
    require(min(seeds) >= 0, f"{name}{_line(text, 'seed')}, seed", min(seeds), "whole numbers >= 0")
    return grid


def _values(key: Key, value: Any, where: str) -> tuple[Any, ...]:
    many = isinstance(value, list | tuple)
    require(key.axis or not many, where, value, key.allowed, "it cannot be an axis")
    require(not many or len(value) > 0, where, "[]", "a value, or a list of values")
    read = []
    for one in value if many else [value]:
        try:
            read.append(key.read(one))
        except (ValueError, TypeError, OverflowError):
            raise InputError(where, repr(one), key.allowed) from None
    require(len(set(read)) == len(read), where, value, "different values", "each makes points of its own")
    return tuple(read)


def _line(text: str, key: str, table: str | None = None) -> str:
    """Where a key (of its table) or a table's header stands."""
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([\w.-]+)", line)
        if header:
            inside = header[1]
        named = re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line) and table in (None, inside)
        if named or (header and header[1] == key and table is None):
            return f" line {number}"
    return ""


def _meant(word: str, known: list[str] | tuple[str, ...]) -> str:
    close = get_close_matches(word, known, 1)
    if not close:
        return ""
    table = KEYS[close[0]].table if close[0] in KEYS else None
    return f"did you mean {close[0]}{f' in [{table}]' if table else ''}?"
