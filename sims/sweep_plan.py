"""What a grid will cost, before anything runs: all points checked, counted and priced by the theory."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any

from tqdm import tqdm

from sims.grid import Grid
from sims.progress import rough
from theory.store import Point

IN_MEMORY = 2**22  # bytes of points, beyond which they wait in a file
SLOW_GRID = 100  # points that take long enough to be counted for the user


@dataclass(frozen=True)
class Plan:
    """All points of a grid, on disk if they are many; numbers of points and runs, and the predicted seconds of one core."""

    grid: Grid
    n_points: int
    n_runs: int
    seconds: float
    dearest: Point
    spool: Any

    def points(self) -> Iterator[Point]:
        """The points, in the order of the grid."""
        self.spool.seek(0)
        for line in self.spool:
            yield Point(*json.loads(line))


@contextmanager
def plan(grid: Grid, quiet: bool = True) -> Iterator[Plan]:
    """Resolve every point. Raises InputError for the first that cannot be run: then nothing has been written anywhere."""
    n_points = n_runs = 0
    seconds, dearest = 0.0, None
    silent = True if quiet or grid.n_points < SLOW_GRID else None
    count = tqdm(grid.points(), total=grid.n_points, unit="point", desc="checking", disable=silent, leave=False)
    with SpooledTemporaryFile(IN_MEMORY, "w+", encoding="ascii") as spool:
        for point in count:
            spool.write(json.dumps([point.program, point.config, point.runs, point.cost]) + "\n")
            n_points, n_runs, seconds = n_points + 1, n_runs + point.runs, seconds + point.runs * point.cost
            if dearest is None or point.cost > dearest.cost:
                dearest = point
        assert dearest is not None
        yield Plan(grid, n_points, n_runs, seconds, dearest, spool)


def plan_table(plan: Plan, workers: int) -> str:
    """For people: what a dry run prints."""
    axes = {key: len(values) for key, values in plan.grid.axes.items()}
    values = plan.dearest.values
    where = ", ".join(f"{key} = {values[key]}" for key in plan.grid.axes if key in values)
    lines = [
        f"grid       {plan.grid.name}: " + (" × ".join(f"{n} {key}" for key, n in axes.items()) or "one point"),
        f"units      {plan.n_points} points, {plan.n_runs} runs",
        f"cost       {rough(plan.seconds)} of one core by the theory (escape time × cost of a sample), "
        f"{rough(plan.seconds / workers)} on {workers} of them",
        f"dearest    {rough(plan.dearest.cost)} a run{f' at {where}' if where else ''}, point {plan.dearest.hash}",
        "nothing was run or written",
    ]
    return "\n".join(lines) + "\n"
