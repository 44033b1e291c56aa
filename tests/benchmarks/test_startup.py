"""Start-up of the command line as ratios of whole processes, medians over interleaved repeats.

pytest -m benchmark -n 0 -s tests/benchmarks/test_startup.py
"""

import resource
import subprocess
import sys
from statistics import median
from time import perf_counter

import pytest

from solvers.commands import commands

pytestmark = pytest.mark.benchmark
REPEATS = 9
COMMANDS = {
    "imports": ["-c", "import numpy, scipy.integrate, sympy"],
    "predict": ["-m", "solvers.predict", "--p", "4", "--corr", "0.5", "--init", "typical"],
    "predict random": ["-m", "solvers.predict", "--p", "4", "--corr", "0.5"],
}
HELPS = {f"{package}.{name}": ["--help"] for package in ("solvers", "sims") for name in commands(package)}
HELPS |= {"solvers": [], "sims": []}


@pytest.fixture(scope="module")
def seconds():
    taken = {name: [] for name in COMMANDS}
    for turn in range(REPEATS + 1):
        for name, words in COMMANDS.items():
            start = perf_counter()
            subprocess.run([sys.executable, *words], capture_output=True, check=True)
            if turn:
                taken[name].append(perf_counter() - start)
    for name, values in taken.items():
        print(f"\n{name:>14} {median(values):.3f} s (best {min(values):.3f})", end="")
    return taken


def test_predict_costs_at_most_half_more_than_its_imports(seconds):
    """The ODE's answer. The default adds 2000 trajectories and a search of the learning rate: its cost is printed."""
    ratio = median(a / b for a, b in zip(seconds["predict"], seconds["imports"], strict=True))
    print(f"\npredict / imports {ratio:.2f}")
    assert ratio <= 1.5


def user_seconds(words):
    """Seconds of user code of one process: unlike the time by the clock, they do not grow with what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([sys.executable, *words], capture_output=True, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


@pytest.mark.parametrize("command", HELPS)
def test_help_costs_under_150_ms_beyond_python(command):
    words, turns = ["-m", command, *HELPS[command]], range(REPEATS)
    user_seconds(words)
    spent = median(user_seconds(words) - user_seconds(["-c", "pass"]) for _ in turns)
    print(f"\n{command:>22} {1000 * spent:.0f} ms", end="")
    assert spent <= 0.15
