"""Hierarchies of discrete variables and the task made of them, against enumeration and samples.

Would be falsified by: parents in the wrong order of axes, a correlation that is not the product along the path, a symbol
without its value, an order of cumulants that is not the first.
"""

import json
from itertools import product
from math import prod

import networkx as nx
import numpy as np
import pytest
import sympy as sp
from scipy import stats

from sims import levels
from solvers import predict
from tests.conftest import DAG, FALSE_ALARM, TASKS, Z_ALARM, model_of
from theory.errors import InputError
from theory.exponents import first_form
from theory.hermite import hermite, multi_indices
from theory.hierarchical import HierarchicalCumulant, Planted
from theory.hierarchy import Hierarchy, Variable, standardised, symmetric, tree_from_text
from theory.latents import gauss
from theory.population import Population
from theory.tasks import spiked_cumulant

TREE = {"a": None, "b": "a", "c": "b", "d": "a", "e": "c"}
EDGES = {"b": 0.9, "c": -0.4, "d": 0.6, "e": 0.7}


def tree_task(text, corr, visible=("u",), beta_u=1.0, beta_v=10.0):
    tree = symmetric(tree_from_text(text), corr)
    return HierarchicalCumulant(tree, tuple(Planted(s, beta_u if s in visible else beta_v, s not in visible)
                                            for s in tree.names if s.islower()))  # fmt: skip


def enumerated(hierarchy):
    """(joint state by name, probability), by nested loops over the tables as they stand."""
    for states in product(*(range(v.states) for v in hierarchy.variables)):
        at = dict(zip(hierarchy.names, states, strict=True))
        chance = 1.0
        for v in hierarchy.variables:
            row = 0
            for p in v.parents:
                row = row * hierarchy.states(p) + at[p]
            chance *= v.table[row][at[v.name]]
        yield at, chance


@pytest.mark.parametrize("names", [("u",), ("v", "Z"), ("v", "u", "Z"), ("u", "v")])
def test_marginal_vs_enumeration(names):
    expected = np.zeros([DAG.states(n) for n in names])
    for at, chance in enumerated(DAG):
        expected[tuple(at[n] for n in names)] += chance
    np.testing.assert_allclose(DAG.marginal(names), expected, atol=1e-15)


def test_sample_vs_marginal(rng):
    """χ² of 10^5 joint states against the exact table."""
    states, table = DAG.sample(100_000, rng), DAG.marginal(DAG.names)
    counts = np.zeros(table.shape)
    np.add.at(counts, tuple(states.T), 1)
    assert stats.chisquare(counts.ravel(), 100_000 * table.ravel()).pvalue > FALSE_ALARM


def test_correlation_is_the_product_along_the_path_vs_enumeration_and_samples(rng):
    tree = symmetric(TREE, EDGES)
    task = HierarchicalCumulant(tree, tuple(Planted(s, 1.0) for s in TREE))
    paths = dict(nx.all_pairs_shortest_path(tree.graph.to_undirected()))
    states, n = 2 * tree.sample(200_000, rng) - 1, 200_000
    for i, a in enumerate(TREE):
        for j, b in enumerate(TREE):
            steps = zip(paths[a][b], paths[a][b][1:], strict=False)
            expected = prod(EDGES[x if TREE[x] == y else y] for x, y in steps)
            assert task.correlations[i, j] == pytest.approx(expected, abs=1e-14)
            summed = sum(chance * (2 * at[a] - 1) * (2 * at[b] - 1) for at, chance in enumerated(tree))
            assert summed == pytest.approx(expected, abs=1e-14)
            measured = np.mean(states[:, i] * states[:, j])
            assert abs(measured - expected) < Z_ALARM * np.sqrt((1 - expected**2) / n) + 1e-12


def test_levels_leaves_and_graph():
    tree = symmetric(tree_from_text("u( v(w), x )"), 0.3)
    assert tree.levels == (("u",), ("v", "x"), ("w",))
    assert tree.leaves == ("w", "x")
    assert sorted(tree.graph.edges) == [("u", "v"), ("u", "x"), ("v", "w")]
    assert DAG.levels == (("Z",), ("u",), ("v",))
    assert symmetric({"a": None, "b": None}, 0.5).marginal(["a", "b"]) == pytest.approx(np.full((2, 2), 0.25))


@pytest.mark.parametrize("text", [
    "", "u(", "u(v", "u)v", "u(v)(w)", "u,v", "u()", "u(v,)", "u(u)", "1(a)", "u(v)w", "u v", "u(v w)", "u(v;w)", "_u",
    "u(v)\n(w)", "u(abcdefghijkl)", "(u)", "u" + "(v" * 99, "α(v)",
])  # fmt: skip
def test_malformed_trees_are_refused(text):
    with pytest.raises(InputError, match="nested parentheses"):
        tree_from_text(text)


HALF = ((0.5, 0.5),)


@pytest.mark.parametrize("bad", [
    lambda: Hierarchy(()), lambda: Hierarchy((Variable("a", (), HALF), Variable("a", (), HALF))),
    lambda: Hierarchy((Variable("a", ("b",), HALF * 2), Variable("b", (), HALF))),
    lambda: Hierarchy((Variable("a", (), HALF), Variable("b", ("a",), HALF))),
    lambda: Hierarchy((Variable("a", (), HALF), Variable("b", ("a", "a"), HALF * 4))),
    lambda: Hierarchy((Variable("a", (), ((0.5, 0.6),)),)), lambda: Hierarchy((Variable("a", (), ((1.5, -0.5),)),)),
    lambda: Hierarchy((Variable("a", (), ((float("nan"), 1.0),)),)), lambda: Hierarchy((Variable("a", (), ((1.0,),)),)),
    lambda: Hierarchy((Variable("a", (), ()),)), lambda: symmetric({f"a{k}": None for k in range(21)}, 0.5),
    lambda: symmetric({"a": None, "b": "a"}, 1.1), lambda: symmetric({"a": None, "b": "a"}, float("nan")),
    lambda: DAG.states("x"), lambda: HierarchicalCumulant(DAG, ()), lambda: HierarchicalCumulant(DAG, (Planted("x", 1.0),)),
    lambda: HierarchicalCumulant(DAG, (Planted("u", 1.0), Planted("u", 2.0))),
    lambda: HierarchicalCumulant(DAG, (Planted("u", 0.0),)), lambda: HierarchicalCumulant(DAG, (Planted("u", np.inf),)),
    lambda: HierarchicalCumulant(Hierarchy((Variable("a", (), ((1.0, 0.0),)),)), (Planted("a", 1.0),)),
    lambda: tree_task("u(v(w),x)", 0.5).numbers(80),
])  # fmt: skip
def test_impossible_hierarchies_are_refused(bad):
    with pytest.raises(InputError):
        bad()


FOUR = Hierarchy((Variable("v", (), ((0.1, 0.4, 0.3, 0.2),)), Variable("w", ("v",), ((0.9, 0.1), (0.6, 0.4)) * 2)))


@pytest.mark.parametrize("task", [
    TASKS["hierarchical"], tree_task("u(v(w))", 0.6), tree_task("Z(v,w)", -0.3, ("v",)),
    HierarchicalCumulant(FOUR, (Planted("v", 3.0), Planted("w", 1.0, hidden=False))),
])  # fmt: skip
def test_symbols_take_the_numeric_values(task):
    symbols, numbers, values = task.symbols(), task.numbers(6), task.definitions()
    for degree in range(6):
        for index in multi_indices(len(task.spikes), degree):
            exact = sp.sympify(task.moment(index, 1, symbols))
            assert exact.free_symbols <= values.keys()
            assert float(exact.subs(values)) == pytest.approx(float(task.moment(index, 1, numbers)), abs=1e-10)
    model = model_of(task)
    symbolic, numeric = Population(model, 4, symbolic=True), Population(model, 4)
    at = dict(zip(symbolic.overlaps, (0.3, -0.2, 0.4), strict=False))
    left = symbolic.objective.as_expr().subs(symbolic.values()).subs(at)
    assert float(left) == pytest.approx(float(numeric.objective(*at.values())), abs=1e-12)


def test_moments_of_a_chain_vs_the_path_products():
    """Binary latents: E[ν_u² ν_v ν_w] and the like are correlations of those with odd powers."""
    task, s = tree_task("u(v(w))", 0.6, beta_u=2.0), np.sqrt(10 / 11)
    par = task.numbers(6)
    for index, expected in {
        (2, 0, 0): 2.0, (1, 1, 0): np.sqrt(2) * s * 0.6, (1, 0, 1): np.sqrt(2) * s * 0.36, (0, 1, 1): s**2 * 0.6,
        (0, 2, 0): 0.0, (2, 1, 1): 2 * s**2 * 0.6, (0, 4, 0): -2 * s**4, (1, 3, 0): -2 * np.sqrt(2) * s**3 * 0.6,
        (1, 1, 1): 0.0, (0, 3, 3): 4 * s**6 * 0.6,
    }.items():  # fmt: skip
        assert task.planted_moment(index, par) == pytest.approx(expected, abs=1e-14)


def test_a_lone_binary_variable_is_the_spiked_cumulant_model():
    alone, reference = tree_task("u(v(w))", 0.6, beta_v=5.0).alone("w"), spiked_cumulant(gauss(4), 5.0)
    assert alone.spikes == ("w",)
    for k in range(9):
        pair = [float(t.planted_moment((k,), t.numbers(8))) for t in (alone, reference)]
        assert pair[0] == pytest.approx(pair[1], abs=1e-9)
    assert alone.alone("u") is None


def test_orders_come_from_the_moments():
    """Symmetric: 4 and negative, as Gauss's rule; skewed: 3; P = (1 ± 1/√3)/2 kills no third but the fourth cumulant."""
    assert tree_task("u(v)", 0.5).cumulant("v") == (4, pytest.approx(-2))
    table = DAG.marginal(("v",))
    nu = standardised(table)
    third = float(table @ [float(hermite(3, sp.Float(x))) for x in nu])
    assert TASKS["hierarchical"].cumulant("v") == (3, pytest.approx(third))
    assert TASKS["hierarchical"].useful_degrees() == {2: 1, 3: 1 if third > 0 else -1}
    # Three states with weights (1, 4, 1)/6 are Gauss's rule of three nodes: order 6, E[He_6] = -3!.
    three = HierarchicalCumulant(Hierarchy((Variable("v", (), ((1 / 6, 2 / 3, 1 / 6),)),)), (Planted("v", 9.0),))
    assert three.cumulant("v") == (6, pytest.approx(-6))
    assert three.signal_order == 6
    assert tree_task("u(v)", 0.5, ("u", "v")).signal_order == 2


def test_correlated_hidden_spikes_are_seen_in_pairs():
    """Each alone has order 4; two whitened ones of correlation ρ give C_11 = s² ρ, order 2, growth ½ c_2 s² ρ each."""
    pair = tree_task("v(w)", 0.4, visible=())
    assert first_form(Population(model_of(pair), 6))[0] == 2
    assert first_form(Population(model_of(pair.alone("v")), 6))[0] == 4
    (v, w) = Population(model_of(pair), 6).overlaps
    coefficient = Population(model_of(pair), 6).objective.coeff_monomial(v * w)
    assert float(coefficient) == pytest.approx(0.5 * 10 / 11 * 0.4 / np.sqrt(2 * np.pi))


def test_command_line_json(capsys):
    words = "--task hierarchical --hierarchy u(v(W(x))) --corr 0.7 --visible v --init typical --json"
    assert predict.main(words.split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["hierarchy"] == "u, u->v, v->W, W->x"
    assert found["model"]["spikes"] == "u=10,v=1 visible,x=10"
    assert {name: d["order_reached"] for name, d in found["directions"].items()} == {"u": 2, "v": 1, "x": 3}


@pytest.mark.parametrize(("words", "part"), [
    ("--task hierarchical", "nested"), ("--task hierarchical --hierarchy u(v", "nested"),
    ("--hierarchy u(v)", "mixed-cumulant"),
    ("--task hierarchical --hierarchy u(v) --corr 1.5", "-1 to 1"), ("--task hierarchical --hierarchy u(v) --p 3", "--p"),
    ("--task hierarchical --hierarchy u(v) --visible w", "visible"), ("--task hierarchical --hierarchy U(V)", "0 spikes"),
    ("--task hierarchical --hierarchy u(v,w,x,y)", "lower --order"), ("--visible u", "mixed-cumulant"),
    ("--task hierarchical --hierarchy u(v) --visible U --beta-u 3", "visible"),
    ("--task hierarchical --hierarchy U(v) --beta-u 3", "beta-u"),
    ("--task hierarchical --hierarchy u(v) --beta-v -1", "beta"),
    ("--task hierarchical --hierarchy u(a,b,c,d,e,f) --order 4", "1 … 6"),
])  # fmt: skip
def test_bad_command_lines_end_in_one_line(words, part, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main(words.split())
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert part in err


def test_levels_command(capsys, tmp_path):
    words = "--hierarchy u(v) --dim 100 --runs 16 --order 8 --samples 5000 --quiet --corr 0.8"
    assert levels.main([*words.split(), "--corr", "0.6,0.8", "--json", "--plot", str(tmp_path / "a.png")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [p["corr"] for p in found["points"]] == [0.6, 0.8]
    assert found["points"][0]["spikes"]["v"]["rank"] == 2
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert levels.main(words.split()) == 0
    assert "as predicted in all pairs" in capsys.readouterr().out
    for bad in ("--corr a", "--task mixed-cumulant", "--runs 0", "--corr 0.4 --p 5"):
        with pytest.raises(SystemExit):
            levels.main(bad.split())
        assert capsys.readouterr().err.count("\n") == 1
