"""The store against what happens to it: killed writers, full disks, second writers, damaged files.

Would falsify: that whatever ``add`` returned from survives kill -9 and a full disk; that a lock lives exactly as long as its
holder; that salvage brings every row through that does not lie on a damaged page. Moments of kills and places of damage are
random (SEED for the places); what is asserted holds for each of them, so there are no false alarms.
"""

import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from random import Random

import pytest

from tests.conftest import SEED
from tests.theory.store_examples import PROGRAM, fill, point_of, run_of
from theory.errors import InputError
from theory.sqlite_pages import Pages
from theory.store import Store, holder_of
from theory.store_files import PAGE_BYTES, StoreFullError
from theory.store_salvage import Salvaged, salvage

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


# Disks.


def full_until(store, point, room):
    """Adds until the disk is full, makes room, goes on; the runs that were acknowledged."""
    kept = []
    for start in range(0, 10**5, BATCH):
        batch = [run_of(point, start + k, path=300) for k in range(BATCH)]
        try:
            store.add(batch, "{}")
        except StoreFullError as error:
            assert "all that was stored before is there" in str(error)
            break
        kept += batch
    assert len(kept) > 10 * BATCH
    assert store.runs(point.hash) == kept
    room()
    store.add(batch, "{}")
    return kept + batch


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


# Damage.


def stored(path, points=8, runs=150, values=100):
    """Runs of a store of some dozen pages, its checksum."""
    with Store.write(path) as store:
        kept = fill(store, [point_of(i, runs, 2000) for i in range(points)], values)
        return kept, store.checksum()


def overwrite(path, page, data):
    with path.open("r+b") as file:
        file.seek(page * PAGE_BYTES)
        file.write(data)


def pages_with(file, text):
    """Pages on which a text lies; pages of the end and the beginning of one that lies across."""
    data, found, at = file, set(), -1
    while (at := data.find(text, at + 1)) >= 0:
        found |= {at // PAGE_BYTES, (at + len(text) - 1) // PAGE_BYTES}
    return found


@pytest.mark.parametrize("what", ["noise", "zeros", "cut", "first page"])
@pytest.mark.parametrize("trial", range(2))
def test_what_salvage_keeps_vs_what_lies_on_intact_pages(tmp_path, path, what, trial):
    chance = Random(f"{SEED} {what} {trial}")
    kept, _ = stored(path, values=0)
    before = path.read_bytes()
    pages = len(before) // PAGE_BYTES
    hit = {0} if what == "first page" else set(chance.sample(range(1, pages), 4))
    hit = set(range(pages // 2 + min(hit) // 2, pages)) if what == "cut" else hit
    for page in hit:
        overwrite(path, page, bytes(PAGE_BYTES) if what == "zeros" else chance.randbytes(PAGE_BYTES))
    if what == "cut":
        os.truncate(path, min(hit) * PAGE_BYTES)
    there = [run for run in kept if pages_with(before, run.result.encode()) - hit]
    points = {p.hash for p in map(point_of_store, range(8)) if pages_with(before, p.config.encode()) - hit}
    damaged = path.read_bytes()
    with pytest.raises((InputError, OSError)):
        Store.write(path).close()
    report = salvage(path, tmp_path / "saved.db")
    assert path.read_bytes() == damaged
    with Store.read(tmp_path / "saved.db") as store:
        found = sorted(run for p in map(point_of_store, range(8)) for run in store.runs(p.hash))
        assert {p.hash for p in store.points()} == points
    assert found == there
    orphans = sum(run.point not in points for run in there)
    assert report.runs == len(there)
    assert (report.lost, report.orphans) == (150 * len(points) - len(there) + orphans, orphans)
    assert len(there) > 0


def point_of_store(i):
    return point_of(i, 150, 2000)


def test_salvage_and_run_again_vs_never_damaged(tmp_path, path):
    kept, checksum = stored(path, values=800)  # trajectories of 3 kB
    chance, pages = Random(SEED), path.stat().st_size // PAGE_BYTES
    for page in chance.sample(range(pages), pages // 4):
        overwrite(path, page, chance.randbytes(PAGE_BYTES))
    report = salvage(path, tmp_path / "saved.db")
    assert 0 < report.runs == report.trajectories < len(kept)
    with Store.write(tmp_path / "saved.db") as store:
        points = [point_of_store(i) for i in range(8)]
        store.add_points(points)
        again = [(p, r) for p, todo in store.missing(PROGRAM) for r in todo]
        assert len(again) == len(kept) - report.runs
        store.add([run_of(p, r, path=800) for p, r in again], "{}")
        assert store.checksum() == checksum


def test_salvage_of_an_intact_store_vs_sqlite(tmp_path, path):
    with Store.write(path, "python -m x", '{"host":"here"}') as store:
        fill(store, [point_of(i, 40, 40_000 * (i == 3)) for i in range(5)], path=6000)  # 24 kB: rows go on elsewhere
        point = point_of(4)
        store.add([run_of(point, 100, "failed"), run_of(point, 101, "failed")], "{}")
        store.add([run_of(point, 101)._replace(samples=7.0)], "{}")
        reference = store.checksum()
    assert salvage(path, tmp_path / "saved.db") == Salvaged(5, 202 - 1, 200, 0, 0, 0)
    tables = ("points", "runs", "trajectories", "environments", "commands")
    with Store.read(path) as a, Store.read(tmp_path / "saved.db") as b:
        for table in tables:
            query = f"SELECT * FROM {table} ORDER BY 1, 2"
            there = a.connection.execute(query).fetchall()
            if table == "runs":
                there = [row for row in there if (row[1]) != 101]
            assert b.connection.execute(query).fetchall() == there
        assert reference == a.checksum()


def test_one_flipped_bit_is_seen_and_costs_one_row(tmp_path, path):
    kept, _ = stored(path, values=50)
    before = path.read_bytes()
    for name, text in (("result", kept[7].result.encode()), ("trajectory", kept[7].trajectory), ("config", b'"i":3')):
        at = before.index(text) + 4
        path.write_bytes(before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :])
        if name != "config":
            with (
                Store.write(path) as store,
                pytest.raises(InputError, match=f"{kept[7].point}:{kept[7].replica} .*salvage"),
            ):
                store.runs(kept[7].point)
        report = salvage(path, tmp_path / f"{name}.db")
        assert report.rejected == 1
        runs = len(kept) if name == "config" else len(kept) - 1
        assert (report.points, report.runs, report.trajectories) == (8 - (name == "config"), runs, runs)


def test_salvage_takes_what_is_in_the_log_alone(tmp_path, path):
    point = point_of(1, 100)
    writer = python(WRITER, path, "here")
    acknowledged = [writer.stdout.readline() for _ in range(30)]
    kill(writer)
    assert path.with_name("runs.db-wal").stat().st_size > 0
    overwrite(path, 0, b"\xff" * PAGE_BYTES)
    report = salvage(path, tmp_path / "saved.db")
    assert report.runs >= int(acknowledged[-1])
    with Store.read(tmp_path / "saved.db") as store:
        found = store.runs(point.hash) or store.runs(point_of(1, 10**6).hash)
    assert found == [run_of(point_of(1), r, path=300) for r in range(report.runs)]


def test_salvage_refuses_what_it_cannot_do(tmp_path, path):
    target = tmp_path / "saved.db"
    for content in (b"", b"text" * 9999, bytes(10**5), Random(SEED).randbytes(10**5)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="nothing can be salvaged"):
            salvage(path, target)
        assert not target.exists()
    path.unlink()
    with Store.write(path) as store:
        fill(store, [point_of(1)])
        with pytest.raises(InputError, match="held by process"):
            salvage(path, target)
    target.touch()
    with pytest.raises(InputError, match="a new file"):
        salvage(path, target)


@pytest.mark.parametrize("log", [False, True])
def test_rows_read_from_pages_vs_rows_read_by_sqlite(path, log):
    chance = Random(SEED)
    kinds = (
        lambda: None,
        lambda: chance.getrandbits(chance.randrange(1, 63)),
        lambda: -chance.getrandbits(chance.randrange(1, 63)),
        lambda: chance.gauss(0, 1e9),
        lambda: chance.choice("aΩ") * chance.randrange(200),
        lambda: chance.randbytes(chance.choice((0, 10, 4_000, 4_100, 16_300, 16_400, 90_000)) + chance.randrange(70)),
    )
    rows = [(i, chance.choice(kinds)(), chance.choice(kinds)()) for i in range(600)]
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute(f"PRAGMA journal_mode = {'WAL' if log else 'DELETE'}")
    connection.execute("CREATE TABLE a (x, y, z)")
    connection.execute("CREATE TABLE b (x PRIMARY KEY, y, z) WITHOUT ROWID")
    for table in "ab":
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
    found = list(Pages(path, PAGE_BYTES).rows())
    connection.close()
    for rowids in (True, False):
        values = [
            row.values for row in found if (row.rowid is not None) == rowids and row.values and len(row.values) == 3
        ]
        assert set(map(repr, values)) == set(map(repr, rows))
        assert log or len(values) == len(rows)


def test_numbers_in_a_result_survive_json(path):
    point = point_of(1)
    run = run_of(point, 0)._replace(result=json.dumps([0.1 + 0.2, None, 1e300]), trajectory=zlib.compress(b"abcd"))
    with Store.write(path) as store:
        store.add([run], "{}")
        assert json.loads(store.runs(point.hash)[0].result) == [0.30000000000000004, None, 1e300]
