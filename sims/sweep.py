"""Sweeps that no interruption loses: ``python -m sims.sweep run grid.toml --store results/``. A composition root."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solvers.options import Parser, folder, run_command
from theory.numerals import whole_number

if TYPE_CHECKING:
    from sims.sweep_results import SweepResults

PROGRAM = "sims.sweep"
EXAMPLES = """examples:
  python -m sims.sweep run grid.toml --store results/ --dry-run
  python -m sims.sweep run grid.toml --store results/
  python -m sims.sweep status --store results/
  python -m sims.sweep resume --store results/
  python -m sims.sweep run grid.toml --store results/ --shard $SLURM_ARRAY_TASK_ID/20
  python -m sims.sweep merge --store results/
  python -m sims.sweep export results.nc --store results/
  python -m sims.sweep plot escape.png --store results/
a grid is a TOML file whose lists are axes:
  [model]
  p = [3, 4]
  corr = [0.0, 0.5]
  [run]
  view = "chain"
  dim = [100, 300, 1000]
  runs = 100
  seed = 0
docs/sweeps.md lists all keys; what is finished stays in the store whatever happens, and resume goes on from there"""


def sweep(
    grid: "Path | str | Mapping[str, Mapping[str, Any]]",
    store: "Path | str",
    executor: "Executor | str" = "local",
    workers: int | None = None,
    quiet: bool = True,
) -> "SweepResults":
    """Run what is missing of a grid, keep it in the folder ``store``, and return all that is there, read when asked.

    Raises InputError for bad values and KeyboardInterrupt on Ctrl-C; what had finished is in the store then.

    Parameters
    ----------
    grid
        A TOML file, or its tables as a dict: ``{"model": {…}, "run": {…}}``; lists are axes (docs/sweeps.md).
    store
        A folder, made if need be; its SQLite file is written by this process alone.
    executor
        ``"local"`` (processes), ``"dask"`` (a local cluster), the address of a Dask scheduler, or any
        ``concurrent.futures.Executor``, as ``Client(cluster).get_executor()`` of Dask is one. It changes no result.
    workers
        Processes of "local" and "dask" (default: the cores of this machine).
    """
    from sims.grid import read_grid
    from sims.sweep_actions import drive_points, engine_of
    from sims.sweep_plan import plan
    from sims.sweep_results import SweepResults
    from theory.archive import store_file
    from theory.provenance import environment
    from theory.store import Store

    source = grid if isinstance(grid, Mapping) else Path(grid)
    with plan(read_grid(source), quiet) as planned:
        engine, path = engine_of(executor, workers), store_file(Path(store))
        command = f"sims.sweep.sweep({planned.grid.name})"
        with engine, Store.write(path, command, environment()) as opened:
            opened.add_points(planned.points())
            if drive_points(opened, engine, quiet=quiet).interrupted:
                raise KeyboardInterrupt
    return SweepResults(path)


def make_parser() -> Parser:
    """All commands and their options."""
    parser = Parser(
        prog=PROGRAM,
        description="Grids of independent runs on one machine or a cluster: resumable, each run known by hash and replica.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"downstairs {_version()}")
    commands = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a grid, or what is missing of it")
    run.add_argument("grid", type=Path, metavar="GRID", help="TOML file")
    run.add_argument(
        "--dry-run", action="store_true", help="check the grid, print number of runs and predicted cost, stop"
    )
    resume = commands.add_parser("resume", help="run what is missing of all grids in a store")
    for command in (run, resume):
        _add_engine_options(command)
    resume.add_argument("--retry", action="store_true", help="run again what failed or was killed")
    status = commands.add_parser("status", help="what is there and what is missing, also while it runs")
    status.add_argument("--json", action="store_true", help="JSON on stdout")
    status.add_argument("--checksum", action="store_true", help="a number that is equal for equal results")
    merge = commands.add_parser("merge", help="join the files of array tasks, or of other stores")
    merge.add_argument("sources", type=Path, nargs="*", metavar="FILE", help="default: runs-*-of-*.db in the store")
    export = commands.add_parser("export", help="all runs as NetCDF, Parquet or CSV")
    export.add_argument("file", type=Path, metavar="FILE", help="ends in .nc, .parquet or .csv")
    plot = commands.add_parser("plot", help="escape times against an axis of the grid, with intervals")
    plot.add_argument("file", type=Path, metavar="FILE", help="ends in .png, .pdf or .svg")
    plot.add_argument("--x", metavar="AXIS", help="key of the grid on the abscissa (default: dim if it varies)")
    plot.add_argument("--spike", help="whose escape times (default: the target)")
    plot.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only points with this value; may be repeated"
    )
    salvage = commands.add_parser("salvage", help="copy what is intact of a damaged store")
    salvage.add_argument("target", type=Path, metavar="FILE", help="store file to be made")
    for command in commands.choices.values():
        command.add_argument(
            "--store", type=folder, required=command is not run, metavar="DIR", help="folder of the store"
        )
    return parser


def _add_engine_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--engine", choices=("local", "dask"), default="local", help="processes, or Dask (default: local)"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler (default: a cluster of this machine)")
    parser.add_argument("--workers", type=whole_number, help="processes (default: the cores of this machine)")
    parser.add_argument(
        "--shard", default="0/1", metavar="I/N", help="only this share, into a file of its own; I = 0 … N-1"
    )
    parser.add_argument("--only", metavar="HASH:REPLICA", help="run one replica alone, print it, keep nothing")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def _version() -> str:
    from theory import __version__

    return __version__


def main(arguments: list[str] | None = None) -> int:
    """Parse and do; returns the exit code: 1 if runs failed, 2 for bad input, 130 if it was interrupted."""
    words = make_parser().parse_args(arguments)
    hint = f"interrupted; go on with: python -m sims.sweep resume --store {words.store}"
    return run_command(PROGRAM, lambda: _act(words), hint)


def _act(words: Namespace) -> int:
    from sims import sweep_actions

    return sweep_actions.ACTIONS[words.action](words)


if __name__ == "__main__":
    raise SystemExit(main())
