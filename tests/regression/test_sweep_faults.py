"""A sweep whose processes die: real ones, killed with signals, locally and on a Dask scheduler of the test's own.

Would be falsified by: a run that is lost or differs after a driver or a worker was killed -9; workers that outlive their
driver; a second writer; a traceback after Ctrl-C. The moments of the kills are random (SEED); the claims hold for all.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.conftest import SEED
from tests.regression.sweep_work import PROGRAM, points, toss
from theory.errors import InputError
from theory.store import Store

ROOT = Path(__file__).parents[2]
KILLS = 20
MARK = "DOWNSTAIRS_TEST_SWEEP"


@pytest.fixture
def environment():
    """Of all processes of a test: their mark finds them, orphans too. None is left 5 s after the test."""
    mark = uuid4().hex
    yield {**os.environ, MARK: mark, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    assert gone(mark), "processes are left"


def marked(mark):
    """Processes that have the mark in their environment, zombies excepted."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((int(process.name), (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
        except OSError:  # ended meanwhile, or someone else's
            continue
    return found


def gone(mark, seconds=5.0):
    end = time.monotonic() + seconds
    while marked(mark):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def start(environment, *words):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", *map(str, words)], env=environment, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def driver(environment, store, work, engine="2"):
    return start(environment, "tests.regression.sweep_work", store, work, engine)


def outcome(process, seconds=60):
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return json.loads(out), err


def wanted(path, n, runs, notes="", cost=1e-3):
    """A store in which so much is missing, and the checksum that it must have in the end."""
    with Store.write(path.with_name("undisturbed.db")) as store:
        store.add_points(points(n, runs, notes, cost))
        for point in store.points():
            store.add([toss(point.config, replica) for replica in range(point.runs)], "{}")
        expected = store.checksum()
    with Store.write(path) as store:
        store.add_points(points(n, runs, notes, cost))
    return expected


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def done(path):
    with Store.read(path) as store:
        return store.tally().done


def test_driver_killed_at_random_moments_vs_undisturbed(tmp_path, environment):
    path, moments = tmp_path / "runs.db", random.Random(SEED)
    expected = wanted(path, 10, 700)
    counts = [0]
    for kills in range(4 * KILLS):  # under load most drivers are killed before their first batch: more of them, then
        if kills >= KILLS and len(set(counts)) > KILLS / 4:
            break
        process = driver(environment, path, "slow")
        time.sleep(moments.uniform(0.1, 0.7))
        process.kill()
        process.communicate()
        assert gone(environment[MARK]), "workers outlive their driver"
        counts.append(done(path))
    assert counts == sorted(counts)
    assert 0 < counts[-1] < 7000, "the kills were to hit the middle"
    assert len(set(counts)) > KILLS / 4
    finished, err = outcome(driver(environment, path, "slow"))
    assert (finished["finished"], err) == (7000 - counts[-1], "")
    with Store.read(path) as store:
        assert store.checksum() == expected


def test_worker_killed_vs_undisturbed(tmp_path, environment):
    path = tmp_path / "runs.db"
    expected = wanted(path, 10, 100)
    process = driver(environment, path, "slow")
    wait_for(lambda: done(path) > 0)
    workers = [pid for pid, line in marked(environment[MARK]) if "spawn_main" in line]
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    finished, err = outcome(process)
    assert (finished["finished"], finished["killed"], err) == (1000, 0, "")
    with Store.read(path) as store:
        assert store.checksum() == expected


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_group(tmp_path, environment, kind):
    """As a terminal does it, twice: the driver ends at once with an outcome, and nobody prints a traceback."""
    path = tmp_path / "runs.db"
    wanted(path, 4, 100, tmp_path / "begun")
    process = driver(environment, path, "endless")
    wait_for((tmp_path / "begun").exists)
    begin = time.monotonic()
    os.killpg(process.pid, kind)
    if process.poll() is None:
        os.killpg(process.pid, kind)
    finished, err = outcome(process)
    assert (finished["interrupted"], finished["finished"], err) == (True, 0, "")
    assert time.monotonic() - begin < 5


def test_a_second_driver_is_refused(tmp_path, environment):
    path = tmp_path / "runs.db"
    wanted(path, 4, 10, tmp_path / "begun")
    process = driver(environment, path, "endless")
    wait_for((tmp_path / "begun").exists)
    with pytest.raises(InputError, match=f"one writer at a time; held by process {process.pid} "):
        Store.write(path)
    assert done(path) == 0  # readers are welcome
    process.kill()
    process.communicate()


def test_a_script_without_a_guard_is_told_so(tmp_path, environment):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from sims.cluster import local\n"
        "from sims.drive import drive\n"
        "from tests.regression.sweep_work import PROGRAM, plain\n"
        "from theory.store import Store\n"
        f"drive(Store.write(Path({str(tmp_path / 'runs.db')!r})), PROGRAM, plain, local(1))\n"
    )
    wanted(tmp_path / "runs.db", 1, 3)
    run = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].endswith("a script that sweeps needs if __name__ == '__main__': around it")
    assert done(tmp_path / "runs.db") == 0


@contextmanager
def dask_cluster(environment, folder, *, nanny):
    """The address of a scheduler and two workers on 127.0.0.1, at ports that were free."""
    where = folder / "scheduler.json"
    processes = [start(
        environment, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
        "--scheduler-file", where,
    )]  # fmt: skip
    try:
        wait_for(lambda: where.exists() and where.read_text().rstrip().endswith("}"))  # it is not written at once
        address = json.loads(where.read_text())["address"]
        processes += [start(
            environment, "distributed.cli.dask_worker", address, "--host", "127.0.0.1", "--nthreads", "1",
            "--no-dashboard", "--nanny" if nanny else "--no-nanny", "--local-directory", folder,
        ) for _ in range(2)]  # fmt: skip
        yield address
    finally:
        for process in processes:
            process.kill()  # the worker of a nanny ends with it
            process.communicate()


def test_dask_vs_undisturbed_with_a_worker_killed(tmp_path, environment):
    """The other worker does the rest."""
    path = tmp_path / "runs.db"
    expected = wanted(path, 10, 100, tmp_path / "died")
    with dask_cluster(environment, tmp_path, nanny=False) as address:
        finished, err = outcome(driver(environment, path, "fatal_once", address))
    assert (finished["finished"], finished["killed"], err) == (1000, 0, "")
    assert (tmp_path / "died").exists()
    with Store.read(path) as store:
        assert store.checksum() == expected


def test_dask_with_a_replica_that_kills_its_worker(tmp_path, environment):
    path = tmp_path / "runs.db"
    wanted(
        path, 4, 2, tmp_path / "deaths", cost=0.1
    )  # batches of one run: what halves them is the same for all engines
    with dask_cluster(environment, tmp_path, nanny=True) as address:
        finished, err = outcome(driver(environment, path, "fatal", address))
    assert (finished["finished"], finished["killed"], err) == (7, 1, "")
    sizes = [int(line) for line in (tmp_path / "deaths").read_text().split()]
    assert sizes[-3:] == [1, 1, 1]
    with Store.read(path) as store:
        assert [run.status for p in store.points() for run in store.runs(p.hash)].count("killed") == 1
        assert list(store.missing(PROGRAM)) == []


def test_dask_whose_scheduler_goes_away(tmp_path, environment):
    path = tmp_path / "runs.db"
    expected = wanted(path, 10, 100)
    with dask_cluster(environment, tmp_path, nanny=False) as address:
        process = driver(environment, path, "slow", address)
        wait_for(lambda: done(path) > 0)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "InputError: executor: got a Dask scheduler that went away; allowed: one that answers" in err
    assert 0 < done(path) < 1000
    outcome(driver(environment, path, "slow"))
    with Store.read(path) as store:
        assert store.checksum() == expected
