"""A store behind one command: what it has computed before is taken from there, the rest is computed and kept."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from theory.errors import require
from theory.provenance import environment
from theory.store import Point, Run, Store

FILE = "runs.db"


@contextmanager
def archive(directory: Path | None, command: str) -> Iterator[Store | None]:
    """The store of ``--store`` for writing, made if need be; None without one. Raises InputError; see ``Store.write``."""
    if directory is None:
        yield None
        return
    with Store.write(store_file(directory), command, environment()) as store:
        yield store


def store_file(directory: Path, shard: tuple[int, int] = (0, 1)) -> Path:
    """The file of a store's directory, or that of shard i of N; the directory is made, not its parents."""
    require(
        directory.parent.is_dir(),
        "--store",
        directory,
        "a folder in an existing one",
        f"create {directory.parent} first",
    )
    require(directory.is_dir() or not directory.exists(), "--store", directory, "a folder", "choose another place")
    directory.mkdir(exist_ok=True)
    index, shards = shard
    return directory / (FILE if shards == 1 else f"runs-{index}-of-{shards}.db")


def shard_of(path: Path) -> tuple[int, int]:
    """The shard whose file this is."""
    match = re.fullmatch(r"runs-(\d+)-of-(\d+)\.db", path.name, re.ASCII)
    return (int(match[1]), int(match[2])) if match else (0, 1)


def fingerprint(model: Any) -> str:
    """All of a model (task, learner) to the last digit: what people read rounds, and must not tell results apart."""
    import sympy as sp

    learner = model.learner
    others = {f.name: repr(getattr(learner, f.name)) for f in fields(learner) if f.name != "activation"}
    return f"{model.task!r}; {sp.srepr(learner.activation.expression)}; {others}"


def completed(
    store: Store, point: Point, compute: Callable[[list[int]], Sequence[Run]], chunk: int
) -> tuple[list[Run], bool]:
    """All replicas of a point, those that were not there by ``compute``, ``chunk`` at a time; and whether it was interrupted.

    ``compute`` may raise KeyboardInterrupt, or return fewer runs than it was asked for: then what there is comes back.
    """
    store.add_points([point])
    known = {run.replica: run for run in store.runs(point.hash)}
    missing = [i for i in range(point.runs) if i not in known]
    interrupted = False
    for first in range(0, len(missing), chunk):
        asked = missing[first : first + chunk]
        try:
            rows = compute(asked)
        except KeyboardInterrupt:
            rows = []
        store.add(rows, environment())
        known |= {run.replica: run for run in rows}
        interrupted = len(rows) < len(asked)
        if interrupted:
            break
    return [known[i] for i in sorted(known) if i < point.runs], interrupted
