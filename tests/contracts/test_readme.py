"""The README's words are what the code does: its Python example runs, its table is what predict prints, its links lead
somewhere. Its commands are run by tests/contracts/test_docs.py."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from solvers.predict import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_python_example_runs(capsys):
    """It prints the ODE's escape time of v."""
    example, _ = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(example, "README.md", "exec"), {})
    numbers = [float(x) for x in re.findall(r"\d+\.?\d*(?:e[+-]?\d+)?", capsys.readouterr().out)]
    assert any(x == pytest.approx(9.526e4, rel=1e-3) for x in numbers)


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
    runner = (ROOT / ".ci" / "run").read_text()
    assert '-e ".[test]" && python -m pytest' in runner


def test_the_first_screen_has_a_figure_both_commands_and_python():
    """Within 45 lines: what a reader sees before scrolling far."""
    screen = "\n".join(README.splitlines()[:45])
    figure = screen.index("](docs/compare.png)")
    assert (
        figure
        < screen.index("python -m solvers.predict")
        < screen.index("python -m pytest")
        < screen.index("```python")
    )


def test_links_of_the_pages_at_the_root_lead_somewhere():
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
            assert (ROOT / target).exists(), f"{page} links {target}"
