"""The store at 10^6 runs: what is missing under 1 s, 20 files joined under 2 s, in CPU seconds of one core.

    pytest -m benchmark -n 0 -s tests/benchmarks/test_store_speed.py

CPU seconds, the least of three, because neighbours share the machine; wall seconds are printed beside them.
"""

from time import perf_counter, process_time

import pytest

from theory.provenance import digest
from theory.store import FINISHED, Point, Run, Store, number_of
from theory.store_merge import Merged, merge
from theory.store_salvage import salvage

pytestmark = pytest.mark.benchmark

PROGRAM, TASKS, TURNS = "tests.speed", 20, 3


def config(i):
    return f'{{"activation":"relu","corr":0.5,"dim":{i},"lr":0.1,"p":4,"task":"mixed-cumulant"}}'


def finished(point, number, replica):
    noise = (number + 7919 * replica) % 10007
    return Run(point, replica, FINISHED, f"[{noise + 0.5},null]", noise % 5 == 0, 1e4 * noise / 7, noise / 11)


def files(folder, points, runs):
    """What ``TASKS`` array tasks leave: each has the points of which it has a share."""
    grid = sorted((digest(config(i)), config(i)) for i in range(points))
    sources = [folder / f"runs-{i}-of-{TASKS}.db" for i in range(TASKS)]
    for i, source in enumerate(sources):
        shares = [(key, text, (i - int(key, 16)) % TASKS) for key, text in grid]
        with Store.write(source) as store:
            store.add_points(Point(PROGRAM, text, runs, 1.0) for _, text, first in shares if first < runs)
            store.add(
                (finished(key, number_of(key), r) for key, _, first in shares for r in range(first, runs, TASKS)), "{}"
            )
    return sources


def timed(work):
    wall, cpu = perf_counter(), process_time()
    result = work()
    return result, process_time() - cpu, perf_counter() - wall


@pytest.mark.parametrize(("points", "runs", "joined_in"), [(1, 10**6, 2), (1000, 1000, 2), (10**6, 1, None)])
def test_a_million_runs(tmp_path, points, runs, joined_in):
    sources, path = files(tmp_path, points, runs), tmp_path / "runs.db"
    joins = []
    for _ in range(TURNS):
        path.unlink(missing_ok=True)
        with Store.write(path) as store:
            result, *seconds = timed(lambda: merge(store, sources))
            assert result == Merged(TASKS, 10**6, 0, ())
        joins.append(seconds)
    with Store.write(path) as store:
        again = timed(lambda: merge(store, sources))
        store.connection.execute("DELETE FROM runs WHERE replica % 1000 = 7 OR point % 1000 = 7")
        resumes = [timed(lambda: sum(len(todo) for _, todo in store.missing(PROGRAM))) for _ in range(TURNS)]
        (left, _), *left_seconds = timed(lambda: store.left(PROGRAM))
    assert again[0] == Merged(TASKS, 0, 10**6, ())
    assert resumes[0][0] == left > 0
    opened = timed(lambda: Store.write(path).close())
    print(
        f"\n{points} points x {runs} runs: joined in {min(joins)[0]:.2f} s of CPU ({min(joins)[1]:.2f} s), again in "
        f"{again[1]:.2f} ({again[2]:.2f}); missing {left} found in {min(r[1] for r in resumes):.2f} "
        f"({min(r[2] for r in resumes):.2f}), counted in {left_seconds[0]:.2f}; opened in {opened[1]:.2f} ({opened[2]:.2f})"
    )
    assert min(r[1] for r in resumes) < 1
    assert joined_in is None or min(joins)[0] < joined_in


def test_batches_of_a_hundred(tmp_path):
    point = Point(PROGRAM, config(1), 10**5, 1.0)
    with Store.write(tmp_path / "runs.db") as store:
        store.add_points([point])
        rows = [finished(point.hash, number_of(point.hash), r) for r in range(10**5)]
        _, cpu, wall = timed(lambda: [store.add(rows[k : k + 100], "{}") for k in range(0, 10**5, 100)])
    _, salvage_cpu, _ = timed(lambda: salvage(tmp_path / "runs.db", tmp_path / "saved.db"))
    print(f"\na run stored in {cpu * 10:.1f} us of CPU ({wall * 10:.1f} us), salvaged in {salvage_cpu * 10:.1f} us")
    assert cpu * 10 < 20
