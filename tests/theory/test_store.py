"""The store against plain sets and lists: what goes in comes out, and what is missing is counted right.

Would falsify: that a split among shards is a partition whatever is there; that the checksum sees results alone; that
a file of another kind is refused and left as it is.
Nothing here is random beyond hypothesis' search; no false alarms.
"""

import json
import random
import sqlite3
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.theory.store_examples import PROGRAM, fill, point_of, run_of
from theory.errors import InputError
from theory.store import DIVERGED, FAILED, FINISHED, KILLED, Run, Store, hash_of, holder_of, number_of
from theory.store_files import APPLICATION, on_network


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


def test_what_was_added_vs_what_is_read(path):
    points = [point_of(i) for i in range(3)]
    with Store.write(path, "python -m x", '{"a":1}') as store:
        runs = fill(store, points, path=7)
        assert holder_of(path) is not None
        with Store.read(path) as reader:  # while it is written to
            assert sorted(run for p in points for run in reader.runs(p.hash)) == runs
    with Store.read(path) as store:
        assert sorted(store.points(PROGRAM), key=lambda p: p.config) == sorted(points, key=lambda p: p.config)
        assert list(store.points("another")) == []
        assert store.point(points[1].hash) == points[1]
        tally = store.tally()
    assert (tally.points, tally.wanted, tally.done, tally.statuses) == (3, 30, 30, {FINISHED: 30})
    assert tally.seconds == pytest.approx(sum(run.seconds for run in runs), rel=1e-12)
    assert tally.censored == sum(run.censored for run in runs)
    assert holder_of(path) is None
    assert sorted(file.name for file in path.parent.iterdir()) == ["runs.db", "runs.db.lock"]  # no log is left


def test_points_wanted_twice_grow_and_never_shrink(path):
    with Store.write(path) as store:
        for runs in (4, 9, 2):
            store.add_points([point_of(1, runs)])
        assert [p.runs for p in store.points()] == [9]
        store.add([run_of(point_of(1), r) for r in range(4)], "{}")
        assert [todo for _, todo in store.missing(PROGRAM)] == [[4, 5, 6, 7, 8]]
        assert store.left(PROGRAM) == (5, 2.5)


def test_a_good_run_stays_and_a_failed_one_is_replaced_with_its_trajectory(path):
    point = point_of(1)
    with Store.write(path) as store:
        store.add_points([point])
        for first, second, stays in [
            (FINISHED, FINISHED, 0), (DIVERGED, FINISHED, 0), (FAILED, FINISHED, 1), (KILLED, DIVERGED, 1),
            (FAILED, KILLED, 1),
        ]:  # fmt: skip
            replica = store.tally().done
            pair = [run_of(point, replica, first, path=5), run_of(point, replica, second, path=9, salt=1)]
            for run in pair:
                store.add([run], "{}")
            assert store.runs(point.hash)[replica] == pair[stays]
        assert [todo for _, todo in store.missing(PROGRAM, again=True)] == [[4, 5, 6, 7, 8, 9]]
        bare = run_of(point, 7)
        store.add([bare], "{}")
        store.add([run_of(point, 7, path=5)], "{}")  # a trajectory does not come to a run that has none
        assert store.runs(point.hash)[5] == bare


def test_a_batch_is_kept_as_a_whole_or_not_at_all(path):
    point = point_of(1)
    with Store.write(path) as store:
        store.add_points([point])
        store.add([run_of(point, 0)], "{}")
        with pytest.raises(InputError, match="hexadecimal"):
            store.add([run_of(point, 1), run_of(point, 2)._replace(point="none")], "{}")
        with pytest.raises(sqlite3.IntegrityError):
            store.add([run_of(point, 1), run_of(point, 2)._replace(result=None)], "{}")
        store.add([run_of(point, 3)], "{}")
        assert [run.replica for run in store.runs(point.hash)] == [0, 3]


@settings(max_examples=25, deadline=None)
@given(
    shards=st.integers(1, 7),
    wanted=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    there=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 14)), max_size=30),
    failed=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 14)), max_size=30),
)
def test_missing_of_all_shards_vs_sets(tmp_path_factory, shards, wanted, there, failed):
    points = [point_of(i, runs) for i, runs in enumerate(wanted)]
    with Store.write(tmp_path_factory.mktemp("s") / "runs.db") as store:
        store.add_points(points)
        for keys, status in ((there, FINISHED), (failed - there, FAILED)):
            store.add([run_of(points[i], r, status) for i, r in keys if i < len(points)], "{}")
        for again, done in ((False, there | failed), (True, there)):
            expected = {(p.hash, r) for i, p in enumerate(points) for r in range(p.runs) if (i, r) not in done}
            found = []
            for shard in range(shards):
                part = [(p.hash, r) for p, todo in store.missing(PROGRAM, (shard, shards), again) for r in todo]
                assert all((number_of(h) + r) % shards == shard for h, r in part)
                assert store.left(PROGRAM, (shard, shards), again) == (len(part), 0.5 * len(part))
                found += part
            assert len(found) == len(set(found))
            assert set(found) == expected


def test_missing_crosses_pages_and_windows(path, monkeypatch):
    monkeypatch.setattr("theory.store.PAGE", 3)
    monkeypatch.setattr("theory.store.WINDOW", 4)
    points = [point_of(i, 11) for i in range(10)]
    with Store.write(path) as store:
        store.add_points(points)
        store.add([run_of(p, r) for p in points for r in (0, 5, 10)], "{}")
        todo: dict[str, list[int]] = {}
        for point, replicas in store.missing(PROGRAM):
            assert len(replicas) <= 4
            todo.setdefault(point.hash, []).extend(replicas)
    assert list(todo) == sorted(p.hash for p in points)
    assert all(replicas == [1, 2, 3, 4, 6, 7, 8, 9] for replicas in todo.values())


def test_checksum_knows_results_alone(path):
    points = [point_of(i, 4) for i in range(3)]
    runs = [run_of(p, r, path=5) for p in points for r in range(4)]

    def checksum(those, environment="{}"):
        path.unlink(missing_ok=True)
        with Store.write(path) as store:
            store.add_points(points)
            store.add(those, environment)
            return store.checksum()

    reference = checksum(runs)
    shuffled = random.Random(2).sample(runs, len(runs))
    assert checksum(shuffled, '{"host":"there"}') == reference
    assert checksum([run._replace(seconds=9.0) for run in runs]) == reference
    packed = zlib.compress(zlib.decompress(runs[0].trajectory), 0)
    assert checksum([runs[0]._replace(trajectory=packed), *runs[1:]]) == reference
    other = runs[1].trajectory
    changes = ({"status": DIVERGED}, {"result": "[1]"}, {"samples": 1.0}, {"trajectory": other}, {"trajectory": None})
    assert len({reference, *(checksum([runs[0]._replace(**change), *runs[1:]]) for change in changes)}) == 6


def test_hash_vs_number():
    assert hash_of(number_of("00000000000000f")) == "00000000000000f"
    for word in ("", "abc", "g" * 15, "A" * 15, "0" * 16):
        with pytest.raises(InputError, match="hexadecimal"):
            number_of(word)


# Files that are no stores.


def made(path, *statements):
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


FOREIGN = {
    "text": (lambda path: path.write_text("a,b\n" * 999), "not a database"),
    "another program": (lambda path: made(path, "CREATE TABLE t (x)", "PRAGMA application_id = 7"), "something else"),
    "schema 0": (lambda path: made(path, "CREATE TABLE t (x)", f"PRAGMA application_id = {APPLICATION}"), "of schema 0"),
    "schema 2": (
        lambda path: made(path, "CREATE TABLE t (x)", f"PRAGMA application_id = {APPLICATION}", "PRAGMA user_version = 2"),
        "of schema 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_refused_and_left_alone(path, kind):
    make, message = FOREIGN[kind]
    make(path)
    before = path.read_bytes()
    for opened in (Store.write, Store.read):
        with pytest.raises(InputError, match=message) as caught:
            opened(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert holder_of(path) is None
    assert not [file for file in path.parent.iterdir() if file.name not in ("runs.db", "runs.db.lock")]


def test_folders_and_absent_files_are_refused_and_an_empty_file_is_new(tmp_path, path):
    for opened in (Store.write, Store.read):
        with pytest.raises(InputError):
            opened(tmp_path)
    with pytest.raises(InputError, match="an existing directory"):
        Store.write(tmp_path / "none" / "runs.db")
    with pytest.raises(InputError, match="a store that is there"):
        Store.read(path)
    path.touch()
    with pytest.raises(InputError):
        Store.read(path)
    with Store.write(path) as store:
        assert store.tally().done == 0


# Where WAL does not work.


@pytest.mark.parametrize(
    ("place", "network"),
    [
        ("/home/me/x.db", True),
        ("/home/me/scratch/x.db", False),
        ("/home/me/scratch/far/x.db", True),
        ("/homework/x.db", False),
        ("/media/two words/x.db", True),
        ("/twice/x.db", False),
        ("/x.db", False),
    ],
)
def test_the_longest_mount_point_decides(tmp_path, place, network):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/vda / ext4 rw 0 0\n\nserver:/home /home nfs4 rw 0 0\n/dev/vdb /home/me/scratch xfs rw 0 0\n"
        "lustre@tcp:/a /home/me/scratch/far lustre rw 0 0\n//win/share /media/two\\040words cifs rw 0 0\n"
        "server:/b /twice nfs rw 0 0\n/dev/vdc /twice ext4 rw 0 0\n"
    )
    assert on_network(tmp_path.__class__(place), mounts) is network
    assert not on_network(tmp_path, tmp_path / "no such table")


def test_a_rollback_journal_vs_a_log(tmp_path, path, monkeypatch):
    points = [point_of(1)]
    with Store.write(path) as store:
        fill(store, points)
        reference = store.checksum()
    monkeypatch.setattr("theory.store_files.on_network", lambda _: True)
    with Store.write(tmp_path / "far.db") as store:
        assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert store.connection.execute("PRAGMA synchronous").fetchone() == (2,)
        fill(store, points)
        assert not (tmp_path / "far.db-wal").exists()
        with Store.read(tmp_path / "far.db") as reader:
            assert reader.checksum() == reference


def test_all_values_come_back_as_they_went(path):
    odd = Run(point_of(1).hash, 0, FAILED, "[]", False, 1e300, 5.0, "Ω 'quoted'\n\0 line two", None)
    with Store.write(path) as store:
        store.add([odd], '{"ß":1}')
        assert store.runs(odd.point) == [odd]


def test_numbers_in_a_result_survive_json(path):
    point = point_of(1)
    run = run_of(point, 0)._replace(result=json.dumps([0.1 + 0.2, None, 1e300]), trajectory=zlib.compress(b"abcd"))
    with Store.write(path) as store:
        store.add([run], "{}")
        assert json.loads(store.runs(point.hash)[0].result) == [0.30000000000000004, None, 1e300]
