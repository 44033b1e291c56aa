"""Salvage against what is known to lie on intact pages, and pages read by hand against SQLite.

Would falsify: that salvage brings every row through that does not lie on a damaged page, and none that is not right.
Places of damage come from SEED; what is asserted holds for each of them, so there are no false alarms.
"""

import os
import sqlite3
from random import Random

import pytest

from tests.conftest import SEED
from tests.theory.store_examples import PROGRAM, fill, point_of, run_of
from theory.errors import InputError
from theory.sqlite_pages import Pages
from theory.store import Store
from theory.store_files import PAGE_BYTES
from theory.store_salvage import Salvaged, salvage


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


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
    with Store.write(tmp_path / "living.db") as store:
        store.add_points([point])
        for replica in range(100):
            store.add([run_of(point, replica, path=300)], "{}")
        for end in ("", "-wal"):  # as a killed writer leaves it
            path.with_name(path.name + end).write_bytes((tmp_path / f"living.db{end}").read_bytes())
    in_file = salvage_alone(path, tmp_path)
    overwrite(path, 0, b"\xff" * PAGE_BYTES)
    report = salvage(path, tmp_path / "saved.db")
    assert report == Salvaged(1, 100, 100, 0, 0, 0)
    assert in_file < 100
    with Store.read(tmp_path / "saved.db") as store:
        assert store.runs(point.hash) == [run_of(point, r, path=300) for r in range(100)]


def salvage_alone(path, folder):
    """Runs that the file without its log would give."""
    alone = folder / "alone.db"
    alone.write_bytes(path.read_bytes())
    try:
        return salvage(alone, folder / "alone.saved.db").runs
    except InputError:
        return 0


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
