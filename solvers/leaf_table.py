"""The distribution of observed variables, from samples or exact, and its answers: p-values of rank tests between groups."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import inf, isqrt, prod

import numpy as np
from numpy.typing import NDArray

from solvers.rank_tests import table_rank_tests
from theory.errors import require
from theory.hierarchy import Hierarchy
from theory.results import Array

MOST_STATES = 6  # of one variable: four of them have tables of 36 × 36
MOST_CELLS = 2**16  # of one table
AT_ONCE = 2**24  # cells of the tables held at a time
ROWS = 4096  # counted at a time
Group = tuple[int, ...]


@dataclass(frozen=True)
class LeafTable:
    """Different joint states ``rows`` (n_rows, n_variables) with their ``weights`` and ``sizes``, the numbers of states.

    ``samples`` is inf where the weights are exact probabilities: every test then answers without error.
    """

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    weights: Array
    sizes: tuple[int, ...]
    samples: float

    def tables(self, groups: Sequence[tuple[Group, Group]]) -> Array:
        """Joint tables (n_groups, states of the first group, states of the second) of pairs of groups of equal shapes.

        Indicators of all states of all first groups times those of all second ones: groups recur, and BLAS counts.
        """
        firsts, seconds = (list(dict.fromkeys(pair[side] for pair in groups)) for side in (0, 1))
        left, right = self._states(firsts[0]), self._states(seconds[0])
        counts = np.zeros((len(firsts) * left, len(seconds) * right))
        for start in range(0, len(self.rows), ROWS):
            part = slice(start, start + ROWS)
            weighted = self._indicators(firsts, left, part) * self.weights[part, None]
            counts += weighted.T @ self._indicators(seconds, right, part)
        blocks = counts.reshape(len(firsts), left, len(seconds), right)
        place = {group: k for k, group in enumerate(firsts)}, {group: k for k, group in enumerate(seconds)}
        return np.asarray(blocks[[place[0][a] for a, _ in groups], :, [place[1][b] for _, b in groups], :])

    def _states(self, group: Group) -> int:
        return prod(self.sizes[v] for v in group)

    def _indicators(self, groups: list[Group], states: int, part: slice) -> Array:
        """1 where a row is in a joint state of a group, (n_rows, n_groups · states)."""
        rows = self.rows[part]
        found = np.zeros((len(rows), len(groups) * states))
        for k, group in enumerate(groups):
            cell = np.zeros(len(rows), dtype=np.int64)
            for v in group:
                cell = cell * self.sizes[v] + rows[:, v]
            found[np.arange(len(rows)), k * states + cell] = 1
        return found

    def p_values(self, groups: Sequence[tuple[Group, Group]], rank: int) -> Array:
        """p-values (n_groups,) of rank <= ``rank`` for pairs of groups, which may differ in shape. Raises InputError."""
        shapes = [(self._states(a), self._states(b)) for a, b in groups]
        found = np.ones(len(groups))
        for shape in sorted(set(shapes)):
            cells = prod(shape)
            fits = cells <= MOST_CELLS
            require(fits, "groups", f"tables of {cells} cells", f"at most {MOST_CELLS}", "join some states")
            which = [k for k, s in enumerate(shapes) if s == shape]
            step = self._at_once([groups[k] for k in which], cells)
            for start in range(0, len(which), step):
                some = which[start : start + step]
                tables = self.tables([groups[k] for k in some])
                found[some] = table_rank_tests(tables, self.samples, rank).p_value
        return found

    def _at_once(self, groups: list[tuple[Group, Group]], cells: int) -> int:
        """Tests whose counts fit into memory together, however few groups recur among them if not all do."""
        blocks = len({a for a, _ in groups}) * len({b for _, b in groups})
        return len(groups) if blocks * cells <= AT_ONCE else max(1, isqrt(AT_ONCE // cells))

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of variables."""
        return list(combinations(range(len(self.names)), 2))


def sampled(names: Sequence[str], states: NDArray[np.int64]) -> LeafTable:
    """From samples (n, n_variables) of states 0, 1, …. Raises InputError for a variable that never changes."""
    require(
        states.ndim == 2 and states.shape[1] == len(names), "data", states.shape, f"columns: {len(names)} variables"
    )
    clash = [name for name in names if re.fullmatch(r"h\d+", name)]
    require(
        len(set(names)) == len(names) and not clash,
        "data",
        ", ".join(clash or names),
        "different names, none h1, h2, …",
    )
    require(len(states) >= 2, "data", f"{len(states)} samples", "two samples or more")
    bounds = f"states 0 … {MOST_STATES - 1}"
    low, high = int(states.min()), int(states.max())
    require(low >= 0 and high < MOST_STATES, "data", low if low < 0 else high, bounds, "join some states")
    sizes = tuple(int(s) + 1 for s in states.max(axis=0))
    for name, column in zip(names, states.T, strict=True):
        require(
            column.min() < column.max(),
            "data",
            f"{name} is always {column[0]}",
            "variables that change",
            "leave it out",
        )
    rows, counts = np.unique(states, axis=0, return_counts=True)
    return LeafTable(tuple(names), rows, counts.astype(float), sizes, float(len(states)))


def exact(hierarchy: Hierarchy) -> LeafTable:
    """The law of the leaves itself."""
    leaves = hierarchy.leaves
    joint = hierarchy.marginal(leaves)
    rows = np.indices(joint.shape).reshape(len(leaves), -1).T
    return LeafTable(leaves, rows, joint.ravel(), joint.shape, inf)
