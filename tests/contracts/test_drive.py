"""The driver against a plain loop over the same replicas: whatever computes them in whatever batches, the store is the same.

Would be falsified by: a result that depends on the number of workers, on batches, shards, or engine; a replica run twice or
never; a batch that a grain does not divide; a prediction that is not corrected by what was measured. Nothing here is left to
chance.
"""

import io
import json
import signal
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise
from multiprocessing import get_context

import pytest

from sims import progress
from sims.batches import MOST_RUNS, Batch, Pace, Share, Unit, make_batches
from sims.cluster import dask, given, local
from sims.drive import TRIES, drive
from sims.progress import Progress, duration
from tests.regression import sweep_work
from tests.regression.sweep_work import FATAL, PROGRAM, RAISING, fatal, forgetful, plain, points, raising
from theory.errors import InputError
from theory.store import FINISHED, Point, Run, Store
from theory.store_files import StoreFullError


class Inline(Executor):
    """An executor that computes in the caller, and remembers the sizes of what came."""

    def __init__(self):
        self.batches = []

    def submit(self, work, units):
        self.batches.append(units)
        future = Future()
        try:
            future.set_result(work(units))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def new_store(tmp_path):
    opened = []

    def make(name, wanted=()):
        opened.append(Store.write(tmp_path / f"{name}.db"))
        opened[-1].add_points(wanted)
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def by_hand(store):
    """What ``plain`` gives, without driver, batches or engine."""
    for point in store.points():
        store.add([sweep_work.toss(point.config, replica) for replica in range(point.runs)], "{}")
    return store.checksum()


def test_drive_vs_loop(new_store):
    wanted = points(7, 13)
    expected = by_hand(new_store("loop", wanted))
    for workers, seconds in ((1, 3.0), (2, 0.01), (3, 1e-9)):
        store = new_store(f"{workers}", wanted)
        outcome = drive(store, PROGRAM, plain, local(workers), seconds=seconds)
        assert (outcome.finished, outcome.failed, outcome.interrupted) == (91, 0, False)
        assert outcome.censored == store.tally().censored
        assert store.checksum() == expected


def test_drive_vs_loop_on_a_local_dask_cluster_that_loses_a_worker(new_store, tmp_path):
    wanted = points(7, 13, tmp_path / "died")
    expected = by_hand(new_store("loop", wanted))
    store = new_store("dask", wanted)
    assert drive(store, PROGRAM, sweep_work.fatal_once, dask(None, 2), seconds=0.1).finished == 91
    assert (tmp_path / "died").exists()
    assert store.checksum() == expected


def test_shards_vs_whole(new_store):
    wanted = points(5, 11)
    whole = new_store("whole", wanted)
    drive(whole, PROGRAM, plain, given(Inline()))
    parts = [new_store(f"part{i}", wanted) for i in range(3)]
    predicted = [store.left(PROGRAM, (i, 3)) for i, store in enumerate(parts)]
    done = [drive(s, PROGRAM, plain, given(Inline()), shard=(i, 3)).finished for i, s in enumerate(parts)]
    assert done == [runs for runs, _ in predicted]
    assert sum(done) == 55
    runs = [run for part in parts for point in part.points() for run in part.runs(point.hash)]
    whole_runs = [run for point in whole.points() for run in whole.runs(point.hash)]
    assert sorted(runs) == sorted(whole_runs)


def test_left_vs_missing_vs_difference_of_sets(new_store):
    store = new_store("some", points(6, 10, cost=0.5))
    first = next(store.points())
    store.add([sweep_work.toss(first.config, r) for r in (1, 4, 5)], "{}")
    store.add([Run(first.hash, 2, "failed", "[]", True, 0.0, 0.0, "why")], "{}")
    for shard in ((0, 1), (0, 3), (1, 3), (2, 3), (6, 7)):
        for again, known in ((False, {1, 2, 4, 5}), (True, {1, 4, 5})):
            expected = {
                (p.hash, r) for p in store.points() for r in range(10)
                if (int(p.hash, 16) + r) % shard[1] == shard[0] and (p.hash != first.hash or r not in known)
            }  # fmt: skip
            missing = [(p.hash, r) for p, todo in store.missing(PROGRAM, shard, again) for r in todo]
            assert set(missing) == expected
            assert store.left(PROGRAM, shard, again) == (len(missing), pytest.approx(0.5 * len(missing)))


def test_nothing_to_do_starts_nothing(new_store):
    store = new_store("done", points(2, 3))
    by_hand(store)
    executor = Inline()
    assert drive(store, PROGRAM, plain, given(executor)).finished == 0
    assert executor.batches == []


def test_work_that_raises_costs_one_replica(new_store):
    store = new_store("raising", points(8, 10))
    outcome = drive(store, PROGRAM, raising, local(2))
    assert (outcome.finished, outcome.failed, outcome.killed) == (79, 1, 0)
    (bad,) = [run for point in store.points() for run in store.runs(point.hash) if run.status != FINISHED]
    assert (bad.replica, bad.error) == (1, "ZeroDivisionError: no such luck")
    assert store.point(bad.point).values["k"] == RAISING
    again = drive(store, PROGRAM, plain, given(Inline()), again=True)
    assert again.finished == 1
    assert store.checksum() == by_hand(new_store("loop", points(8, 10)))


def test_workers_without_the_program_end_it(new_store):
    store = new_store("foreign", points(3, 10))
    with pytest.raises(
        InputError, match="workers: got No module named 'sims'; allowed: workers that have this program"
    ):
        drive(store, PROGRAM, sweep_work.foreign, given(Inline()))
    assert store.tally().done == 0


def test_work_that_loses_rows_is_asked_again(new_store):
    store = new_store("forgetful", points(3, 10))
    assert drive(store, PROGRAM, forgetful, given(Inline())).finished == 30


def test_a_replica_that_kills_its_worker_is_tried_three_times_alone(new_store, tmp_path):
    store = new_store("fatal", points(8, 10, tmp_path / "deaths"))
    outcome = drive(store, PROGRAM, fatal, local(2))
    assert (outcome.finished, outcome.failed, outcome.killed) == (79, 0, 1)
    (bad,) = [run for point in store.points() for run in store.runs(point.hash) if run.status != FINISHED]
    assert (bad.replica, bad.status, bad.error) == (1, "killed", "its worker died 3 times in a row (BrokenProcessPool)")
    assert store.point(bad.point).values["k"] == FATAL
    sizes = [int(line) for line in (tmp_path / "deaths").read_text().split()]
    assert sizes[-TRIES:] == [1] * TRIES
    halved = sizes[1:-TRIES]
    assert all(a == pytest.approx(2 * b, abs=1) for a, b in pairwise([*halved, 1]))


def test_a_worker_that_dies_within_a_long_result(new_store, tmp_path):
    store = new_store("long", points(2, 5, tmp_path / "died"))
    assert drive(store, PROGRAM, sweep_work.fatal_within_result, local(1)).finished == 10
    assert (tmp_path / "died").exists()
    assert store.checksum() == by_hand(new_store("loop", points(2, 5, tmp_path / "died")))


def test_an_executor_of_the_callers(new_store):
    expected = by_hand(new_store("loop", points(3, 10)))
    with ThreadPoolExecutor(2) as pool:
        store = new_store("threads", points(3, 10))
        drive(store, PROGRAM, plain, given(pool), seconds=1e-3)
        assert store.checksum() == expected
        assert pool.submit(int).result() == 0  # it goes on


def test_a_broken_executor_of_the_callers(new_store, tmp_path):
    store = new_store("broken", points(8, 10, tmp_path / "deaths"))
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with pool, pytest.raises(InputError, match="executor: got a ProcessPoolExecutor that lost a worker"):
        drive(store, PROGRAM, fatal, given(pool))


@pytest.mark.parametrize(("executor", "line"), [
    (lambda: local(0), "workers: got 0; allowed: 1 or more"),
    (lambda: dask("127.0.0.1:1"), r"executor: got 127.0.0.1:1 \(\w+\); allowed: a Dask scheduler that answers"),
    (lambda: dask("nonsense://x"), r"executor: got nonsense://x \(ValueError\)"),
])  # fmt: skip
def test_engines_that_cannot_be(executor, line, monkeypatch):
    monkeypatch.setattr("sims.cluster.CONNECT", 0.2)
    with pytest.raises(InputError, match=line):
        executor()


def test_a_full_disk_stops_the_workers_and_passes_through(new_store):
    store = new_store("full", points(40, 200))
    expected = by_hand(new_store("loop", points(40, 200)))
    (pages,) = store.connection.execute("PRAGMA page_count").fetchone()
    store.connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    engine = local(2)
    with pytest.raises(StoreFullError, match="full"):
        drive(store, PROGRAM, plain, engine, seconds=0.01)
    assert all(not lane._context.started for lane in engine.lanes)
    assert 0 < store.tally().done < 8000
    store.connection.execute("PRAGMA max_page_count = 1000000")
    drive(store, PROGRAM, plain, given(Inline()))
    assert store.checksum() == expected


def test_a_signal_stops_between_batches(new_store):
    def interrupting(units):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        return plain(units)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    store = new_store("signal", points(4, 1000))
    outcome = drive(store, PROGRAM, interrupting, given(Inline(), 1))
    assert outcome.interrupted
    assert 0 < outcome.finished == store.tally().done < 4000
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_drive_in_a_thread(tmp_path):
    done = []

    def run():
        with Store.write(tmp_path / "thread.db") as store:
            store.add_points(points(2, 2))
            done.append(drive(store, PROGRAM, plain, given(Inline())).finished)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [4]


def batches_of(missing, grain=1, seconds=1.0, pace=None):
    return list(make_batches(missing, lambda _: grain, seconds, pace or known_pace()))


def known_pace(ratio=1.0, view="ode"):
    return Pace({view: ratio}, {view: 1.0})


def point(k, cost, view="ode"):
    return Point.of(PROGRAM, {"k": k, "view": view}, 1, cost)


def replicas(batches):
    return [(u.config, r) for batch in batches for u in batch.units for r in u.replicas]


@pytest.mark.parametrize("grain", [1, 8])
@pytest.mark.parametrize("cost", [1e-6, 0.03, 0.4, 20.0])
def test_batches_hold_everything_once_and_are_of_the_asked_size(cost, grain):
    missing = [(point(k, cost), list(range(k, k + 50 * k))) for k in range(1, 8)]
    batches = batches_of(missing, grain)
    assert replicas(batches) == [(p.config, r) for p, todo in missing for r in todo]
    for batch in batches:
        assert len(batch) <= MOST_RUNS
        assert batch.cost <= max(1.0, grain * cost) + 1e-9
        for unit in batch.units:
            last = unit.replicas[-1] == dict((p.config, todo) for p, todo in missing)[unit.config][-1]
            assert last or len(unit.replicas) % grain == 0
    for a, b in pairwise(batches):
        first = len(b.units[0].replicas)
        assert a.cost + min(first, grain) * cost > 1.0 - 1e-9 or len(a) + min(first, grain) > MOST_RUNS


def test_pace_turns_predictions_into_what_was_measured():
    """Runs of one view take 5 times longer than predicted, of another a fifth: the batches follow, each view by itself."""
    pace = Pace()
    assert pace.seconds("ode", 1.0) == 10.0
    for view, factor in (("ode", 5.0), ("chain", 0.2)):
        p = point(0, 2.0, view)
        batch = Batch((Share(Unit(p.config, (0, 1)), p.hash, view, 2.0),))
        rows = [Run(p.hash, r, FINISHED, "[]", False, 1.0, 2.0 * factor) for r in (0, 1)]
        pace.learn(batch, [*rows, Run(p.hash, 9, "failed", "[]", True, 0.0, 0.0, "no time")])
        assert pace.seconds(view, 1.0) == pytest.approx(factor)
    assert pace.seconds("ode", 1.0) == pytest.approx(5.0)
    assert len(batches_of([(point(1, 0.01), list(range(100)))], pace=pace)[0]) == 20


def test_halves_vs_whole():
    (batch,) = batches_of([(point(k, 1e-6), list(range(k))) for k in range(1, 8)])
    pieces = [batch]
    while len(pieces[0]) > 1:
        assert {len(p) for p in pieces} <= {len(pieces[0]), len(pieces[0]) + 1, len(pieces[0]) - 1}
        pieces = [half for piece in pieces for half in (piece.halves() if len(piece) > 1 else (piece,))]
    assert sorted(replicas(pieces)) == sorted(replicas([batch]))


def test_batches_are_made_when_they_are_asked_for():
    seen = []

    def missing():
        for k in range(100):
            seen.append(k)
            yield point(k, 1.0), [0]

    next(make_batches(missing(), lambda _: 1, 1.0, known_pace()))
    assert len(seen) == 2


def test_progress_is_a_line_a_minute_without_a_terminal(monkeypatch, capsys):
    clock = iter([0.0, 30.0, 61.0, 100.0, 130.0])
    monkeypatch.setattr(progress, "perf_counter", lambda: next(clock))
    with Progress(1000, 400.0, quiet=False) as told:
        for _ in range(4):
            told.advance(100, 20.0, {"finished": 98, "failed": 1, "killed": 1}, 49)
    assert capsys.readouterr().err.splitlines() == [
        "200/1000 runs, 3.28/s, 0:09:09 left, 2 failed, 50% censored",
        "400/1000 runs, 3.08/s, 0:08:40 left, 2 failed, 50% censored",
    ]


def test_progress_is_a_bar_on_a_terminal_and_silent_with_quiet(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for quiet in (False, True):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(10, 5.0, quiet=quiet) as told:
            told.advance(10, 5.0, {"finished": 9, "failed": 1}, 3)
        assert ("10/10 runs" in terminal.getvalue() and "1 failed, 33% censored" in terminal.getvalue()) == (not quiet)
        assert quiet is (terminal.getvalue() == "")


def test_durations():
    assert [duration(s) for s in (0.2, 61, 86400 * 2 + 3661, float("inf"))] == [
        "0:00:00",
        "0:01:01",
        "2 d 1:01:01",
        "?",
    ]


def test_outcomes_are_plain_values(new_store):
    outcome = drive(new_store("o", points(1, 1)), PROGRAM, plain, given(Inline()))
    assert json.loads(json.dumps(vars(outcome)))["finished"] == 1
