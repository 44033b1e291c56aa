"""What workers of the sweep tests run: a number from (hash, replica), with misfortunes on the way; nothing heavy is imported.

As a program it is a driver to be killed: ``python -m tests.regression.sweep_work STORE WORK [WORKERS|ADDRESS]`` prints its
outcome as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from warnings import catch_warnings, simplefilter

from sims import cluster
from sims.cluster import Engine, dask, local
from sims.drive import drive
from theory.provenance import digest
from theory.store import FINISHED, Point, Run, Store

PROGRAM = "tests.sweep"
FATAL, RAISING = 3, 5  # values of ``k`` whose replica 1 kills its worker, or raises


def toss(config, replica):
    point = digest(config)
    value = random.Random(f"{point}:{replica}").random()
    return Run(point, replica, FINISHED, json.dumps([value]), value > 0.75, 100 * value, 1e-4)


def plain(units):
    return "{}", [toss(unit.config, replica) for unit in units for replica in unit.replicas]


def slow(units):
    """2 ms a run."""
    time.sleep(0.002 * sum(len(unit.replicas) for unit in units))
    environment, runs = plain(units)
    return environment, [run._replace(seconds=0.002) for run in runs]


def fatal(units):
    """Replica 1 of a point kills whoever runs it; the place where it happened is noted."""
    for unit in units:
        values = json.loads(unit.config)
        if values["k"] == FATAL and 1 in unit.replicas:
            with Path(values["notes"]).open("a") as notes:
                notes.write(f"{sum(len(u.replicas) for u in units)}\n")
            os.kill(os.getpid(), signal.SIGKILL)
    return plain(units)


def fatal_once(units):
    """The first worker to come here dies in the middle of a batch."""
    for unit in units:
        notes = Path(json.loads(unit.config)["notes"])
        try:
            notes.touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(units)


def fatal_within_result(units):
    """The first worker to come here dies while it hands over 64 MiB, of which the length has arrived."""
    notes = Path(json.loads(units[0].config)["notes"])
    if notes.exists():
        return plain(units)
    notes.touch()

    def written():
        return Path("/proc/self/io").read_text().split()[3]

    def die():
        while written() == before:
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    before = written()
    Thread(target=die).start()
    environment, runs = plain(units)
    return environment, [runs[0]._replace(trajectory=bytes(2**26)), *runs[1:]]


def raising(units):
    for unit in units:
        if json.loads(unit.config)["k"] == RAISING and 1 in unit.replicas:
            raise ZeroDivisionError("no such luck")
    return plain(units)


def foreign(units):  # noqa: ARG001
    raise ModuleNotFoundError("No module named 'sims'")


def forgetful(units):
    """Loses the last row of every batch of several."""
    environment, runs = plain(units)
    return environment, runs[: max(1, len(runs) - 1)]


def endless(units):
    """Says that it has begun."""
    Path(json.loads(units[0].config)["notes"]).touch()
    time.sleep(600)


def points(n, runs, notes="", cost=1e-3):
    return [
        Point.of(PROGRAM, {"k": k, "view": "chain" if k % 2 else "sde", "notes": str(notes)}, runs, cost)
        for k in range(n)
    ]


def engine_of(word: str) -> Engine:
    return local(int(word)) if word.isdigit() else dask(word)


if __name__ == "__main__":
    cluster.CONNECT = 3.0
    with catch_warnings():
        simplefilter("error")
        with Store.write(Path(sys.argv[1])) as opened:
            outcome = drive(opened, PROGRAM, globals()[sys.argv[2]], engine_of(sys.argv[3]), seconds=0.05)
            print(json.dumps(asdict(outcome)))
