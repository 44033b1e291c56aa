"""The documentation is what the code does: its commands run, its names exist, its equations are the objects', its figures
have a command. The site itself is built by ``mkdocs build --strict`` in CI. Nothing here is random beyond fixed seeds.
"""

import contextlib
import importlib
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SEED, TASKS, model_of
from tests.contracts.doc_commands import (
    DOCS,
    PAGES,
    ROOT,
    Command,
    all_commands,
    commands_of,
    parse,
    programs,
    script,
    small,
)

COMMANDS = all_commands()
TESTED_ELSEWHERE = {  # programs whose commands other tests run
    "pytest": "test_commands_of_pytest_name_what_exists",
    "sims.sweep": "test_commands_of_sweeps_run_in_their_order",
    "docs/gallery.py": "test_the_gallery_draws_what_it_is_asked_for",
    "elastic.py": "tests/regression/test_slurm.py::test_dask_jobqueue_vs_local",
    "screenshots.py": "tests/browser/test_explorer_page.py",
    "solvers.explorer": "tests/contracts/test_explorer.py",
}
GRID = """
[model]
p = 4
corr = [0.0, 0.5]
[run]
view = "chain"
dim = [100]
runs = 4
seed = 0
"""


def run(program: str, words: tuple[str, ...]) -> int:
    """In this process: a new one would import everything again."""
    try:
        return importlib.import_module(program).main(list(words))
    except SystemExit as end:
        return end.code or 0


def distinct(commands: list[Command]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What is run: one of those that differ in sizes, file names or output alone, once they are small."""
    kept: dict[str, tuple[str, tuple[str, ...]]] = {}
    for command in commands:
        if command.program in TESTED_ELSEWHERE or not command.words:
            continue
        words = small(command)
        if words is None:
            continue  # test_every_command_is_covered_and_parses says so
        options = dict.fromkeys(words)
        if "--help" not in words:
            with contextlib.suppress(SystemExit):  # test_every_command_is_covered_and_parses reports it
                options = vars(importlib.import_module(command.program).make_parser().parse_args(list(words)))
        options = {k: bool(v) if k in ("plot", "output") else str(v) for k, v in options.items() if k != "command"}
        kept.setdefault(f"{command.program} {sorted(options.items())}", (command.program, words))
    return {f"{program} {shlex.join(words)}": (program, words) for program, words in kept.values()}


RUNS = distinct(COMMANDS)
DEAR = {"--digits", "sims.complexities"}  # what remains long


def test_extraction():
    """Blocks, spans, continued lines, quotes, comments: a command that is not seen is not tested."""
    text = (
        "Run `python -m a.b --x 1\n--y 2`, or `pip install . && python -m a.c --z 'h(u)*2'`.\n"
        "```sh\n$ python -m a.d --long \\\n    --more  # why\nsbatch --wrap \"python -m a.e merge --store r\"\n"
        "exec python -m a.f --shard \"$SLURM_ARRAY_TASK_ID/20\"\npython docs/x.py --list\n```\n"
        "```python\nrun('python -m a.g')\n```\nprose: python -m a.h\n"
    )  # fmt: skip
    assert [(c.program, c.words) for c in commands_of(text)] == [
        ("a.d", ("--long", "--more")),
        ("a.e", ("merge", "--store", "r")),
        ("a.f", ("--shard", "0/20")),
        ("docs/x.py", ("--list",)),
        ("a.b", ("--x", "1", "--y", "2")),
        ("a.c", ("--z", "h(u)*2")),
    ]
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_is_covered_and_parses(command):
    """By the program's own parser, in full size. A name without options need only be a command."""
    if command.program == "pytest" or command.program.endswith(".py"):
        assert command.program in TESTED_ELSEWHERE
        return
    assert command.program in programs() or find_spec(f"{command.program}.__main__")
    if command.words and "--help" not in command.words:
        assert command.program in TESTED_ELSEWHERE or small(command) is not None, f"no rule runs {command}"
        parse(command)


def test_commands_of_sweeps_are_those_of_their_pages():
    """Other pages only repeat what runs below."""
    known = {c.words for page in ("sweeps.md", "cluster.md") for c in commands_of((DOCS / page).read_text("utf-8"))}
    assert {c.words for c in COMMANDS if c.program == "sims.sweep" and c.words} <= known


@pytest.mark.parametrize("program", programs())
def test_examples_of_help_parse(program):
    epilog = importlib.import_module(program).make_parser().epilog
    found = [c for c in commands_of(f"```\n{epilog}\n```") if c.program in programs() and c.words]
    assert found, "a help text shows examples"
    for command in found:
        parse(command)


def answers() -> str:
    """A table of one's own, as in docs/identification.md: noisy copies of one of two dependent bits."""
    rng = np.random.default_rng(SEED)
    first = rng.random(2000) < 0.5
    second = first ^ (rng.random(2000) < 0.2)
    leaves = [bit ^ (rng.random(2000) < 0.1) for bit in (first, first, second, second)]
    return "a,b,c,d\n" + "\n".join(",".join(map(str, row)) for row in np.array(leaves, dtype=int).T) + "\n"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow) if DEAR & {program, *words} else n
        for n, (program, words) in RUNS.items()
    ],
)
def test_command_runs_small(name, tmp_path, monkeypatch, capsys):
    """With fewer runs and small d, in a folder of its own: figures and stores are written there."""
    program, words = RUNS[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "answers.csv").write_text(answers())
    code = run(program, words)
    out, err = capsys.readouterr()
    assert code == 0, err
    assert out
    if "--plot" in words:
        assert (tmp_path / words[words.index("--plot") + 1]).stat().st_size > 1000


@pytest.mark.parametrize("page", [DOCS / "sweeps.md", DOCS / "cluster.md"], ids=lambda p: p.name)
def test_commands_of_sweeps_run_in_their_order(page, tmp_path, monkeypatch, capsys):
    """On two points of the grid of docs/sweeps.md; `--only HASH:REPLICA` must name one of that grid."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "grid.toml").write_text(GRID)
    commands = [c for c in commands_of(page.read_text("utf-8")) if c.program == "sims.sweep" and c.words]
    assert len(commands) >= 5
    for command in commands:
        extra = ("--workers", "1", "--quiet") if command.words[0] in ("run", "resume") else ()
        assert run("sims.sweep", (*command.words, *extra)) == 0, (command, capsys.readouterr().err)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.program == "pytest"], ids=str)
def test_commands_of_pytest_name_what_exists(command):
    """Files and folders are there, and -m names a marker."""
    words = list(command.words)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    if "-m" in words:
        assert f'"{words.pop(words.index("-m") + 1)}:' in project
    for word in words:
        assert word.startswith("-") or word.isdigit() or (ROOT / word).exists()


def test_the_gallery_draws_what_it_is_asked_for(capsys, monkeypatch):
    gallery, drawn = script("docs/gallery.py"), []
    monkeypatch.setattr(gallery, "draw", lambda drawing: drawn.append(drawing.name) or 0)
    for command in (c for c in COMMANDS if c.program == "docs/gallery.py"):
        assert gallery.main(list(command.words)) == 0
    assert gallery.main(["--minutes", "1", "compare", "smoothing"]) == 0
    assert drawn[-1] == "compare"
    assert len(drawn) > len(gallery.drawings())
    with pytest.raises(SystemExit):
        gallery.main(["nothing"])
    assert "no such figure: nothing" in capsys.readouterr().err


def test_every_figure_is_in_the_gallery_with_its_command():
    gallery = script("docs/gallery.py")
    names = [d.name for d in gallery.drawings()]
    rows = [line for line in (DOCS / "gallery.md").read_text("utf-8").splitlines() if "<img" in line]
    assert len(rows) == len(names), "a row that is not read"
    assert sorted(names) == sorted(str(p.relative_to(DOCS).with_suffix("")) for p in DOCS.rglob("*.png"))
    for drawing in gallery.drawings():
        target = f"docs/{drawing.name}.png"
        assert target in drawing.commands[-1] or "screenshots.py" in drawing.commands[-1]
        assert made_by(ROOT / target) <= set(drawing.commands[-1]) | {"--json", "--quiet"}


def made_by(figure: Path) -> set[str]:
    """Words of the command that the file carries; figures that are older than that carry none."""
    from PIL import Image

    with Image.open(figure) as image:
        return set(shlex.split(image.info.get("Description", "").removeprefix("python ")))


def test_one_command_draws_a_figure_again(tmp_path, monkeypatch):
    """The real thing with the cheapest figure, into a folder beside; what it needs from pages is there."""
    gallery = script("docs/gallery.py")
    detection = next(d for d in gallery.drawings() if d.name == "detection")
    assert gallery.block_of("sweeps.md", "toml").startswith("[model]")
    monkeypatch.setattr(gallery, "DOCS", tmp_path)
    assert gallery.draw(detection) == 0
    assert (tmp_path / "detection.png").stat().st_size > 1000
    failing = gallery.Drawing("none", (("python", "-m", "solvers.detection", "--beta", "-1"),), 0.0)
    assert gallery.draw(failing) == 2


TESTS = re.compile(r"tests/[\w/]+(?:\.py(?:::(\w+))?)?")


def missing_tests(text: str) -> list[str]:
    """Names of files, folders and functions under tests/ that are not there."""
    missing = []
    for found in TESTS.finditer(text):
        path, name = ROOT / found[0].split("::")[0], found[1]
        if not path.exists() or (name and f"def {name}(" not in path.read_text("utf-8")):
            missing.append(found[0])
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_tests_that_are_named_exist(page):
    assert missing_tests(page.read_text("utf-8")) == []


def test_missing_tests_are_seen():
    here = "tests/contracts/test_docs.py"
    assert missing_tests(f"`{here}::test_missing_tests_are_seen`, `{here}`, `tests/contracts`") == []
    assert missing_tests(f"`{here}::test_nothing`, `tests/none.py`") == [f"{here}::test_nothing", "tests/none.py"]


def test_every_claim_says_what_would_falsify_it():
    """Proven claims name tests; every row of the three tables has something in each cell."""
    text = (DOCS / "claims.md").read_text("utf-8")
    proven, measured, assumed = re.split(r"^## ", text, flags=re.M)[1:]
    for part in (proven, measured, assumed):
        rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")][2:]
        assert len(rows) >= 5
        assert all(cell.strip() for row in rows for cell in row)
        assert part is not proven or all("tests/" in row[-1] for row in rows)


def test_options_that_are_named_exist():
    """`--option` between backticks, on pages about our commands, is an option of one of them."""
    known = {
        option
        for program in programs()
        for parser in parsers(importlib.import_module(program).make_parser())
        for action in parser._actions
        for option in action.option_strings
    } | {"--list", "--minutes"}  # of docs/gallery.py
    for page in PAGES:
        if page.name == "cluster.md":  # options of SLURM and Dask
            continue
        text = re.sub(r"```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
        spans = [span for span in re.findall(r"`([^`]+)`", text) if span.startswith("--")]
        named = {word.split("=")[0] for span in spans for word in span.split() if word.startswith("--")}
        assert named - known == set(), page


def parsers(parser):
    """A parser and those of its subcommands."""
    subs = [a for a in parser._actions if getattr(a, "choices", None) and isinstance(a.choices, dict)]
    return [parser, *(p for a in subs for p in a.choices.values())]


def test_navigation_holds_every_page():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = re.findall(r"[\w/]+\.md", text[text.index("\nnav:") :])
    assert sorted(listed) == sorted(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md"))


def test_commands_page_holds_every_command():
    text = (DOCS / "reference" / "commands.md").read_text("utf-8")
    assert re.findall(r"^```text help\n(.*)\n```$", text, re.M) == programs()


def test_reference_names_modules_that_exist():
    for page in (DOCS / "reference").glob("*.md"):
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text("utf-8"), re.M):
            module = name if name.split(".")[-1].islower() else name.rpartition(".")[0]
            assert find_spec(module) is not None or find_spec(name.rpartition(".")[0]) is not None
            assert not any(part.startswith("_") for part in name.split("."))


HOOKS = script("docs/hooks.py")
EQUATIONS = [p for p in DOCS.rglob("*.md") if "```python equation" in p.read_text("utf-8")]


@pytest.mark.parametrize("page", EQUATIONS, ids=lambda p: p.stem)
def test_equations_are_made_by_the_objects(page):
    names = {}
    codes = [body for kind, body in HOOKS.BLOCK.findall(page.read_text("utf-8")) if kind == "python equation"]
    for code in codes:
        latex = HOOKS.equation(code, names)
        assert latex.count("{") == latex.count("}")
        assert latex.count(r"\left") == latex.count(r"\right")
        assert not re.search(r"nan|inf\b|zoo|Object|<", latex)


def test_equation_of_the_flow_vs_population():
    from theory.population import Population

    text = HOOKS.on_page_markdown((DOCS / "theory" / "population.md").read_text("utf-8"))
    assert Population(model_of(TASKS["mcm_corr"]), order=6).latex() in text
    assert "```python equation" not in text


def test_blocks_are_filled_in():
    text = HOOKS.on_page_markdown((DOCS / "howto" / "activation.md").read_text("utf-8"))
    assert "def sine() -> Activation:" in text
    assert "usage: solvers.predict" in HOOKS.on_page_markdown("```text help\nsolvers.predict\n```\n")
    assert "cff-version" in HOOKS.on_page_markdown("```text section\nCITATION.cff\n```\n")
    with pytest.raises(ValueError, match="no section"):
        HOOKS.on_page_markdown("```text section\nCONTRIBUTING.md # Nothing\n```\n")
    with pytest.raises(ValueError, match="ends in an expression"):
        HOOKS.on_page_markdown("```python equation\nx = 1\n```\n")


def test_formulas_become_mathml():
    pytest.importorskip("latex2mathml", reason="pip install -e '.[docs]'")
    inline = '<span class="arithmatex">\\(a &lt; b\\)</span>'
    block = '<div class="arithmatex">\\[\\begin{aligned}a &amp;= b\\end{aligned}\\]</div>'
    shown = HOOKS.on_page_content(f"<p>{inline}</p>{block}")
    assert shown.count("<math") == 2
    assert "<mtable" in shown
    assert "arithmatex" not in shown
    assert "&amp;" not in shown


def test_a_page_that_asks_anyone_for_anything_is_refused(tmp_path):
    page = tmp_path / "index.html"
    config = {"site_dir": str(tmp_path)}
    page.write_text('<a href="https://arxiv.org/abs/2404.08602">paper</a><img src="a.png"><script src="b.js"></script>')
    HOOKS.on_post_build(config)
    for loaded in (
        '<script src="https://cdn.example/m.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/f.css">',
        "<style>@import 'https://fonts.example/f.css'</style>",
        '<div style="background: url(http://x.example/a.png)">',
    ):
        page.write_text(loaded)
        with pytest.raises(ValueError, match=r"index\.html loads .*example"):
            HOOKS.on_post_build(config)


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


WITH_PYTHON = {str(p.relative_to(ROOT)): p for p in PAGES if python_blocks(p)}
PYTHON_ELSEWHERE = {  # name of the page: where its blocks are run
    "README.md": "tests/contracts/test_readme.py",
    "CONTRIBUTING.md": "test_activation_of_the_contributing_guide",
    "docs/cluster.md": "tests/regression/test_slurm.py",
    "docs/sweeps.md": "test_script_of_a_page_runs",
    "docs/network.md": "test_script_of_a_page_runs",
    "docs/identification.md": "test_script_of_a_page_runs",
    "docs/explorer.md": "tests/browser/test_explorer_page.py",
}


TAKEN_FOR_GRANTED = {"docs/shell.md": [*python_blocks(DOCS / "quickstart.md"), "result = runs"]}


@pytest.mark.parametrize("page", sorted(WITH_PYTHON.keys() - PYTHON_ELSEWHERE.keys()))
def test_python_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    """One block after the other, names shared."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in TAKEN_FOR_GRANTED.get(page, []) + python_blocks(WITH_PYTHON[page]):
        exec(compile(block, page, "exec"), names)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/sweeps.md", "docs/network.md", "docs/identification.md"])
def test_script_of_a_page_runs(page, tmp_path):
    """In a process of its own."""
    (block,) = python_blocks(WITH_PYTHON[page])
    (tmp_path / "script.py").write_text(block)
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=one_thread, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_activation_of_the_contributing_guide():
    names = {}
    (block,) = python_blocks(ROOT / "CONTRIBUTING.md")
    exec("import sympy as sp\nfrom theory.activations import Activation, Z\n" + block, names)
    scaled = names["sine"]().normalized_coefficients(5) * np.sqrt([1, 1, 2, 6, 24, 120])
    assert scaled == pytest.approx(np.array([0, 1, 0, -1, 0, 1]) * np.exp(-0.5), abs=1e-10)
