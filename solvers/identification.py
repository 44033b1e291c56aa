"""The hierarchy behind observed leaves, from rank tests of their tables: trees, and multi-level graphs with mixed children.

What is claimed and what is not. Only rejections are evidence. All tests of a family are corrected together (Holm), so that
with chance >= 1 − level no rejection is false, and then every inner edge of a recovered tree is an edge of the true one:
errors are missing edges, contracted into a star, and such stars are listed as undetermined. Holm, and not a false discovery
rate, because one false rejection can make a false edge, and because it holds for dependent tests. Limits: see
``theory.random_hierarchies``; the direction of a tree's edges is no property of the leaves' law.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.leaf_table import LeafTable
from solvers.quartets import quartets_of, tree_closure
from solvers.rank_tests import holm
from theory.errors import require

MOST_LEAVES = 16
Cluster = frozenset[int]


@dataclass(frozen=True)
class Recovered:
    """A graph (networkx: undirected for a tree, parent -> child for levels) of leaves and latents h1, h2, ….

    ``states``: rank that a variable of the hierarchy can cause, the number of states of the latents, in all and one by one
    (a lower bound: the largest rank of two leaves that it separates). ``undetermined``: what the sample did not decide,
    each with what was assumed; ``misfits``: what no hierarchy within the limits can show.
    """

    graph: Any
    leaves: tuple[str, ...]
    states: int
    latent_states: dict[str, int]
    undetermined: tuple[str, ...]
    misfits: tuple[str, ...]

    @property
    def latents(self) -> tuple[str, ...]:
        """Names of the latents."""
        return tuple(n for n in self.graph if n not in self.leaves)


def check_request(table: LeafTable, level: float, states: int | None) -> None:
    """Raise InputError outside 4 … 16 leaves, 0 < level < 1, states >= 2."""
    n = len(table.names)
    require(4 <= n <= MOST_LEAVES, "leaves", n, f"4 … {MOST_LEAVES} observed variables", "leave some out")
    require(0 < level < 1, "level", level, "a number between 0 and 1")
    require(states is None or 2 <= states <= 8, "states", states, "2 … 8")


def pair_ranks(table: LeafTable, level: float) -> NDArray[np.int64]:
    """Ranks (n, n) of the tables of two leaves: the least k that is not rejected; overestimated nowhere, chance 1 − level."""
    n = len(table.names)
    ranks = np.ones((n, n), dtype=np.int64)
    open_pairs, tests = table.pairs, max(table.sizes) - 1
    for rank in range(1, tests + 1):
        p = table.p_values([((a,), (b,)) for a, b in table.pairs], rank)
        rejected = set(np.flatnonzero(holm(p, level / tests)).tolist())
        open_pairs = [pair for k, pair in enumerate(table.pairs) if k in rejected and pair in open_pairs]
        for a, b in open_pairs:
            ranks[a, b] = ranks[b, a] = rank + 1
    return ranks


def common_states(ranks: NDArray[np.int64], states: int | None) -> int:
    """The number of states of the latents: as given, else the largest rank of two leaves, at least 2."""
    return states or max(2, int(ranks.max()))


def identify_tree(table: LeafTable, level: float, states: int | None = None) -> Recovered:
    """The tree: its inner edges are the splits of the leaves all of whose quartets are decided (Buneman 1971).

    Quartets are decided by rejections and by what these imply for trees. Raises InputError (``check_request``).
    """
    check_request(table, level, states)
    ranks = pair_ranks(table, level)
    k = common_states(ranks, states)
    quartets = quartets_of(table, k)
    rejected, contradictions = tree_closure(quartets, quartets.rejected(level))
    decided = (rejected.sum(axis=1) == 2)[:, None] & ~rejected

    def resolved(a: int, b: int, c: int, d: int) -> bool:
        return bool(decided[quartets.place(a, b, c, d)])

    clusters = _buneman(len(table.names), resolved)
    graph, above = _tree_graph(table.names, clusters)
    unsure = [] if isinf(table.samples) else _stars(graph, table.names, rejected, quartets.members, above)
    alone = [table.names[v] for v in range(len(ranks)) if ranks[v].max() < 2]
    unsure += [f"{name}: no dependence on another leaf found; assumed to hang on {above[name]}" for name in alone]
    full = int((rejected.sum(axis=1) == 3).sum())
    misfits = [f"{contradictions} sets of five leaves contradict every tree"] * (contradictions > 0)
    misfits += [f"{full} quartets have rank above {k} in all three pairings"] * (full > 0)
    return Recovered(graph, table.names, k, _tree_states(graph, table.names, ranks), tuple(unsure), tuple(misfits))


def _buneman(n: int, resolved: Any) -> list[Cluster]:
    """Sides without leaf 0 of all splits, trivial ones too, whose quartets are all resolved; leaf after leaf.

    Such splits are compatible, so that there are never more than 2n − 3.
    """
    splits: list[tuple[Cluster, Cluster]] = [(frozenset({0}), frozenset({1}))]
    for new in range(2, n):
        grown = []
        for left, right in splits:
            for side, other in ((left, right), (right, left)):
                old = sorted(side)
                pairs = [(a, b) for i, a in enumerate(sorted(other)) for b in sorted(other)[i + 1 :]]
                if all(resolved(new, a, b, c) for a in old for b, c in pairs):
                    joined = side | {new}
                    grown.append((joined, other) if 0 in joined else (other, joined))
        grown.append((frozenset(range(new)), frozenset({new})))
        splits = list(dict.fromkeys(grown))
    return [right for _, right in splits]


def _tree_graph(names: Sequence[str], clusters: list[Cluster]) -> tuple[Any, dict[str, str]]:
    """The undirected tree of nested clusters, seen from leaf 0, and the neighbour of every leaf."""
    import networkx as nx

    n = len(names)
    inner = sorted((c for c in clusters if 1 < len(c) < n - 1), key=lambda c: (-len(c), sorted(c)))
    nodes = [frozenset(range(1, n)), *inner]
    label = {c: f"h{k + 1}" for k, c in enumerate(nodes)}
    graph = nx.Graph()
    graph.add_nodes_from([*label.values(), *names])
    graph.add_edge(label[nodes[0]], names[0])
    above = {names[0]: label[nodes[0]]}
    for c in [*inner, *(frozenset({v}) for v in range(1, n))]:
        parent = min((d for d in nodes if c < d), key=len)
        graph.add_edge(label[parent], label.get(c) or names[min(c)])
        if len(c) == 1:
            above[names[min(c)]] = label[parent]
    return graph, above


def _branches(graph: Any, latent: str, names: Sequence[str]) -> list[set[int]]:
    """Leaves behind each neighbour of a latent."""
    import networkx as nx

    rest = graph.copy()
    rest.remove_node(latent)
    return [{k for k, name in enumerate(names) if name in part} for part in nx.connected_components(rest)]


def _stars(
    graph: Any, names: Sequence[str], rejected: NDArray[np.bool_], members: NDArray[np.int64], above: dict[str, str]
) -> list[str]:
    """The latents with more than three branches: no sample can prove a star."""
    found = []
    for latent in sorted(set(graph) - set(above), key=lambda h: int(h[1:])):
        branches = _branches(graph, latent, names)
        if len(branches) < 4:
            continue
        place = np.zeros(len(names), dtype=np.int64)
        for k, branch in enumerate(branches):
            place[sorted(branch)] = k
        ordered = np.sort(place[members], axis=1)
        across = np.all(np.diff(ordered, axis=1) > 0, axis=1)
        some = int((rejected[across].sum(axis=1) > 0).sum())
        found.append(
            f"{latent}: {len(branches)} branches, {int(across.sum())} quartets across them undecided "
            f"({some} with a rejection); assumed a star"
        )
    return found


def _tree_states(graph: Any, names: Sequence[str], ranks: NDArray[np.int64]) -> dict[str, int]:
    """For each latent the largest rank of two leaves on different branches."""
    states = {}
    for latent in [n for n in graph if n not in names]:
        branches = _branches(graph, latent, names)
        states[latent] = max(
            int(ranks[np.ix_(sorted(a), sorted(b))].max()) for i, a in enumerate(branches) for b in branches[i + 1 :]
        )
    return states
