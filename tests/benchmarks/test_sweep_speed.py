"""What a sweep costs beyond its runs: microseconds a run of trivial work in batches of 100, and the driver's memory.

    pytest -m benchmark -n 0 -s tests/benchmarks/test_sweep_speed.py

The clock starts when the workers are there. The least of several turns counts: what the machine does besides only adds to it.
"""

import json
import subprocess
import sys
from concurrent.futures import Executor, Future
from pathlib import Path
from time import perf_counter, sleep

import pytest

from sims.cluster import dask, given, local
from sims.drive import drive
from tests.regression.sweep_work import PROGRAM, plain, points
from theory.store import Point, Store

pytestmark = pytest.mark.benchmark

TURNS = 3
GOALS = {"local": 60.0, "dask": 120.0}  # microseconds a run
POINTS, RUNS = 10, 5000
HUNDRED = dict(cost=1e-4), dict(seconds=0.01)  # 100 runs of 1e-4 s, as ``plain`` says they take
FEW, MANY = 10**4, 10**6  # units of one run
MEBIBYTES = 10.0  # by which MANY units may need more memory than FEW


@pytest.mark.parametrize("name", GOALS)
def test_overhead_of_a_run(tmp_path, name):
    cost, seconds = HUNDRED
    taken = []
    for turn in range(TURNS):
        engine = local(2) if name == "local" else dask(None, 2)
        for lane in engine.lanes:
            lane.submit(plain, []).result()
        sleep(1.5)  # on Dask the first second of a worker is idle
        with Store.write(tmp_path / f"{turn}.db") as store:
            store.add_points(points(POINTS, RUNS, **cost))
            start = perf_counter()
            assert drive(store, PROGRAM, plain, engine, **seconds).finished == POINTS * RUNS
            taken.append((perf_counter() - start) / (POINTS * RUNS) * 1e6)
    print(f"\n{name}: {min(taken):.1f} us a run, all turns {[round(t, 1) for t in taken]}, goal {GOALS[name]:.0f}")
    assert min(taken) <= GOALS[name]


class Inline(Executor):
    def submit(self, work, units):
        future = Future()
        future.set_result(work(units))
        return future


def peak(folder, n):
    """MiB of a process that drives n units of one run, and its microseconds a unit."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.test_sweep_speed", folder / f"{n}.db", str(n)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return json.loads(done.stdout)


def test_memory_of_the_driver_is_flat(tmp_path):
    (few, _), (many, each) = (peak(tmp_path, n) for n in (FEW, MANY))
    print(f"\npeak {few:.1f} MiB at {FEW} units, {many:.1f} MiB at {MANY}; {each:.1f} us a unit in driver and store")
    assert many - few <= MEBIBYTES


def main(path, n):
    with Store.write(Path(path)) as store:
        store.connection.execute(
            "PRAGMA cache_size = -2000"
        )  # SQLite's own cache grows to its bound and hides the rest
        store.add_points(Point.of(PROGRAM, {"k": k, "view": "chain"}, 1, 1e-3) for k in range(n))
        start = perf_counter()
        assert drive(store, PROGRAM, plain, given(Inline(), 4)).finished == n
        each = (perf_counter() - start) / n * 1e6
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(
        json.dumps([int(status["VmHWM"].split()[0]) / 1024, each])
    )  # of this program: ru_maxrss begins with the parent's


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
