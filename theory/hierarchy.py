"""Hierarchies of discrete variables: a directed acyclic graph with a conditional table at every node (Kong et al. 2024).

Values only: what makes a task of them is theory/hierarchical.py, what recovers them from samples is identification.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from theory.errors import require

Array = NDArray[np.float64]
MOST_STATES = 2**20
ROUNDING = 1e-9  # by which a row of probabilities may miss 1
NODE = "names of at most ten letters and digits that begin with a letter"
TREE = f"a tree in nested parentheses, {NODE}, as in u(v(w),x)"


@dataclass(frozen=True)
class Variable:
    """One discrete variable: ``table`` is P(state | joint state of the parents), one row for each joint state.

    Rows are ordered with the first parent slowest; without parents there is one row.
    """

    name: str
    parents: tuple[str, ...]
    table: tuple[tuple[float, ...], ...]

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.table[0])


@dataclass(frozen=True)
class Hierarchy:
    """Discrete variables, parents before children. Raises InputError for names, sizes or rows that do not fit."""

    variables: tuple[Variable, ...]

    def __post_init__(self) -> None:
        """Check names, order, shapes and probabilities."""
        require(bool(self.variables), "hierarchy", "no variable", "at least one")
        seen: dict[str, int] = {}
        for v in self.variables:
            require(v.name not in seen, "hierarchy", f"{v.name} twice", "different names")
            early = all(p in seen for p in v.parents) and len(set(v.parents)) == len(v.parents)
            require(early, f"parents of {v.name}", ", ".join(v.parents), "different variables that come before it")
            rows = prod(seen[p] for p in v.parents)
            sizes = {len(row) for row in v.table}
            shaped = len(v.table) == rows and len(sizes) == 1 and min(sizes) >= 2
            require(shaped, f"table of {v.name}", f"{len(v.table)} rows of {sorted(sizes)} states",
                    f"one row for each of {rows} joint states of the parents, all of the same 2 states or more")  # fmt: skip
            table = np.array(v.table, dtype=float)
            sums = bool(np.all(table >= 0)) and bool(np.all(np.abs(table.sum(axis=1) - 1) < ROUNDING))
            require(sums, f"table of {v.name}", table.tolist(), "probabilities that sum to 1 in each row")
            seen[v.name] = v.states
        joint = prod(seen.values())
        require(joint <= MOST_STATES, "hierarchy", f"{joint} joint states", f"at most {MOST_STATES}", "fewer variables")

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the variables."""
        return tuple(v.name for v in self.variables)

    def states(self, name: str) -> int:
        """Number of states of one variable."""
        return self.variables[self.index(name)].states

    def index(self, name: str) -> int:
        """Place of a variable. Raises InputError for an unknown name."""
        require(name in self.names, "variable", name, ", ".join(self.names))
        return self.names.index(name)

    @cached_property
    def graph(self) -> Any:
        """The ``networkx.DiGraph`` of parent -> child."""
        import networkx as nx  # here, because it costs 100 ms

        graph = nx.DiGraph()
        graph.add_nodes_from(self.names)
        graph.add_edges_from((p, v.name) for v in self.variables for p in v.parents)
        return graph

    @property
    def leaves(self) -> tuple[str, ...]:
        """Variables without children."""
        parents = {p for v in self.variables for p in v.parents}
        return tuple(n for n in self.names if n not in parents)

    @property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Variables by depth, the length of the longest path from a root."""
        import networkx as nx

        return tuple(tuple(level) for level in nx.topological_generations(self.graph))

    def describe(self) -> str:
        """Every variable after its parents, as in u, u->v, v->w."""
        return ", ".join("+".join(v.parents) + "->" + v.name if v.parents else v.name for v in self.variables)

    def marginal(self, names: Sequence[str]) -> Array:
        """Exact joint probabilities of these variables, axes in that order: the product of all tables, summed out."""
        axis = {name: self.index(name) for name in self.names}
        operands: list[Any] = []
        for v in self.variables:
            shape = [self.states(p) for p in v.parents] + [v.states]
            operands += [np.array(v.table, dtype=float).reshape(shape), [axis[n] for n in (*v.parents, v.name)]]
        return np.asarray(np.einsum(*operands, [self.index(n) for n in names], optimize="greedy"))

    def sample(self, n: int, rng: Generator) -> NDArray[np.int64]:
        """n independent joint states (n, n_variables) by ancestral sampling: one uniform number for each state."""
        states = np.zeros((n, len(self.variables)), dtype=np.int64)
        for k, v in enumerate(self.variables):
            row = np.zeros(n, dtype=np.int64)
            for p in v.parents:
                row = row * self.states(p) + states[:, self.index(p)]
            cuts = np.cumsum(np.array(v.table, dtype=float), axis=1)[:, :-1]
            states[:, k] = (rng.random(n)[:, None] >= cuts[row]).sum(axis=1)
        return states


def symmetric(parents: Mapping[str, str | None], corr: float | Mapping[str, float]) -> Hierarchy:
    """Binary symmetric variables on a tree or forest, named with their parents (None for a root), parents first.

    A child equals its parent with probability ½(1 + corr): ``corr`` of one number for all edges, or by child. The
    correlation of two variables is the product of the edges on the path between them.
    """
    variables = []
    for name, parent in parents.items():
        if parent is None:
            variables.append(Variable(name, (), ((0.5, 0.5),)))
            continue
        rho = corr[name] if isinstance(corr, Mapping) else corr
        require(-1 <= rho <= 1, "corr", rho, "a number from -1 to 1, the correlation along an edge")
        same, other = (1 + rho) / 2, (1 - rho) / 2
        variables.append(Variable(name, (parent,), ((same, other), (other, same))))
    return Hierarchy(tuple(variables))


def standardised(probabilities: Array) -> Array:
    """The states 0, 1, … shifted and scaled to mean 0 and variance 1 under these probabilities, shape (n_states,)."""
    number = np.arange(len(probabilities), dtype=float)
    mean = probabilities @ number
    variance = probabilities @ (number - mean) ** 2
    require(bool(variance > 1e-12), "variable", probabilities.tolist(), "a variable that is not constant")
    return np.asarray((number - mean) / sqrt(variance))


def tree_from_text(text: str) -> dict[str, str | None]:
    """Parents by name of a tree written ``u(v(w),x)``, parents first. Raises InputError; never evaluated."""
    tokens = re.findall(r"[A-Za-z][A-Za-z0-9]{0,9}|\S", text)
    require(0 < len(tokens) <= 200, "hierarchy", repr(text), TREE)
    parents: dict[str, str | None] = {}
    above: list[str] = []
    last, expected = "", "name"
    for token in tokens:
        if expected == "name":
            fresh = bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,9}", token)) and token not in parents
            require(fresh, "hierarchy", repr(text), TREE, "each name once")
            parents[token], last, expected = (above[-1] if above else None), token, "after"
        elif token == "(" and last:
            above.append(last)
            last, expected = "", "name"
        elif token == "," and above:
            expected = "name"
        else:
            require(token == ")" and bool(above), "hierarchy", repr(text), TREE)
            above.pop()
            last = ""  # a closed bracket takes no second one
    require(expected == "after" and not above, "hierarchy", repr(text), TREE)
    return parents
