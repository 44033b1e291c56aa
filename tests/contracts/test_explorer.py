"""``python -m solvers.explorer`` without a browser: one file that asks for nothing and holds the solver's series."""

import json
import re
from math import sqrt
from types import SimpleNamespace

import numpy as np
import pytest

from solvers.explorer import SCRIPTS, main, page
from solvers.explorer_model import ORDERS, SERIES_ORDER, cases
from tests.conftest import model_of
from theory.population import Population
from theory.tasks import MixedCumulant

OUTSIDE = ("http:", "https:", "//cdn", "@import", "src=", "fetch(", "XMLHttpRequest", "WebSocket", "import(", "url(")


@pytest.fixture(scope="module")
def text():
    return page()


def test_one_small_file_that_asks_for_nothing(text):
    assert len(text.encode()) < 300_000
    assert [word for word in OUTSIDE if word in text] == []
    assert "default-src 'none'" in text
    assert re.findall(r"\{\{\w+\}\}", text) == []  # every placeholder is filled


def test_every_script_is_in_the_page(text):
    for name in SCRIPTS:
        assert f"\n// {name}\n" in text


def as_python(code):
    """The JavaScript that SymPy prints for these expressions is Python but for its functions' names."""
    return code.replace("Math.", "")


def printed(text, name):
    return json.loads(re.search(rf"^const {name} = (.*);$", text, re.MULTILINE)[1])


def printed_moments(text, beta_u, beta_v, corr, kappa):
    body = re.search(r"function moments\(.*?\{\n(.*?)\n\}", text, re.DOTALL)[1]
    values = {"beta_u": beta_u, "beta_v": beta_v, "corr": corr, "kappa": kappa, "pow": pow, "sqrt": sqrt}
    for name, code in re.findall(r"const (\w+) = (.*);", body):
        values[name] = eval(as_python(code), {}, values)
    return eval(as_python(re.search(r"return (\[.*\]);", body)[1]), {}, values)


def printed_learners(text):
    block = re.search(r"const LEARNERS = \[\n(.*?)\n\];", text, re.DOTALL)[1]
    for facts, tables in re.findall(r'(\{"name".*?), "polynomials": \[\n(.*?)\]\}(?=,\n\{"name"|$)', block, re.DOTALL):
        rows = re.findall(r"\{exponents:(.*?),coefficients:\(C,c\)=>(\[.*?\])\}(?=,\n|$)", tables)
        yield json.loads(facts + "}"), [(json.loads(exponents), code) for exponents, code in rows]


@pytest.mark.parametrize(("beta_u", "beta_v", "corr"), [(1.0, 10.0, 0.5), (0.3, 2.0, -0.4)])
def test_printed_expressions_vs_population(text, beta_u, beta_v, corr):
    """All seven polynomials of every case, at numbers that SymPy never saw when it printed them."""
    model = printed(text, "MODEL")
    learners = list(printed_learners(text))
    assert [(c["p"], c["role"]) for c in model["cases"]] == [(c.p, c.role) for c in cases()]
    for case, (facts, tables) in zip(cases(), learners, strict=True):
        task = MixedCumulant(case.latent, corr=corr, beta_u=beta_u, beta_v=beta_v)
        population = Population(model_of(task, case.activation), SERIES_ORDER)
        moment = population.second_moment
        expected = [
            population.objective,
            *population.spherical_gradient,
            population.variance,
            moment[0][0],
            moment[1][0],
            moment[1][1],
        ]
        C = printed_moments(text, beta_u, beta_v, corr, model["latents"][str(case.p)]["kappa"])
        assert facts["complete"] == population.complete
        for (exponents, code), poly in zip(tables, expected, strict=True):
            coefficients = eval(as_python(code), {}, {"C": C, "c": SimpleNamespace(**facts["c"])})
            found, wanted = dict(zip(map(tuple, exponents), coefficients, strict=True)), poly.as_dict()
            scale = max(abs(float(x)) for x in wanted.values())
            for index in set(found) | set(wanted):
                assert found.get(index, 0.0) == pytest.approx(float(wanted.get(index, 0)), rel=1e-9, abs=1e-13 * scale)


def test_every_order_has_its_choices(text):
    model = printed(text, "MODEL")
    assert sorted(map(int, model["latents"])) == list(ORDERS)
    for latent in model["latents"].values():
        assert np.sum(latent["weights"]) == pytest.approx(1)
        assert latent["largestCorr"] == pytest.approx(latent["kappa"][1][1])


def test_command_writes_the_page(tmp_path, capsys, monkeypatch, text):
    monkeypatch.setattr("solvers.explorer.page", lambda: text)
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    target = tmp_path / "lecture.html"
    assert main(["-o", str(target), "--open"]) == 0
    assert target.read_text(encoding="utf-8") == text
    assert shown == [target.as_uri()]
    assert str(target) in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["lecture.html"]


BAD = {
    ("-o", "{}/explorer.pdf"): "--output: got ",
    ("-o", "{}/missing/explorer.html"): "a file in an existing directory",
    ("-o", "{}"): "a file name ending in .html",
    ("--port", "80"): "unrecognized arguments",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_words_are_one_line_and_write_nothing(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("solvers.explorer.page", lambda: pytest.fail("worked before it looked"))
    with pytest.raises(SystemExit) as stop:
        main([word.format(tmp_path) for word in words])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert BAD[words] in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "python -m solvers.explorer -o lecture.html --open" in capsys.readouterr().out
