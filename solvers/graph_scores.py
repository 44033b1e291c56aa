"""Distances of a recovered graph from the true one, up to the names of the latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment, quadratic_assignment

Edge = tuple[str, str]


@dataclass(frozen=True)
class Score:
    """``distance``: structural Hamming distance, edges missing or too many, a reversed one counted once.

    ``f1``: harmonic mean of precision and recall of the edges, with their direction where both graphs have one.
    ``false_latents``: latents whose set of leaves belongs to no true latent; 0 for a contraction of a true tree.
    """

    distance: int
    f1: float
    false_latents: int

    @property
    def exact(self) -> bool:
        """The two graphs are the same."""
        return self.distance == 0


def leaf_sets(graph: Any, leaves: Sequence[str]) -> dict[str, frozenset[str]]:
    """The leaves below every latent; of an undirected tree those on the far side from the first leaf."""
    import networkx as nx

    rooted = graph if graph.is_directed() else nx.bfs_tree(graph, leaves[0])
    below = {n: frozenset(nx.descendants(rooted, n)) & frozenset(leaves) for n in rooted}
    return {n: below[n] for n in graph if n not in leaves}


def score(truth: Any, found: Any, leaves: Sequence[str]) -> Score:
    """Compare networkx graphs, both directed or both not, whose latents are matched so that many edges agree.

    First by likeness of their sets of leaves, the sum of |A ∩ B|/|A ∪ B| (scipy's ``linear_sum_assignment``), then by
    exchanging pairs while that makes more edges agree (``quadratic_assignment``): a distance never below the least possible.
    """
    true_sets, found_sets = leaf_sets(truth, leaves), leaf_sets(found, leaves)
    names = _matching(truth, found, leaves, true_sets, found_sets)
    true_edges, found_edges = _edges(truth, {}), _edges(found, names)
    hits = len(true_edges & found_edges)
    skeletons = [{frozenset(edge) for edge in edges} for edges in (true_edges, found_edges)]
    reversed_edges = len(skeletons[0] & skeletons[1]) - hits
    return Score(
        len(skeletons[0] ^ skeletons[1]) + reversed_edges,
        2 * hits / (len(true_edges) + len(found_edges)),
        len(set(found_sets.values()) - set(true_sets.values())),
    )


def _matching(
    truth: Any,
    found: Any,
    leaves: Sequence[str],
    true_sets: dict[str, frozenset[str]],
    found_sets: dict[str, frozenset[str]],
) -> dict[str, str]:
    """Names of the latents of ``found`` in ``truth``; ?… for those without a partner."""
    import networkx as nx

    size = max(len(true_sets), len(found_sets))
    ours = [*true_sets, *(f"?{k}" for k in range(size - len(true_sets)))]
    theirs = [*found_sets, *(f"?{k}" for k in range(size - len(found_sets)))]
    likeness = np.zeros((size, size))
    for i, a in enumerate(true_sets.values()):
        likeness[i, : len(found_sets)] = [len(a & b) / max(len(a | b), 1) for b in found_sets.values()]
    guess = linear_sum_assignment(likeness, maximize=True)[1]
    matrices = []
    for graph, latents in ((truth, ours), (found, theirs)):
        whole = graph.copy()
        whole.add_nodes_from(latents)
        matrices.append(nx.to_numpy_array(whole, [*leaves, *latents]))
    n = len(leaves)
    fixed = np.repeat(np.arange(n)[:, None], 2, axis=1)
    pairs = np.column_stack([np.arange(size), guess]) + n
    # Every node has a partner from the start: the generator decides nothing.
    options = {"maximize": True, "partial_match": fixed, "partial_guess": pairs, "rng": np.random.default_rng(0)}
    best = quadratic_assignment(*matrices, method="2opt", options=options)
    return {theirs[j - n]: ours[i] for i, j in enumerate(best.col_ind[n:])}


def _edges(graph: Any, names: dict[str, str]) -> set[Edge]:
    """Edges under other names of the latents; undirected ones in alphabetical order."""
    edges = ((names.get(a, a), names.get(b, b)) for a, b in graph.edges)
    return set(edges) if graph.is_directed() else {(min(e), max(e)) for e in edges}
