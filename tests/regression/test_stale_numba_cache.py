"""Numba's on-disk cache is keyed by the file of the jitted function: a helper edited in ANOTHER file would keep its old
code (numba issues 1833, 8359, 9304). All jitted helpers therefore live in sims/_kernels.py; this test edits one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import sims._kernels as kernels

HELPER = "r = np.sqrt(_minus_two_log(u))"
SCRIPT = """
import numpy as np, _kernels
state = np.random.SeedSequence(0).generate_state(4 * _kernels.LANES, np.uint64).reshape(4, _kernels.LANES)
out = np.empty(_kernels.BLOCK)
_kernels.fill_normals(state, out)
print(repr(float(np.abs(out).sum())), sum(_kernels.fill_normals.stats.cache_hits.values()))
"""


def run(folder: Path, before: str = "") -> tuple[float, int]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", before + SCRIPT], capture_output=True, text=True, env=environment, check=True
    )
    value, hits = done.stdout.split()
    return float(value), int(hits)


def test_editing_a_jitted_helper_changes_the_result(tmp_path):
    copy = tmp_path / "_kernels.py"
    shutil.copy(kernels.__file__, copy)
    first, _ = run(tmp_path)
    cached, hits = run(tmp_path)
    assert hits == 1
    assert cached == first
    text = copy.read_text()
    assert text.count(HELPER) == 1
    copy.write_text(text.replace(HELPER, HELPER.replace("r = ", "r = 3.0 * ")))
    edited, _ = run(tmp_path)
    assert abs(edited / first - 3.0) < 1e-12


def test_kernels_compile_where_nothing_can_be_written(tmp_path):
    shutil.copy(kernels.__file__, tmp_path / "_kernels.py")
    nowhere = "from numba.core.caching import CacheImpl\nCacheImpl._locator_classes = []\n"
    assert run(tmp_path, nowhere)[1] == 0


def test_every_jitted_function_lives_in_one_file():
    """The rule itself: no other module of the package calls njit."""
    root = Path(kernels.__file__).parents[1]
    jitted = [
        p for part in ("theory", "solvers", "sims") for p in (root / part).glob("*.py") if "njit(" in p.read_text()
    ]
    assert [p.name for p in jitted] == ["_kernels.py"]
