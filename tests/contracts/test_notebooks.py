"""The notebooks as files: clean, self-contained, on the public API. That they run, and their assertions, is nbmake's task.

Would be falsified by: outputs or counters that were committed, a model or task defined in a notebook other than 08, an import
of something private or of the tests, a notebook without exercises and solutions, or without a claim that is asserted.
"""

import ast
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
DEFINES_ITS_OWN = "08"


def notebook(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def text_of(path: Path, kind: str) -> str:
    text = "\n\n".join("".join(cell["source"]) for cell in notebook(path)["cells"] if cell["cell_type"] == kind)
    return re.sub(r"^%\w.*$", "", text, flags=re.M)  # magics are no Python


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_is_committed_clean(path):
    book = notebook(path)
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    assert set(book["metadata"]) <= {"kernelspec", "language_info"}
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in book["cells"]:
        assert cell["metadata"] == {}
        assert cell["cell_type"] == "markdown" or (cell["outputs"] == [] and cell["execution_count"] is None)


def test_uses_the_public_api_and_defines_no_model(path):
    tree = ast.parse(text_of(path, "code"))
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr.startswith("__"), f"private: {node.attr}"
    private = [name for name in names if re.search(r"(^|\.)_(?!_)", name) or name.startswith("tests")]
    assert not private
    assert any(name.startswith(("theory.", "solvers.", "sims.")) for name in names)
    classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert not classes or path.stem.startswith(DEFINES_ITS_OWN), classes


def test_has_exercises_solutions_and_asserted_claims(path):
    words = text_of(path, "markdown")
    assert words.startswith(f"# {path.stem[:2]}")
    assert "## Exercises" in words
    assert "## Solutions" in words or "<details>" in words
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text_of(path, "code")))) >= 3


def test_uses_no_output_widget(path):
    """nbclient misses the end of a cell in which one receives a picture, now and then (see solvers/sliders.py)."""
    nodes = list(ast.walk(ast.parse(text_of(path, "code"))))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not names & {"interact", "interactive", "interactive_output", "interact_manual", "Output"}
    assert "slide" in names


def test_filters_no_warnings(path):
    assert "warnings" not in {word for word in re.findall(r"^\s*(?:import|from) (\w+)", text_of(path, "code"), re.M)}


def test_the_folder_lists_every_notebook():
    numbers = re.findall(r"^\| (?:\[)?(\d\d) ", (FOLDER / "README.md").read_text("utf-8"), re.M)
    assert [path.stem[:2] for path in NOTEBOOKS] == sorted(numbers)
