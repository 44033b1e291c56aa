"""The store against what happens to it: killed writers, full disks, second writers, damaged files.

Would falsify: that whatever ``add`` returned from survives kill -9 and a full disk; that a lock lives exactly as long as its
holder; that salvage brings every row through that does not lie on a damaged page. Moments of kills and places of damage are
random (SEED for the places); what is asserted holds for each of them, so there are no false alarms.
"""

import os
import platform
import signal
import sqlite3
import subprocess
import sys
import time
from random import Random

import pytest

from tests.theory.store_examples import fill, point_of, run_of
from theory.errors import InputError
from theory.store import Store, holder_of
from theory.store_files import StoreFullError

BATCH = 5
WRITER = f"""
import sys
from pathlib import Path
import theory.store_files as files
from tests.theory.store_examples import point_of, run_of
from theory.store import Store
files.on_network = lambda path: sys.argv[2] == "far"
point = point_of(1, 10**6)
with Store.write(Path(sys.argv[1])) as store:
    store.add_points([point])
    first = store.tally().done
    print("ready", flush=True)
    for start in range(first, 10**6, {BATCH}):
        store.add([run_of(point, start + k, path=300) for k in range({BATCH})], "{{}}")
        print(start + {BATCH}, flush=True)
"""
FULL = """
import sys
from pathlib import Path
from solvers.options import run_command
from tests.theory.store_examples import point_of, run_of
from theory.store import Store

def fill_up():
    with Store.write(Path(sys.argv[1])) as store:
        for replica in range(10**6):
            store.add([run_of(point_of(1), replica, path=300)], "{}")

run_command("sweep", fill_up)
"""
HOLDER = """
import multiprocessing, os, sys, time
from pathlib import Path
from theory.store import Store

def work():
    print(os.getpid(), flush=True)
    time.sleep(60)

store = Store.write(Path(sys.argv[1]))
multiprocessing.get_context("fork").Process(target=work).start()
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def mount(tmp_path):
    """A disk of its own; skips where one may not be mounted."""
    place = tmp_path / "disk"
    place.mkdir()

    def mounted(options):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mount is refused: {done.stderr.strip()}")
        return place

    yield mounted
    while os.path.ismount(place):
        subprocess.run(["umount", str(place)], check=True)


def python(script, *words):
    return subprocess.Popen([sys.executable, "-c", script, *map(str, words)], stdout=subprocess.PIPE, text=True)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()


def sound(path):
    connection = sqlite3.connect(path)
    verdict = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    return verdict == [("ok",)]


# Processes.


@pytest.mark.parametrize(("where", "kills"), [("here", 10), ("far", 4)])
def test_what_was_acknowledged_vs_what_is_there_after_kills(path, where, kills):
    point, moment = point_of(1, 10**6), Random()
    for _ in range(kills):
        writer = python(WRITER, path, where)
        assert writer.stdout.readline() == "ready\n"
        wait = time.monotonic() + 0.1 * moment.random()
        while time.monotonic() < wait:
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
        kill(writer)
        if where == "here":
            with Store.read(path) as store:  # beside the log that nobody took in
                assert store.tally().done >= acknowledged
        with Store.write(path) as store:
            there = store.runs(point.hash)
        assert len(there) >= acknowledged
        assert len(there) % BATCH == 0
        assert there == [run_of(point, r, path=300) for r in range(len(there))]
        assert sound(path)
    assert acknowledged > kills


def test_a_second_writer_is_told_who_the_first_is_until_that_is_killed(path):
    first = python(HOLDER, path)
    worker = int(first.stdout.readline())
    try:
        with pytest.raises(InputError) as caught:
            Store.write(path)
        line = str(caught.value)
        year = time.strftime("%Y", time.gmtime())
        for part in (f"process {first.pid} ", f" on {platform.node()} ", f" since {year}", "one writer at a time"):
            assert part in line
        assert "\n" not in line
        assert holder_of(path) in line
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        os.kill(worker, 0)  # a forked worker lives on, and holds nothing
        assert holder_of(path) is None
        with Store.write(path):
            assert f"process {os.getpid()} " in holder_of(path)
    finally:
        os.kill(worker, signal.SIGKILL)
        kill(first)


def test_a_reader_does_not_keep_a_writer_from_closing(path):
    point = point_of(1)
    with Store.write(path) as store:
        store.add_points([point])
    with Store.read(path) as reader:
        begin = time.monotonic()
        with Store.write(path) as store:
            store.add([run_of(point, 0)], "{}")
            assert reader.tally().done == 1
        assert time.monotonic() - begin < 2
        assert reader.tally().done == 1
        assert holder_of(path) is None
    with Store.write(path) as store:
        store.add([run_of(point, 1)], "{}")
    assert not path.with_name("runs.db-wal").exists()
    assert sound(path)


def test_a_busy_file_is_not_called_damaged(path, monkeypatch):
    monkeypatch.setattr("theory.store_files.PATIENCE", 0.05)
    monkeypatch.setattr("theory.store_files.on_network", lambda _: True)
    point = point_of(1)
    with Store.write(path) as store:
        fill(store, [point])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="another process uses it"):
            store.add_points([point_of(2)])
        other.execute("ROLLBACK")
        reading = other.execute("SELECT * FROM runs")
        reading.fetchone()
        with pytest.raises(OSError, match="another process uses it"):  # COMMIT fails, and is taken back
            store.add_points([point_of(2)])
        reading.close()
        other.close()
        store.add_points([point_of(3)])
        assert {p.hash for p in store.points()} == {point_of(1).hash, point_of(3).hash}


def test_a_change_that_a_killed_writer_left_half_done_is_taken_back(tmp_path, path, monkeypatch):
    monkeypatch.setattr("theory.store_files.on_network", lambda _: True)  # no log: a rollback journal
    with Store.write(tmp_path / "living.db") as store:
        runs = fill(store, [point_of(1)])
        store.connection.execute("PRAGMA cache_size = 1")
        store.connection.execute("BEGIN IMMEDIATE")
        store.connection.execute("DELETE FROM runs")
        store.connection.executemany("INSERT INTO environments VALUES (?, ?)", [(i, "x" * 9999) for i in range(99)])
        for end in ("", "-journal"):
            path.with_name(path.name + end).write_bytes((tmp_path / f"living.db{end}").read_bytes())
        store.connection.execute("ROLLBACK")
    with pytest.raises(OSError, match="resume takes that back"):
        Store.read(path)
    with Store.write(path) as store:
        assert sorted(store.runs(point_of(1).hash)) == runs
    assert sound(path)


# Disks.


def full_until(store, point, room):
    """Adds until the disk is full, makes room, goes on; the runs that were acknowledged."""
    kept = []

    def add(batches):
        for _ in range(batches):
            batch = [run_of(point, len(kept) + k, path=300) for k in range(BATCH)]
            store.add(batch, "{}")
            kept.extend(batch)

    with pytest.raises(StoreFullError, match="all that was stored before is there"):
        add(10**5)
    assert len(kept) > 10 * BATCH
    assert store.runs(point.hash) == kept
    room()
    add(1)
    return kept


def test_a_full_disk_costs_nothing_that_was_acknowledged(mount):
    disk = mount("size=2m")
    ballast, path, point = disk / "ballast", disk / "runs.db", point_of(1, 10**6)
    ballast.write_bytes(bytes(10**6))
    with Store.write(path) as store:
        store.add_points([point])
        kept = full_until(store, point, ballast.unlink)
    with Store.read(path) as store:
        assert store.runs(point.hash) == kept
    assert sound(path)

    command = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False)
    assert command.returncode == 2
    assert command.stderr.count("\n") == 1
    assert str(path) in command.stderr
    assert "full" in command.stderr
    with Store.read(path) as store:
        assert store.runs(point.hash)[: len(kept)] == kept
    with pytest.raises(OSError, match="full"):  # not even room for a lock's text, or a new file
        Store.write(disk / "new.db").close()


def test_a_file_at_its_limit_costs_nothing_that_was_acknowledged(path):
    point = point_of(1, 10**6)
    with Store.write(path) as store:
        store.add_points([point])
        store.connection.execute("PRAGMA max_page_count = 40")
        kept = full_until(store, point, lambda: store.connection.execute("PRAGMA max_page_count = 1000"))
    with Store.read(path) as store:
        assert store.runs(point.hash) == kept


def test_reading_from_a_disk_that_is_read_only(mount):
    disk = mount("size=4m")
    points = [point_of(1)]
    for name, outlived in (("clean.db", False), ("outlived.db", True)):
        with Store.write(disk / name) as store:
            fill(store, points)
            reader = Store.read(disk / name)
            if not outlived:
                reader.close()
        reader.close()
    for rest in (*disk.glob("*-shm"), *disk.glob("*-wal")):
        rest.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for name in ("clean.db", "outlived.db"):
        with Store.read(disk / name) as store:
            assert len(store.runs(points[0].hash)) == 10
        with pytest.raises(OSError, match="Read-only"):
            Store.write(disk / name)
