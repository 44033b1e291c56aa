"""Numba's on-disk cache is keyed by the file of the jitted function: a helper edited in ANOTHER file would keep its old
code (numba issues 1833, 8359, 9304). Each kernel file is therefore complete in itself; this test edits one, and reads all."""

import ast
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher

import theory.normals as normals

ROOT = Path(normals.__file__).parents[1]
KERNEL_FILES = sorted(
    [
        "theory/normals.py",
        *(
            p.relative_to(ROOT).as_posix()
            for part in ("sims", "solvers", "theory")
            for p in ROOT.glob(f"{part}/_*kernels.py")
        ),
    ]
)
HELPER = "r = np.sqrt(_minus_two_log(u))"
SCRIPT = """
import numpy as np, copied
out = np.empty(copied.BLOCK)
copied.fill_normals(copied.make_generator(np.random.SeedSequence(0)), out)
print(repr(float(np.abs(out).sum())), sum(copied.fill_normals.stats.cache_hits.values()))
"""


def run(folder: Path, before: str = "") -> tuple[float, int]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": f"{folder}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", before + SCRIPT], capture_output=True, text=True, env=environment, check=True
    )
    value, hits = done.stdout.split()
    return float(value), int(hits)


def test_editing_a_jitted_helper_changes_the_result(tmp_path):
    copy = tmp_path / "copied.py"
    shutil.copy(normals.__file__, copy)
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
    shutil.copy(normals.__file__, tmp_path / "copied.py")
    nowhere = "from numba.core.caching import CacheImpl\nCacheImpl._locator_classes = []\n"
    assert run(tmp_path, nowhere)[1] == 0


@pytest.mark.parametrize("file", KERNEL_FILES)
def test_every_jitted_function_calls_its_own_file_only(file):
    """Whatever of our own a kernel file imports is neither jitted nor a number that a compiled function would freeze."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("theory", "solvers", "sims"):
            for name in node.names:
                value = getattr(importlib.import_module(node.module), name.name)
                assert callable(value), f"{file} imports {name.name}"
                assert not isinstance(value, Dispatcher), f"{file} imports {name.name}"


def test_nothing_else_is_jitted():
    """Other modules may hand functions to kernels, which compile against their type; none calls njit or kernel."""
    jitted = {
        p.relative_to(ROOT).as_posix()
        for part in ("theory", "solvers", "sims")
        for p in (ROOT / part).rglob("*.py")
        if any(f"{word}(" in p.read_text() for word in ("njit", "@kernel", "@jit"))
    }
    assert jitted == {*KERNEL_FILES, "theory/jit.py"}
    assert {"sims/_kernels.py", "solvers/_chain_kernels.py"} < jitted
