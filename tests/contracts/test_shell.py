"""The shell's comfort: lists of commands, help that starts nothing heavy, completion by shtab as docs/shell.md has it.

Would be falsified by: a command that no list names, an import at the top of a module that --help pays for, a figure's or a
cluster's library in a prediction without either, a script of docs/shell.md that completes nothing.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from solvers.commands import commands, main

ROOT = Path(__file__).parents[2]
PACKAGES = ("solvers", "sims")
HEAVY = {"numpy", "scipy", "sympy", "numba", "matplotlib", "dask", "distributed", "pandas", "xarray", "tqdm", "sqlite3"}
MODULES = [f"{package}.{name}" for package in PACKAGES for name in commands(package)]
LOADED = "import sys, json; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})), file=sys.stderr)"
HELP = """
import importlib
for name in {modules}:
    try:
        importlib.import_module(name).main(["--help"])
    except SystemExit as stop:
        assert stop.code == 0
"""


def loaded(script):
    """Top-level modules that a script has imported at its end, in a process of its own."""
    words = [sys.executable, "-c", script + "\n" + LOADED]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_lists_vs_modules():
    """By another way: every module that has ``make_parser`` is listed, and by its parser's own words."""
    for package in PACKAGES:
        sources = (path for path in (ROOT / package).glob("*.py") if "\ndef make_parser(" in path.read_text())
        assert list(commands(package)) == sorted(path.stem for path in sources)
        for name, line in commands(package).items():
            parser = import_module(f"{package}.{name}").make_parser()
            assert line == parser.description
            assert parser.prog == f"{package}.{name}"


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("words", [[], ["--help"]])
def test_a_package_lists_its_commands(package, words):
    done = subprocess.run(
        [sys.executable, "-m", package, *words], capture_output=True, cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    for name, line in commands(package).items():
        assert sum(x.split()[:1] == [name] and x.endswith(line) for x in lines) == 1


@pytest.mark.parametrize("word", ["predct", "", "--p", "../predict", "plots"])
def test_an_unknown_command_is_one_line(capsys, word):
    with pytest.raises(SystemExit) as stop:
        main("solvers", [word])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"got {word!r}; allowed: " in err
    assert "predict" in err


def test_a_name_runs_its_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main("solvers", ["predict", "--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("downstairs ")
    with pytest.raises(SystemExit) as stop:
        main("sims", ["compare", "--corr", "x"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("sims.compare: error: ")


def test_help_imports_nothing_heavy():
    assert len(MODULES) >= 14
    found = loaded(HELP.format(modules=MODULES)) & HEAVY
    assert not found, found


def test_a_list_imports_nothing_heavy():
    found = loaded("from solvers.commands import main\ntry: main('sims')\nexcept SystemExit: pass") & (HEAVY | {"sims"})
    assert not found, found


def test_a_prediction_without_figure_imports_no_figure_and_no_cluster():
    script = "from solvers.predict import main\nassert main(['--p', '4', '--corr', '0.5', '--init', 'typical']) == 0"
    found = loaded(script)
    assert not found & {"matplotlib", "dask", "distributed", "pandas", "xarray", "sims"}
    assert {"numpy", "sympy"} <= found  # or this test looks at nothing


def test_results_import_libraries_when_asked():
    script = "import theory.results, theory.network_results, theory.result_files, theory.drawing, solvers.prediction"
    assert not loaded(script) & {"matplotlib", "pandas", "xarray", "sqlite3"}


@pytest.mark.parametrize("module", MODULES)
def test_help_has_examples_that_parse(module):
    epilog = import_module(module).make_parser().epilog
    examples = [shlex.split(line) for line in epilog.splitlines() if line.strip().startswith("python -m")]
    assert module in [name for _, _, name, *_ in examples]
    for _, _, name, *words in examples:
        import_module(name).make_parser().parse_args(words)


# Completion ---------------------------------------------------------------------------------------------------------

COMPLETE = """
source ~/.downstairs.bash
complete_words() {
  COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
  local function=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
  $function "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
  echo "${COMPREPLY[@]}"
}
complete_words solvers.predict --co
complete_words solvers.predict --task sp
complete_words solvers.detection --prior ra
complete_words sims.sweep st
complete_words sims.sweep run --dr
solvers.predict --version
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home in which the scripts of docs/shell.md were run, all but the installation of shtab."""
    pytest.importorskip("shtab")
    folder = tmp_path_factory.mktemp("home")
    script, *uses = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "shell.md").read_text(), re.DOTALL)
    (folder / "completion.sh").write_text(script)
    for use in uses:
        lines = [line for line in use.splitlines() if not line.startswith("pip install")]
        run_shell(["bash", "-ec", "\n".join(lines)], folder)
    return folder


def run_shell(words, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"HOME": str(folder), "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment, check=True)
    return done.stdout.splitlines()


def test_bash_completes(home):
    from theory import __version__

    assert run_shell(["bash", "-c", COMPLETE], home) == [
        "--corr --coupling", "spiked-cumulant", "rademacher", "status", "--dry-run", f"downstairs {__version__}",
    ]  # fmt: skip
    assert (home / ".bashrc").read_text() == "source ~/.downstairs.bash\n"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_knows_every_command(home):
    script = (
        "source ~/.zshrc 2>&1; for c in "
        + " ".join(MODULES)
        + "; do echo $c $_comps[$c] $+functions[$_comps[$c]]; done"
    )
    wanted = [f"{module} _shtab_{module.replace('.', '_')} 1" for module in MODULES]
    assert run_shell(["zsh", "-f", "-c", script], home) == wanted
