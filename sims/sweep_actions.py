"""What each command of ``python -m sims.sweep`` does."""

import json
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any
from zlib import decompress

from sims.batches import Unit
from sims.cluster import Engine, dask, given, local
from sims.drive import Outcome, drive
from sims.grid import MAX_RUNS, read_grid
from solvers.options import check_plot_path
from theory.archive import FILE, store_file
from theory.errors import InputError, require
from theory.numerals import number, whole_number
from theory.provenance import Origin, environment
from theory.store import Point, Store, has_share, holder_of

MOST_SHARDS = 10**5


def drive_points(
    store: Store, engine: Engine, shard: tuple[int, int] = (0, 1), again: bool = False, quiet: bool = True
) -> Outcome:
    """Run what is missing of the points that grids have put into a store."""
    from sims.points import PROGRAM, grain, run_batch

    return drive(store, PROGRAM, run_batch, engine, shard=shard, again=again, grain=grain, quiet=quiet)


def engine_of(executor: Executor | str, workers: int | None) -> Engine:
    """Where batches run: "local", "dask", the address of a scheduler, or an executor. Raises InputError."""
    require(workers is None or 1 <= workers <= 10**4, "workers", workers, "1 … 10^4")
    if not isinstance(executor, str):
        require(isinstance(executor, Executor), "executor", executor, "local, dask, an address or an Executor")
        return given(executor, workers)
    if executor == "local":
        return local(workers)
    require(
        executor == "dask" or "://" in executor, "executor", executor, "local, dask, or an address as tcp://HOST:PORT"
    )
    return dask(None if executor == "dask" else executor, workers)


def run(words: Namespace) -> int:
    """``run``: check the grid, price it, run it."""
    from sims.sweep_plan import plan, plan_table

    shard, grid = _shard(words.shard), read_grid(words.grid)
    if words.only:
        point_hash, replica = _replica(words.only)
        point = next((p for p in grid.points() if p.hash == point_hash), None)
        if point is None:
            raise InputError("--only", words.only, "a point of this grid", "python -m sims.sweep status lists them")
        return _run_alone(point, replica, None if words.store is None else words.store / FILE)
    if not words.dry_run:
        require(words.store is not None, "--store", "nothing", "a folder", "or give --dry-run")
        _refuse_if_held(words.store, shard)
    with plan(grid, words.quiet) as planned:
        if words.dry_run:
            sys.stdout.write(plan_table(planned, words.workers or len(os.sched_getaffinity(0))))
            return 0
        engine = _engine(words)
        with engine, Store.write(store_file(words.store, shard), words.command, environment()) as store:
            store.add_points(p for p in planned.points() if has_share(p, shard))
            return _drive(store, engine, words, shard, False)


def resume(words: Namespace) -> int:
    """``resume``: run what is missing in a store."""
    shard = _shard(words.shard)
    path = _existing(words.store, shard)
    if words.only:
        point_hash, replica = _replica(words.only)
        with Store.read(path) as store:
            point = store.point(point_hash)
        return _run_alone(point, replica, path)
    engine = _engine(words)
    with engine, Store.write(path, words.command, environment()) as store:
        return _drive(store, engine, words, shard, words.retry)


def _engine(words: Namespace) -> Engine:
    known = words.scheduler is None or words.engine == "dask"
    require(known, "--scheduler", words.scheduler, "nothing without --engine dask")
    return engine_of(words.scheduler or words.engine, words.workers)


def _drive(store: Store, engine: Engine, words: Namespace, shard: tuple[int, int], again: bool) -> int:
    """Run, and say what came of it; 1 if anything failed. Raises KeyboardInterrupt."""
    outcome = drive_points(store, engine, shard, again, words.quiet)
    bad = outcome.failed + outcome.killed + outcome.diverged
    sys.stdout.write(
        f"{outcome.finished} runs finished in {outcome.seconds:.3g} s, {outcome.censored} of them censored; {bad} failed, "
        f"diverged or killed their worker; in {store.path}\n"
    )
    if outcome.interrupted:
        raise KeyboardInterrupt
    if bad:
        sys.stdout.write(f"what failed, and why: python -m sims.sweep status --store {words.store}\n")
    return int(bad > 0)


def _run_alone(point: Point, replica: int, path: Path | None) -> int:
    """Print one replica, run here and now, beside what the store has of it; 1 if they differ."""
    from sims.points import run_batch

    _, [row] = run_batch([Unit(point.config, (replica,))])
    kept = same = None
    if path is not None and path.is_file():
        with Store.read(path) as store:
            kept = next((r for r in store.runs(point.hash) if r.replica == replica), None)
    if kept is not None:
        # Packed overlaps are compared as numbers: two builds of zlib may pack the same ones differently.
        mine, other = ((r.status, r.result, r.trajectory and decompress(r.trajectory)) for r in (row, kept))
        same = mine == other
    record = {
        "point": row.point, "replica": row.replica, "status": row.status, "escape_samples": json.loads(row.result),
        "spikes": point.values["spikes"], "error": row.error, "seconds": row.seconds, "same_as_in_store": same,
    }  # fmt: skip
    sys.stdout.write(json.dumps(record) + "\n")
    return int(same is False)


def status(words: Namespace) -> int:
    """``status``: of the store, or of every file of array tasks that is not merged yet."""
    from sims.sweep_report import status_json, status_table
    from sims.sweep_results import SweepResults

    files = [words.store / FILE] if (words.store / FILE).is_file() else _shards(words.store)
    require(bool(files), "--store", words.store, f"a folder with {FILE}", "python -m sims.sweep run makes one")
    for file in files:
        results = SweepResults(file)
        sys.stdout.write((status_json if words.json else status_table)(results, words.checksum))
    return 0


def merge(words: Namespace) -> int:
    """``merge``: join files into the store's; 1 if any run of them contradicts one that is there."""
    from theory.store_merge import merge as join

    sources = words.sources or _shards(words.store)
    require(bool(sources), "sources", f"no runs-*-of-*.db in {words.store}", "files of array tasks", "name the files")
    for source in sources:
        Store.read(source).close()  # refused before there is anything new
    with Store.write(store_file(words.store), words.command, environment()) as store:
        merged = join(store, sources)
    sys.stdout.write(
        f"{merged.sources} files joined: {merged.added} runs are new, {merged.known} were known, "
        f"{len(merged.conflicts)} contradict what was there\n"
    )
    for conflict in merged.conflicts[:20]:
        sys.stdout.write(f"conflict   {conflict}: the one that was there first is kept\n")
    return int(bool(merged.conflicts))


def export(words: Namespace) -> int:
    """``export``: a file for other programs."""
    from sims.sweep_results import SweepResults

    SweepResults(_existing(words.store)).export(words.file)
    return 0


def plot(words: Namespace) -> int:
    """``plot``: the standard figure."""
    check_plot_path(words.file)
    from sims.sweep_plots import plot_sweep
    from sims.sweep_results import SweepResults
    from solvers.plots import save

    path = _existing(words.store)
    where = dict(_condition(text) for text in words.where)
    figure = plot_sweep(SweepResults(path), words.x, words.spike, where)
    with Store.read(path) as store:
        checksum = store.checksum()
    save(figure, words.file, Origin(words.command, checksum))
    return 0


def salvage(words: Namespace) -> int:
    """``salvage``: what is intact goes into a new store."""
    from theory.store_salvage import salvage as rescue

    sys.stdout.write(f"{rescue(_existing(words.store), words.target)}\n")
    return 0


ACTIONS: dict[str, Callable[[Namespace], int]] = {
    "run": run, "resume": resume, "status": status, "merge": merge, "export": export, "plot": plot, "salvage": salvage,
}  # fmt: skip


def _existing(folder: Path, shard: tuple[int, int] = (0, 1)) -> Path:
    require(folder.is_dir(), "--store", folder, "the folder of a store", "python -m sims.sweep run makes one")
    path = store_file(folder, shard)
    advice = (
        "python -m sims.sweep merge joins the files of array tasks" if _shards(folder) else "sims.sweep run makes one"
    )
    require(path.is_file(), "--store", path, "a store that is there", advice)
    return path


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs-*-of-*.db"))


def _refuse_if_held(folder: Path, shard: tuple[int, int]) -> None:
    """Before a long check of a grid rather than after it."""
    path = store_file(folder, shard) if folder.is_dir() else None
    holder = path and holder_of(path)
    require(not holder, "--store", path, "one writer at a time", f"held by {holder}: wait for it, or stop it")


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    index, shards = (int(match[1]), int(match[2])) if match else (0, 0)
    allowed = "I/N with 0 <= I < N, as in 3/20"
    require(0 <= index < shards <= MOST_SHARDS, "--shard", repr(text), allowed, "number the array tasks from 0")
    return index, shards


def _replica(text: str) -> tuple[str, int]:
    point, _, replica = text.partition(":")
    advice = "python -m sims.sweep status lists the hashes"
    try:
        number_of_it = whole_number(replica)
    except (ValueError, OverflowError):
        raise InputError("--only", repr(text), "HASH:REPLICA", advice) from None
    require(0 <= number_of_it < MAX_RUNS, "--only", repr(text), f"HASH:REPLICA with 0 <= REPLICA < {MAX_RUNS}", advice)
    return point, number_of_it


def _condition(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    require(bool(key and equals), "--where", repr(text), "KEY=VALUE, as in corr=0.5")
    try:
        return key, number(value)
    except ValueError:
        return key, value
