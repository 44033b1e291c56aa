"""The README's words are what the code does: its Python example runs, its table is what predict prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from solvers.predict import main

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_python_example_runs(capsys):
    example, _ = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(example, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert float(out.split()[0]) == pytest.approx(9.526e4, rel=1e-3)
    assert r"\begin{aligned}" in out


def test_sweep_example_runs_and_loses_nothing(tmp_path):
    """As a script, twice: the second run finds everything there."""
    _, example = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len([line for line in example.splitlines() if line]) <= 10
    (tmp_path / "script.py").write_text(example)
    first, second = (
        subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert first.stdout == second.stdout
    assert len(first.stdout.splitlines()) == 1 + 6 + 1
    assert first.stderr == second.stderr == ""


def test_table_is_what_predict_prints(capsys):
    shown = re.findall(r"```text\n(spike.*?)```", README, re.S)[0].strip()
    assert main(["--p", "4", "--corr", "0.5"]) == 0
    assert shown in capsys.readouterr().out


def test_commands_of_the_readme_exist():
    assert "pip install -e . && python -m solvers.predict --p 4 --corr 0.5\n" in README
    assert 'pip install -e ".[test]" && python -m pytest\n' in README
    runner = (Path(__file__).parents[2] / ".ci" / "run").read_text()
    assert '-e ".[test]" && python -m pytest' in runner
