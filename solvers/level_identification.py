"""Multi-level graphs with mixed children, from the lowest level up: siblings by quartets, covers of mixed ones by groups.

At each level the variables ("items") are seen through leaves that depend on the rest through them alone.
Pure siblings: a, b have one common parent and no other iff no pairing ab|cd has a table of rank > k.
Covers: Pa(m) ⊆ S iff the table of {m, one leaf below each s ∈ S} against {another leaf below each s ∈ S, a leaf below t} has
rank <= k^|S| for every t. An edge s -> m is drawn iff s is in every cover that stands, so that rejections alone draw it.
That a child is pure is never proved, only not refuted: a parent too weak for the sample is missing without notice.
"""

from dataclasses import dataclass
from itertools import combinations
from math import isinf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from solvers.identification import Recovered, check_request, common_states, pair_ranks
from solvers.leaf_table import Group, LeafTable
from solvers.quartets import PAIRINGS, Quartets, quartets_of
from solvers.rank_tests import holm
from theory.results import Array

REFUTED = 2.0  # distance of two items that are not pure siblings; others have 1 − p < 1


@dataclass(frozen=True)
class Item:
    """A variable of one level: for each of its pure children the leaves through which that child is seen; a leaf: itself."""

    name: str
    seen: tuple[Group, ...]

    @property
    def leaves(self) -> Group:
        """All of them."""
        return tuple(v for group in self.seen for v in group)


@dataclass(frozen=True)
class _Sample:
    """The tests that all levels share; ``level`` is left for the covers."""

    table: LeafTable
    states: int
    ranks: NDArray[np.int64]
    quartets: Quartets
    rejected: NDArray[np.bool_]
    level: float


def identify_levels(table: LeafTable, level: float, states: int | None = None) -> Recovered:
    """The multi-level graph. Half of ``level`` goes to the quartets, half to the covers, of which level ℓ has the share 2^-ℓ.

    Raises InputError (``identification.check_request``).
    """
    import networkx as nx

    check_request(table, level, states)
    ranks = pair_ranks(table, level)
    k = common_states(ranks, states)
    quartets = quartets_of(table, k)
    sample = _Sample(table, k, ranks, quartets, quartets.rejected(level / 2), level / 2)
    graph = nx.DiGraph()
    notes: list[str] = []
    misfits: list[str] = []
    graph.add_nodes_from(table.names)
    items = [Item(name, ((v,),)) for v, name in enumerate(table.names)]
    depth = 0
    while items:
        depth += 1
        items = _climb(sample, items, depth, graph, notes, misfits)
    unsure = () if isinf(table.samples) else tuple(notes)
    return Recovered(graph, table.names, k, _latent_states(graph, table.names, ranks), unsure, tuple(misfits))


def _climb(
    sample: _Sample, items: list[Item], depth: int, graph: Any, notes: list[str], misfits: list[str]
) -> list[Item]:
    """Draw the edges to the items of one level; the latents above them."""
    distance = _distances(sample, items)
    above: list[Item] = []
    for part in _dependent(sample, items):
        if len(part) == 1:
            if depth == 1:
                notes.append(f"{items[part[0]].name}: no dependence on another leaf found; assumed alone")
            continue
        groups = _siblings(distance[np.ix_(part, part)], part) if len(part) > 2 else [part]
        found = [g for g in groups if len(g) > 1]
        mixed = [items[g[0]] for g in groups if len(g) == 1]
        if not found:
            misfits.append(f"no pure siblings among {', '.join(items[i].name for i in part)}")
            continue
        if len(part) == 2:
            names = " and ".join(items[i].name for i in part)
            notes.append(f"{names}: how they depend on each other is not decided; assumed a common parent")
        parents = [_parent(items, g, graph) for g in found]
        _note_doubts(items, found, distance, notes)
        _draw_mixed(sample, mixed, parents, depth, graph, notes, misfits)
        above += parents
    return above


def _parent(items: list[Item], group: list[int], graph: Any) -> Item:
    """A new latent above pure siblings."""
    name = f"h{sum(graph.out_degree(n) > 0 for n in graph) + 1}"
    graph.add_edges_from((name, items[i].name) for i in group)
    return Item(name, tuple(items[i].leaves for i in group))


def _distances(sample: _Sample, items: list[Item]) -> Array:
    """For each two items: REFUTED if a pairing with them on one side was rejected, else 1 − their least p-value."""
    owner = np.full(len(sample.table.names), -1)
    for i, item in enumerate(items):
        owner[list(item.leaves)] = i
    held = owner[sample.quartets.members]
    ordered = np.sort(held, axis=1)
    usable = (ordered[:, 0] >= 0) & np.all(np.diff(ordered, axis=1) > 0, axis=1)
    distance = np.zeros((len(items), len(items)))
    for pairing, sides in enumerate(PAIRINGS):
        p, gone = sample.quartets.p_values[usable, pairing], sample.rejected[usable, pairing]
        for side in sides:
            a, b = held[usable][:, side].T
            np.maximum.at(distance, (a, b), np.where(gone, REFUTED, 1 - p))
    return np.asarray(np.maximum(distance, distance.T))


def _dependent(sample: _Sample, items: list[Item]) -> list[list[int]]:
    """Components of items that are linked by dependent leaves."""
    import networkx as nx

    links = nx.Graph()
    links.add_nodes_from(range(len(items)))
    for i, j in combinations(range(len(items)), 2):
        if sample.ranks[np.ix_(items[i].leaves, items[j].leaves)].max() > 1:
            links.add_edge(i, j)
    return [sorted(part) for part in nx.connected_components(links)]


def _siblings(distance: Array, part: list[int]) -> list[list[int]]:
    """Groups without a refuted pair, the likeliest pairs first: complete linkage."""
    number = fcluster(linkage(squareform(distance, checks=False), "complete"), 1.5, "distance")
    return [[part[k] for k in np.flatnonzero(number == g)] for g in np.unique(number)]


def _note_doubts(items: list[Item], groups: list[list[int]], distance: Array, notes: list[str]) -> None:
    """Groups that the sample does not keep apart."""
    for first, second in combinations(groups, 2):
        if np.any(distance[np.ix_(first, second)] < REFUTED):
            names = " | ".join(",".join(items[i].name for i in g) for g in (first, second))
            notes.append(f"{names}: some are not told apart; assumed two parents")


def _draw_mixed(
    sample: _Sample,
    mixed: list[Item],
    parents: list[Item],
    depth: int,
    graph: Any,
    notes: list[str],
    misfits: list[str],
) -> None:
    """The parents on which all covers of one or two latents that stand agree."""
    if not mixed:
        return
    standing = _standing_covers(sample, mixed, parents, sample.level / 2**depth)
    for item, covers in zip(mixed, standing, strict=True):
        if not covers:
            misfits.append(f"{item.name}: more than two parents, or none among {', '.join(p.name for p in parents)}")
            continue
        agreed = sorted(set.intersection(*map(set, covers)))
        graph.add_edges_from((parents[s].name, item.name) for s in agreed)
        if not any(set(cover) == set(agreed) for cover in covers):
            choice = " or ".join("{" + ",".join(parents[s].name for s in c) + "}" for c in covers)
            drawn = ",".join(parents[s].name for s in agreed) or "none"
            notes.append(f"{item.name}: parents {choice}; drawn what all have in common: {drawn}")


def _standing_covers(sample: _Sample, mixed: list[Item], parents: list[Item], level: float) -> list[list[Group]]:
    """For each mixed item the sets of one or two parents that no rejection refutes."""
    requests = [_cover_tests(item, pair, parents) for item in mixed for pair in combinations(range(len(parents)), 2)]
    groups = [g for request in requests for g in request]
    p = sample.table.p_values(groups, sample.states**2) if groups else np.ones(0)
    refuted = iter(np.split(holm(p, level), np.cumsum([len(r) for r in requests])[:-1]) if requests else [])
    standing: list[list[Group]] = []
    for item in mixed:
        covers: list[Group] = [(s,) for s, parent in enumerate(parents) if _pure_child(sample, item, parent)]
        covers += [pair for pair in combinations(range(len(parents)), 2) if not next(refuted).any()]
        standing.append(covers)
    return standing


def _cover_tests(item: Item, pair: Group, parents: list[Item]) -> list[tuple[Group, Group]]:
    """Groups whose tables have rank <= k² if the item's parents are in ``pair``: one for each further parent, twice."""
    tests = []
    for near, far in ((0, 1), (1, 0)):
        one = tuple(parents[s].seen[near][0] for s in pair)
        other = tuple(parents[s].seen[far][0] for s in pair)
        tests += [
            ((item.leaves[0], *one), (*other, parents[t].seen[0][0])) for t in range(len(parents)) if t not in pair
        ]
    return tests


def _pure_child(sample: _Sample, item: Item, parent: Item) -> bool:
    """No pairing of the item and a pure child of this parent against two other leaves was rejected."""
    members, rejected = sample.quartets.members, sample.rejected
    for pairing, sides in enumerate(PAIRINGS):
        for side in sides:
            pair = members[:, side]
            together = np.isin(pair, item.leaves).any(axis=1) & np.isin(pair, parent.leaves).any(axis=1)
            if rejected[together, pairing].any():
                return False
    return True


def _latent_states(graph: Any, names: tuple[str, ...], ranks: NDArray[np.int64]) -> dict[str, int]:
    """For each latent the largest rank of leaves below two of its children."""
    import networkx as nx

    below = {n: [k for k, leaf in enumerate(names) if leaf == n or leaf in nx.descendants(graph, n)] for n in graph}
    return {
        n: max(int(ranks[np.ix_(below[a], below[b])].max()) for a, b in combinations(graph.successors(n), 2))
        for n in graph
        if n not in names
    }
