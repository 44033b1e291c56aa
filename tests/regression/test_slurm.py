"""The templates of docs/cluster.md on a SLURM of our own: a job array and dask-jobqueue compute what one machine computes.

The scripts are read out of the document and run with less of everything. Would be falsified by: a run that is lost, or
different, when tasks are requeued or cancelled in the middle; a merge that is not idempotent; a template that does not run.
Results are compared bit for bit, so there is no false alarm. Skipped, with the reason, where no SLURM starts.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sims.points import PROGRAM
from tests.regression.slurm_node import NoSlurmError, SlurmNode
from theory.store import Store

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "cluster.md").read_text()
GRID = """
[model]
corr = [0.0, 0.5]
[run]
view = "chain"
dim = [20, 40, 60]
lr = 0.05
samples = 200000
records = 20
runs = 40
"""
POINTS, RUNS, TASKS = 6, 240, 3


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    python = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    folder = tmp_path_factory.mktemp("slurm")
    try:
        with SlurmNode(folder, python) as node:
            yield node
    except NoSlurmError as error:
        pytest.skip(str(error))
    assert not node.processes(), "processes are left"


@pytest.fixture(scope="module")
def reference(node, tmp_path_factory):
    """Checksum of the grid run by this machine alone."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "grid.toml").write_text(GRID)
    node.call("python", "-m", "sims.sweep", "run", "grid.toml", "--store", "results", "--quiet", cwd=folder)
    return checksum(folder)


@pytest.fixture
def folder(tmp_path):
    """Where the scripts of the document lie beside a grid; the array has three tasks of one core."""
    (tmp_path / "grid.toml").write_text(GRID)
    array = template("array.sh", {
        "0-19": f"0-{TASKS - 1}", "/20": f"/{TASKS}", "--cpus-per-task=4": "--cpus-per-task=1",
        ". venv/bin/activate": f"export PATH={Path(sys.executable).parent}:$PATH",
    })  # fmt: skip
    (tmp_path / "array.sh").write_text(array)
    return tmp_path


def template(name, changes):
    """The block of the document that follows the name of a file."""
    text = re.search(rf"^`{re.escape(name)}`.*?\n```\w+\n(.*?)^```", DOCUMENT, re.S | re.M)[1]
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old} in {name}"
        text = text.replace(old, new)
    return text


def commands(start):
    """The block of shell commands that begins with a line."""
    (text,) = re.findall(rf"^```sh\n({re.escape(start)}.*?)^```", DOCUMENT, re.S | re.M)
    return text


def checksum(folder):
    with Store.read(folder / "results" / "runs.db") as store:
        tally = store.tally()
        assert tally.statuses == {"finished": RUNS}
        assert tally.points == POINTS
        return store.checksum()


def done(folder, task):
    """Runs in the file of an array task."""
    file = folder / "results" / f"runs-{task}-of-{TASKS}.db"
    if not file.exists() or file.stat().st_size == 0:
        return 0
    with Store.read(file) as store:
        return store.tally().done


def left(folder, task):
    with Store.read(folder / "results" / f"runs-{task}-of-{TASKS}.db") as store:
        return store.left(PROGRAM, (task, TASKS))[0]


def test_array_vs_local(node, folder, reference):
    submit = commands("job=$(sbatch --parsable array.sh)\nsbatch --dependency=afterany")
    merge = node.call("bash", "-ec", submit, cwd=folder).split()[-1]
    node.wait(merge)
    assert f"{TASKS} files joined: {RUNS} runs are new" in (folder / "merge.log").read_text()
    assert checksum(folder) == reference


def test_array_requeued_and_cancelled_vs_local(node, folder, reference):
    """Task 0 is requeued and finishes by itself; task 1 is cancelled and finishes when submitted again."""
    job = node.call("sbatch", "--parsable", "array.sh", cwd=folder)
    for task, stop in ((0, ["scontrol", "requeue"]), (1, ["scancel"])):
        until(lambda task=task: done(folder, task))
        node.call(*stop, f"{job}_{task}")
    for task in (0, 1):
        log = folder / f"sweep-{task}.log"
        until(lambda log=log: "interrupted; go on with" in log.read_text(), log.read_text)
    assert left(folder, 0) > 0, "task 0 had finished"
    assert left(folder, 1) > 0, "task 1 had finished"
    until(lambda: hasten(node, f"{job}_0"))
    node.wait(job)
    assert [left(folder, task) == 0 for task in range(TASKS)] == [True, False, True]
    node.wait(node.call("sbatch", "--parsable", "array.sh", cwd=folder))
    for new, known in ((RUNS, 0), (0, RUNS)):
        merged = node.call("python", "-m", "sims.sweep", "merge", "--store", "results", cwd=folder)
        assert merged == f"{TASKS} files joined: {new} runs are new, {known} were known, 0 contradict what was there"
        assert checksum(folder) == reference


@pytest.mark.parametrize("executor", ["cluster.scheduler_address", "Client(cluster).get_executor()"])
def test_dask_jobqueue_vs_local(node, folder, reference, executor):
    pytest.importorskip("dask_jobqueue")
    script = template("elastic.py", {
        "cores=4": "cores=1", "processes=4": "processes=1", '"4GB"': '"1GB"', '"ib0"': '"lo"',
        "maximum_jobs=20": "maximum_jobs=2", "executor=cluster.scheduler_address": f"executor={executor}",
    })  # fmt: skip
    (folder / "elastic.py").write_text(f"from distributed import Client\n{script}")
    assert node.call("python", "elastic.py", cwd=folder).split()[:2] == ["dim", "20"]
    assert checksum(folder) == reference


def hasten(node, task):
    """SLURM waits two minutes before it runs a requeued task again; whether it has been told, and has begun."""
    node.answer("scontrol", "update", f"jobid={task}", "starttime=now")
    return node.call("squeue", "--noheader", f"--jobs={task}", "--format=%T") == "RUNNING"


def until(true, words=lambda: "", seconds=30.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, words()
        time.sleep(0.02)


def test_skipped_with_its_reason_where_there_is_no_slurm(tmp_path):
    """On another machine this file tests nothing and says why in one sentence."""
    probe = f"""
import tests.regression.slurm_node as slurm
slurm.SBIN = "/nowhere"
try:
    slurm.SlurmNode(slurm.Path({str(tmp_path)!r}), {{"PATH": "/nowhere"}})
except slurm.NoSlurmError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said == "slurmctld is not installed (Debian: apt-get install slurm-wlm)\n"
