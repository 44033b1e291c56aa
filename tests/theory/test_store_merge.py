"""Joined files against one store that ran everything.

Would falsify: that joining is idempotent, in any order and while the sources grow; that it never overwrites a result, and
reports what contradicts one. Nothing is random; no false alarms.
"""

import zlib

import pytest

from tests.theory.store_examples import PROGRAM, fill, point_of, run_of
from theory.errors import InputError
from theory.store import DIVERGED, FAILED, FINISHED, KILLED, Store
from theory.store_merge import Merged, merge


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


def content(store):
    """Everything but times of commands."""
    tables = ("points", "runs", "trajectories", "environments")
    rows = {table: store.connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}
    return rows | {"commands": store.connection.execute("SELECT command FROM commands ORDER BY 1").fetchall()}


def shards_of(folder, n, points, path=0):
    sources = [folder / f"runs-{i}-of-{n}.db" for i in range(n)]
    for i, source in enumerate(sources):
        with Store.write(source, f"task {i}", f'{{"host":{i}}}') as store:
            store.add_points(points)
            runs = [run_of(p, r, path=path) for p, todo in store.missing(PROGRAM, (i, n)) for r in todo]
            store.add(runs, f'{{"host":{i}}}')
    return sources


def test_merge_of_shards_vs_one_store_and_twice_vs_once(tmp_path, path):
    points = [point_of(i, 23) for i in range(5)]
    sources = shards_of(tmp_path, 12, points, path=6)  # more than can be attached at once
    with Store.write(tmp_path / "alone.db") as alone:
        fill(alone, points, path=6)
        reference = alone.checksum()
    with Store.write(path) as store:
        assert merge(store, sources) == Merged(12, 115, 0, ())
        assert store.checksum() == reference
        once = content(store)
        assert merge(store, sources[::-1]) == Merged(12, 0, 115, ())
        assert content(store) == once
        assert store.connection.execute("PRAGMA cache_size").fetchone() == (-65536,)
        assert [len(store.runs(p.hash)) for p in points] == [23] * 5  # checksums of rows hold


def test_merge_keeps_the_larger_number_of_runs(tmp_path, path):
    for name, runs in (("a", 3), ("b", 8)):
        with Store.write(tmp_path / name) as source:
            source.add_points([point_of(1, runs)])
    with Store.write(path) as store:
        store.add_points([point_of(1, 5)])
        merge(store, [tmp_path / "b", tmp_path / "a"])
        assert [p.runs for p in store.points()] == [8]


def test_merge_reports_contradictions_and_keeps_the_target(tmp_path, path):
    point = point_of(1)
    ours = [run_of(point, r, path=4) for r in range(8)]
    theirs = [
        ours[0]._replace(seconds=7.0),
        ours[1]._replace(result="[1]"),
        ours[2]._replace(samples=1.0),
        ours[3]._replace(trajectory=ours[0].trajectory),
        ours[4]._replace(trajectory=None),
        ours[5]._replace(status=DIVERGED),
        ours[6]._replace(trajectory=zlib.compress(zlib.decompress(ours[6].trajectory), 0)),
        run_of(point, 7, FAILED),
    ]
    source = tmp_path / "other.db"
    for file, runs in ((path, ours), (source, theirs)):
        with Store.write(file) as store:
            store.add_points([point])
            store.add(runs, "{}")
    with Store.write(path) as store:
        merged = merge(store, [source])
        assert merged == Merged(1, 0, 8, tuple(f"{point.hash}:{r} in {source}" for r in (1, 2, 3, 4, 5)))
        assert store.runs(point.hash) == ours


def test_merge_replaces_failures_by_good_runs_alone(tmp_path, path):
    point = point_of(1)
    ours = [run_of(point, r, status) for r, status in enumerate((FAILED, KILLED, FAILED))]
    theirs = [run_of(point, r, status, path=3) for r, status in enumerate((FINISHED, DIVERGED, KILLED))]
    for file, runs in ((path, ours), (tmp_path / "b", theirs)):
        with Store.write(file) as store:
            store.add(runs, "{}")
    with Store.write(path) as store:
        assert merge(store, [tmp_path / "b"]) == Merged(1, 2, 1, ())
        assert merge(store, [tmp_path / "b"]) == Merged(1, 0, 3, ())
        assert store.runs(point.hash) == [theirs[0], theirs[1], ours[2]]


def test_merge_refuses_a_bad_source_before_it_begins(tmp_path, path):
    [good] = shards_of(tmp_path, 1, [point_of(1)])
    bad = tmp_path / "bad.db"
    bad.write_text("text" * 999)
    with Store.write(path) as store:
        for sources, message in (
            ([good, bad], "bad.db"),
            ([good, tmp_path / "none.db"], "none.db"),
            ([path], "than the target"),
        ):
            with pytest.raises(InputError, match=message):
                merge(store, sources)
        assert store.tally().done == 0


def test_merge_takes_back_what_came_with_a_damaged_source(tmp_path, path):
    points = [point_of(i, 300) for i in range(4)]
    good, bad = shards_of(tmp_path, 2, points)
    damage = bytearray(bad.read_bytes())
    damage[-16384:] = b"\x55" * 16384
    bad.write_bytes(damage)
    with Store.write(path) as store:
        with pytest.raises(InputError, match=r"runs-1-of-2\.db .*undamaged"):
            merge(store, [good, bad])
        assert store.tally().done == 0
        assert merge(store, [good]).added == 600
        assert [row[1] for row in store.connection.execute("PRAGMA database_list")] == ["main"]


def test_merge_while_a_source_is_written_to(tmp_path, path):
    point = point_of(1)
    with Store.write(tmp_path / "a.db") as source, Store.write(path) as store:
        source.add_points([point])
        for replica in range(5):
            source.add([run_of(point, replica)], "{}")
            assert merge(store, [tmp_path / "a.db"]) == Merged(1, 1, replica, ())
