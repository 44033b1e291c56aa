"""Random hierarchies whose graph the law of the leaves betrays: latent trees, and multi-level graphs with mixed children.

Limits, under which ``solvers.identification`` recovers the graph from exact tables (Kong et al. 2024, arXiv:2406.00519, ask
for more general graphs; Choi et al. 2011 for these trees; Huang et al. 2022, arXiv:2210.01798, for rank and covers):

- only leaves are observed; all variables have the same number k of states;
- every latent has two pure children (children without another parent) or more, and three neighbours or more;
- multi-level: edges go from one level to the next, leaves are the lowest level, a variable has at most two parents, the
  highest level is one root with three children or more, or two independent roots;
- strength: with the other parent held, the rows P(child | parent's states) have smallest singular value >= ``strength``
  divided by the number of parents: no edge is nearly blind (rank faithfulness); a root's states have probability >= 1/(2k).
"""

from math import log
from typing import Any

import numpy as np
from numpy.random import Generator

from theory.errors import require
from theory.hierarchy import MOST_STATES as MOST_JOINT_STATES
from theory.hierarchy import ROUNDING, Hierarchy, Variable
from theory.results import Array

STRENGTHS = (0.1, 0.7)
MOST_TRIES = 100_000
LEAST = 0.01  # of any probability
MOST_LEAVES, MOST_STATES = 16, 4


def random_tree(leaves: int, states: int, rng: Generator, strength: float = 0.4, branches: int = 3) -> Hierarchy:
    """A tree of random shape: 2 … ``branches`` random subtrees are joined under a new latent until three are left.

    Leaves are x1, x2, …, latents h1 (the root), h2, …. Raises InputError outside 4 … 16 leaves, 2 … 4 states, 2 … 4 branches.
    """
    _check(leaves, states, strength)
    most = int((log(MOST_JOINT_STATES) / log(states) + 2) / 2 + ROUNDING)
    require(leaves <= most, "leaves", leaves, f"4 … {most} with {states} states: there may be {leaves - 2} latents")
    require(2 <= branches <= 4, "branches", branches, "2 … 4 subtrees below a latent, 2 for a binary tree")
    items, latents = _leaf_names(leaves), 0
    parents: dict[str, tuple[str, ...]] = {}
    while len(items) > 3:
        size = int(rng.integers(2, min(branches, len(items) - 2) + 1))
        chosen = [items.pop(int(rng.integers(len(items)))) for _ in range(size)]
        latents += 1
        parents.update({child: (f"latent{latents}",) for child in chosen})
        items.append(f"latent{latents}")
    parents.update({child: ("root",) for child in items})
    return _hierarchy(parents, states, rng, strength)


def random_levels(leaves: int, states: int, rng: Generator, strength: float = 0.4) -> Hierarchy:
    """A multi-level graph: a quarter of each level (none of fewer than five) has two random parents, the others one.

    Raises InputError outside 4 … 16 leaves and 2 … 4 states, and where the joint states are too many.
    """
    _check(leaves, states, strength)
    items, level = _leaf_names(leaves), 0
    parents: dict[str, tuple[str, ...]] = {}
    while len(items) > 2:
        level += 1
        mixed = len(items) // 4 if len(items) > 4 else 0
        above = [f"latent{level}-{k}" for k in range(max((len(items) - mixed) // 2, 1) if len(items) > 4 else 1)]
        shuffled = [items[k] for k in rng.permutation(len(items))]
        # Two pure children for each latent come first; what is left over goes anywhere.
        extra = [above[k] for k in rng.integers(len(above), size=len(items) - mixed - min(2 * len(above), len(items)))]
        owners = (above + above)[: len(items)] + extra
        for child, owner in zip(shuffled[mixed:], owners, strict=True):
            parents[child] = (owner,)
        for child in shuffled[:mixed]:
            pair = rng.choice(len(above), size=2, replace=False)
            parents[child] = tuple(above[k] for k in sorted(pair))
        items = above
    return _hierarchy(parents, states, rng, strength)


def _check(leaves: int, states: int, strength: float) -> None:
    require(4 <= leaves <= MOST_LEAVES, "leaves", leaves, f"4 … {MOST_LEAVES}")
    require(2 <= states <= MOST_STATES, "states", states, f"2 … {MOST_STATES}")
    low, high = STRENGTHS
    require(low <= strength <= high, "strength", strength, f"{low} … {high}")


def _leaf_names(leaves: int) -> list[str]:
    return [f"x{k + 1}" for k in range(leaves)]


def _hierarchy(parents: dict[str, tuple[str, ...]], states: int, rng: Generator, strength: float) -> Hierarchy:
    """Draw the tables, from the roots down; latents are named in that order."""
    import networkx as nx

    graph: Any = nx.DiGraph([(p, child) for child, above in parents.items() for p in above])
    order = list(nx.topological_sort(graph))
    latents = [n for n in order if graph.out_degree(n)]
    name = {old: f"h{k + 1}" for k, old in enumerate(latents)}
    leaves = sorted((n for n in order if not graph.out_degree(n)), key=lambda n: int(n[1:]))
    variables = []
    for node in latents + leaves:
        above = tuple(name[p] for p in parents.get(node, ()))
        table = _rows(states, len(above), rng, strength) if above else _root(states, rng)
        variables.append(Variable(name.get(node, node), above, tuple(map(tuple, table.tolist()))))
    return Hierarchy(tuple(variables))


def _root(states: int, rng: Generator) -> Array:
    """One row, each state 1/(2k) or more."""
    return np.asarray(0.5 / states + 0.5 * rng.dirichlet(np.ones(states), size=1))


def _rows(states: int, n_parents: int, rng: Generator, strength: float) -> Array:
    """P(state | parents), shape (k^n_parents, k), by rejection until no parent is nearly blind.

    With random probabilities the child copies a parent, under a random permutation of states, or is drawn from a random row.
    """
    joint = np.indices((states,) * n_parents).reshape(n_parents, -1)
    for _ in range(MOST_TRIES):
        noise, *copies = rng.dirichlet(np.ones(n_parents + 1))
        rows = noise * rng.dirichlet(np.ones(states), size=states**n_parents)
        for parent, weight in zip(joint, copies, strict=True):
            rows += weight * np.eye(states)[rng.permutation(states)[parent]]
        rows = LEAST * np.ones(states) + (1 - states * LEAST) * rows
        cube = rows.reshape((states,) * (n_parents + 1))
        slices = [np.moveaxis(cube, axis, -2).reshape(-1, states, states) for axis in range(n_parents)]
        if min(np.linalg.svd(s, compute_uv=False).min() for s in slices) * n_parents >= strength:
            return rows
    raise AssertionError(f"no table of strength {strength} in {MOST_TRIES} tries")
