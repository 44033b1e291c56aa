"""Recovered hierarchies against the true ones: exactly from exact tables, with the stated confidence from samples."""

import re
from itertools import combinations, permutations
from math import inf

import networkx as nx
import numpy as np
import pytest
from scipy.stats import binomtest

from solvers.graph_scores import score
from solvers.identification import identify_tree, pair_ranks
from solvers.identification_baselines import average_linkage, information_distances, neighbour_joining
from solvers.identification_study import RANKS, IdentificationStudy, Levels, Trees
from solvers.leaf_table import exact, sampled
from solvers.level_identification import identify_levels
from solvers.quartets import PAIRINGS, quartet_groups, quartets_of, tree_closure
from tests.conftest import FALSE_ALARM, SEED
from theory.errors import InputError
from theory.hierarchy import Hierarchy, symmetric
from theory.random_hierarchies import random_levels, random_tree


def seeded(*words):
    return np.random.default_rng([SEED, *words])


def draw_leaves(hierarchy, n, rng):
    columns = [hierarchy.index(leaf) for leaf in hierarchy.leaves]
    return sampled(hierarchy.leaves, hierarchy.sample(n, rng)[:, columns])


def same(first, second, leaves):
    """Isomorphic with every leaf on itself, by networkx."""
    marked = []
    for graph in (first, second):
        copy = graph.copy()
        nx.set_node_attributes(copy, {n: n if n in leaves else "latent" for n in copy}, "who")
        marked.append(copy)
    return nx.is_isomorphic(*marked, node_match=lambda a, b: a["who"] == b["who"])


@pytest.mark.parametrize(
    ("leaves", "states"), [(4, 2), (5, 2), (6, 2), (7, 2), (8, 2), (10, 2), (11, 2), (5, 3), (7, 3)]
)
def test_tree_from_exact_tables_vs_truth(leaves, states):
    for k in range(8):
        hierarchy = random_tree(leaves, states, seeded(leaves, states, k), branches=2 + k % 3)
        found = identify_tree(exact(hierarchy), 0.05)
        assert same(found.graph, hierarchy.graph.to_undirected(), hierarchy.leaves)
        assert set(found.latent_states.values()) == {found.states} == {states}
        assert found.undetermined == found.misfits == ()


@pytest.mark.parametrize(("leaves", "states"), [(4, 2), (6, 2), (8, 2), (10, 2), (12, 2), (6, 3), (7, 3)])
def test_levels_from_exact_tables_vs_truth(leaves, states):
    for k in range(6):
        hierarchy = random_levels(leaves, states, seeded(leaves, states, k))
        found = identify_levels(exact(hierarchy), 0.05)
        assert same(found.graph, hierarchy.graph, hierarchy.leaves)
        assert set(found.latent_states.values()) == {found.states} == {states}
        assert found.undetermined == found.misfits == ()


def test_three_levels_with_a_mixed_latent_and_two_roots():
    """Mixed children on two levels, by the exact table of 11 leaves and from samples."""
    parents = {"r": None, "s": None} | {name: "r" for name in "ab"} | {name: "s" for name in "cd"}
    leaves = {f"{above}{k}": above for above in "abcdw" for k in (1, 2)}
    base = symmetric(parents, 0.8)
    mixed = ((0.9, 0.1), (0.45, 0.55), (0.6, 0.4), (0.1, 0.9))
    variables = [*base.variables, type(base.variables[0])("w", ("r", "s"), mixed)]
    variables += [
        type(base.variables[0])(leaf, (above,), ((0.93, 0.07), (0.05, 0.95))) for leaf, above in leaves.items()
    ]
    variables += [type(base.variables[0])("m", ("a", "c"), mixed)]
    hierarchy = Hierarchy(tuple(variables))
    found = identify_levels(exact(hierarchy), 0.05)
    assert same(found.graph, hierarchy.graph, hierarchy.leaves)
    by_samples = identify_levels(draw_leaves(hierarchy, 150_000, seeded(3)), 0.01)
    assert same(by_samples.graph, hierarchy.graph, hierarchy.leaves)


def test_rank_of_quartets_vs_separation():
    """The table of ab against cd has rank <= k iff one node separates them: networkx's minimum node cut."""
    for k in range(4):
        hierarchy = random_tree(7, 2, seeded(9, k))
        graph, leaves = hierarchy.graph.to_undirected(), hierarchy.leaves
        p = quartets_of(exact(hierarchy), 2).p_values.ravel()
        for (first, second), accepted in zip(quartet_groups(7), p == 1, strict=True):
            padded = graph.copy()
            for side, group in (("A", first), ("B", second)):
                padded.add_edges_from((side, leaves[v]) for v in group)
            assert accepted == (len(nx.minimum_node_cut(padded, "A", "B")) == 1)


def test_closure_vs_all_trees():
    """What the closure of random true rejections claims is true of the tree, and with all near quartets it is everything."""
    for k in range(20):
        rng = seeded(11, k)
        quartets = quartets_of(exact(random_tree(7, 2, rng)), 2)
        truth = quartets.rejected(0.05)
        grown, contradictions = tree_closure(quartets, truth & (rng.random(truth.shape) < 0.6))
        assert contradictions == 0
        assert not np.any(grown & ~truth)
        assert grown.sum() > 0.6 * truth.sum() or truth.sum() == 0
    broken = truth.copy()
    broken[:] = True
    assert tree_closure(quartets, broken)[1] > 0


def test_rejections_and_inner_edges_are_real_with_the_stated_confidence():
    """Samples that decide only some of the edges: a false rejection, or edge, in at most ``level`` of the trees."""
    level, graphs = 0.2, 120
    alarms, false, decided = 0, 0, 0
    for k in range(graphs):
        rng = seeded(12, k)
        hierarchy = random_tree(6, 2, rng)
        table = draw_leaves(hierarchy, 1500, rng)
        truth = quartets_of(exact(hierarchy), 2).rejected(level)
        alarms += bool((quartets_of(table, 2).rejected(level) & ~truth).any())
        found = identify_tree(table, level)
        false += score(hierarchy.graph.to_undirected(), found.graph, hierarchy.leaves).false_latents > 0
        decided += len(found.latents) - 1
    assert decided > graphs / 2
    assert binomtest(alarms, graphs, level, alternative="greater").pvalue > FALSE_ALARM
    assert false <= alarms


def test_more_samples_decide_more_and_stars_are_listed():
    parents = {"r": None} | dict.fromkeys("abc", "r") | {f"{above}{k}": above for above in "abc" for k in (1, 2)}
    hierarchy = symmetric(parents, 0.75)
    few, many = (identify_tree(draw_leaves(hierarchy, n, seeded(14)), 0.05) for n in (40, 20_000))
    assert len(few.latents) < 4 == len(many.latents)
    assert any("assumed a star" in line for line in few.undetermined)
    assert many.undetermined == ()


def test_edges_to_mixed_children_are_common_to_all_covers_that_stand():
    """Few samples leave several pairs of parents: the note names them, the graph has what they share."""
    doubts = 0
    for k in range(12):
        found = identify_levels(draw_leaves(random_levels(8, 2, seeded(23, k)), 1000, seeded(24, k)), 0.05)
        for note in found.undetermined:
            if "in common" in note:
                covers = [set(c.split(",")) for c in re.findall(r"{(.*?)}", note)]
                child = note.split(":")[0]
                assert set(found.graph.predecessors(child)) == set.intersection(*covers)
                doubts += 1
    assert doubts > 0


def test_pair_ranks_vs_singular_values():
    hierarchy = random_tree(6, 3, seeded(15))
    for a, b in combinations(range(6), 2):
        table = hierarchy.marginal([hierarchy.leaves[a], hierarchy.leaves[b]])
        assert pair_ranks(exact(hierarchy), 0.05)[a, b] == np.linalg.matrix_rank(table, tol=1e-12)
    coins = sampled(("a", "b", "c", "d"), seeded(16).integers(0, 3, size=(500, 4)))
    assert pair_ranks(coins, 1e-4).max() == 1
    assert sum("no dependence" in line for line in identify_tree(coins, 1e-4).undetermined) == 4


def test_data_beyond_trees_are_reported():
    hierarchy = random_levels(8, 2, seeded(17))
    assert identify_tree(exact(hierarchy), 0.05).misfits != ()


def relabelled_distance(truth, found, leaves):
    """The least Hamming distance over all ways to name the latents."""
    ours, theirs = ([n for n in g if n not in leaves] for g in (truth, found))
    edges = {frozenset(e) for e in truth.edges}
    size = max(len(ours), len(theirs))
    names = [*ours, *(f"?{k}" for k in range(size - len(ours)))]
    best = inf
    for order in permutations(names, len(theirs)):
        to = dict(zip(theirs, order, strict=True))
        best = min(best, len(edges ^ {frozenset((to.get(a, a), to.get(b, b))) for a, b in found.edges}))
    return best


def test_score_vs_all_relabellings():
    """Never below the least distance over all names, equal in most pairs, and 0 iff isomorphic."""
    equal = []
    for k in range(30):
        first, second = (random_tree(6, 2, seeded(18, k, side), branches=2) for side in (0, k % 5))
        graphs = first.graph.to_undirected(), second.graph.to_undirected()
        ours, best = score(*graphs, first.leaves).distance, relabelled_distance(*graphs, first.leaves)
        assert ours >= best
        assert (ours == 0) == same(*graphs, first.leaves)
        equal.append(ours == best)
    assert np.mean(equal) > 0.8


def test_score_of_known_graphs():
    truth = nx.DiGraph([("r", "h"), ("r", "c"), ("r", "d"), ("h", "a"), ("h", "b")])
    star = nx.DiGraph([("q", leaf) for leaf in "abcd"])
    result = score(truth, star, "abcd")
    assert (result.distance, result.f1, result.false_latents) == (5, 2 * 2 / (5 + 4), 0)
    turned = nx.DiGraph([("h", "r"), ("r", "c"), ("r", "d"), ("h", "a"), ("h", "b")])
    assert score(truth, turned, "abcd").distance == 1


def test_distance_is_additive_and_joining_vs_tree_on_binary_trees():
    """Exact tables: distances along a path add up, so that neighbour joining finds every binary tree."""
    hierarchy = symmetric({"r": None, "h": "r", "a": "h", "b": "h", "c": "r", "d": "r"}, 0.7)
    distances = information_distances(exact(hierarchy))
    assert distances == pytest.approx(-np.log(0.7) * np.array([[0, 2, 3, 3], [2, 0, 3, 3], [3, 3, 0, 2], [3, 3, 2, 0]]))
    for k in range(10):
        tree = random_tree(8, 2, seeded(19, k), branches=2)
        assert same(neighbour_joining(exact(tree)), identify_tree(exact(tree), 0.05).graph, tree.leaves)
    linked = average_linkage(exact(hierarchy), directed=False)
    assert same(linked, hierarchy.graph.to_undirected(), hierarchy.leaves)


def test_replica_alone_vs_among_others():
    for kind in (Trees(), Levels()):
        study = IdentificationStudy(kind, 3, 6, samples=(300, 2000), seed=SEED)
        assert study.run().scores[2] == study.replica(2)


def test_rank_tests_beat_the_baseline_and_grow_with_samples():
    for kind in (Trees(), Levels()):
        result = IdentificationStudy(kind, 8, 7, samples=(300, 20_000), seed=SEED).run()
        few, many = result.mean(RANKS, "f1")[0]
        assert many > few + 0.1
        assert many > result.mean("average linkage", "f1")[0][1] + 0.1


def test_interrupted_study_keeps_what_is_finished():
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    result = IdentificationStudy(Trees(), 9, 5, samples=(300,), seed=SEED).run(stop)
    assert result.interrupted
    assert len(result.scores) == 3


def test_tables_vs_counting():
    rng = seeded(20)
    states = rng.integers(0, 3, size=(400, 4))
    table = sampled(("a", "b", "c", "d"), states).tables([((0, 2), (3,))])[0]
    for a, c, d in ((0, 1, 2), (2, 2, 0)):
        assert table[3 * a + c, d] == np.sum((states[:, 0] == a) & (states[:, 2] == c) & (states[:, 3] == d))


def test_generated_graphs_are_within_the_limits():
    for k in range(20):
        tree, levels = random_tree(7, 3, seeded(21, k)), random_levels(12, 2, seeded(22, k))
        for hierarchy in (tree, levels):
            graph = hierarchy.graph
            for latent in set(graph) - set(hierarchy.leaves):
                pure = [c for c in graph.successors(latent) if graph.in_degree(c) == 1]
                assert len(pure) >= 2
                assert max(d for _, d in graph.in_degree()) <= 2
        assert min(d for n, d in tree.graph.degree() if n not in tree.leaves) >= 3
        assert max(dict(levels.graph.in_degree()).values()) == 2
        assert tree == random_tree(7, 3, seeded(21, k))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: random_tree(3, 2, seeded(1)), "leaves"),
        (lambda: random_tree(8, 3, seeded(1)), "4 … 7 with 3 states"),
        (lambda: random_levels(8, 7, seeded(1)), "states"),
        (lambda: random_tree(8, 2, seeded(1), strength=0.9), "strength"),
        (lambda: random_tree(8, 2, seeded(1), branches=9), "branches"),
        (lambda: identify_tree(exact(random_tree(5, 2, seeded(1))), 0.0), "level"),
        (lambda: identify_levels(exact(random_tree(5, 2, seeded(1))), 0.05, 1), "states"),
        (lambda: sampled("abcd", np.zeros((9, 4), dtype=int)), "always 0"),
        (lambda: sampled(("a", "b", "c", "h2"), np.eye(4, dtype=int)), "h2"),
        (lambda: sampled("abcd", np.eye(4, dtype=int) * 6), "0 … 5"),
        (lambda: IdentificationStudy(Trees(), 1), "graphs"),
        (lambda: IdentificationStudy(Trees(), samples=(1000, 100)), "samples"),
    ],
)
def test_bad_input(call, word):
    with pytest.raises(InputError, match=word):
        call()


def test_pairings_are_all():
    assert {frozenset(map(frozenset, p)) for p in PAIRINGS} == {
        frozenset({frozenset({0, k}), frozenset({1, 2, 3}) - {k}}) for k in (1, 2, 3)
    }
