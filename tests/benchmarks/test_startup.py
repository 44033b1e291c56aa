"""Start-up of the command line as ratios of whole processes, medians over interleaved repeats.

pytest -m benchmark -n 0 -s tests/benchmarks/test_startup.py
"""

import subprocess
import sys
from statistics import median
from time import perf_counter

import pytest

pytestmark = pytest.mark.benchmark
REPEATS = 9
COMMANDS = {
    "imports": ["-c", "import numpy, scipy.integrate, sympy"],
    "predict": ["-m", "solvers.predict", "--p", "4", "--corr", "0.5", "--init", "typical"],
    "predict random": ["-m", "solvers.predict", "--p", "4", "--corr", "0.5"],
    "python": ["-c", "pass"],
    "help": ["-m", "solvers.predict", "--help"],
    "compare help": ["-m", "sims.compare", "--help"],
}


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


@pytest.mark.parametrize("command", ["help", "compare help"])
def test_help_is_fast(seconds, command):
    assert median(seconds[command]) <= 0.15
