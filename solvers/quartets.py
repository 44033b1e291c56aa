"""Four leaves at a time: which of the three pairings ab|cd, ac|bd, ad|bc have a table of rank <= k, and what follows.

If ab and cd are separated by one variable of k states, the table of (a,b) against (c,d) has rank <= k. In a tree either one
pairing is separated, or all three (a star); no other pattern exists.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from solvers.leaf_table import Group, LeafTable
from solvers.rank_tests import holm
from theory.results import Array

Flags = NDArray[np.bool_]
PAIRINGS = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))
FIVE_PAIRS = tuple(combinations(range(5), 2))


@dataclass(frozen=True)
class Quartets:
    """All quartets of ``leaves`` leaves in lexicographic order, with the p-values of their pairings, (n_quartets, 3)."""

    leaves: int
    p_values: Array

    @cached_property
    def members(self) -> NDArray[np.int64]:
        """Leaves of every quartet, (n_quartets, 4)."""
        return np.array(list(combinations(range(self.leaves), 4))).reshape(-1, 4)

    @cached_property
    def number(self) -> dict[tuple[int, ...], int]:
        """Place of a sorted quartet."""
        return {tuple(q): k for k, q in enumerate(self.members.tolist())}

    def place(self, a: int, b: int, c: int, d: int) -> tuple[int, int]:
        """Quartet and pairing of ab|cd."""
        ordered = sorted((a, b, c, d))
        partner = b if ordered[0] == a else a if ordered[0] == b else d if ordered[0] == c else c
        return self.number[tuple(ordered)], ordered.index(partner) - 1

    def rejected(self, level: float) -> Flags:
        """Pairings whose rank exceeds k, (n_quartets, 3): Holm over the whole family, no false one with chance 1 − level."""
        return holm(self.p_values, level)


def quartets_of(table: LeafTable, states: int) -> Quartets:
    """Test all 3·C(n, 4) pairings for rank <= ``states``."""
    n = len(table.names)
    return Quartets(n, table.p_values(quartet_groups(n), states).reshape(-1, 3))


def quartet_groups(leaves: int) -> list[tuple[Group, Group]]:
    """The two sides of every pairing, quartet after quartet."""
    quartets = combinations(range(leaves), 4)
    return [(tuple(q[i] for i in a), tuple(q[i] for i in b)) for q in quartets for a, b in PAIRINGS]


def tree_closure(quartets: Quartets, rejected: Flags) -> tuple[Flags, int]:
    """All that these rejections imply in a tree, and the number of sets of five leaves that contradict every tree.

    For each five leaves, the trees on them that are compatible with the rejections stand; a pairing that no standing tree
    displays is rejected too. Repeated until nothing changes, hence sound: true rejections imply only true ones. It is what
    lets quartets of near leaves, which need few samples, decide those of far ones (Erdős et al. 1999).
    """
    displayed = _five_leaf_trees()
    fives = np.array(list(combinations(range(quartets.leaves), 5))).reshape(-1, 5)
    places = np.array(
        [[quartets.number[tuple(np.delete(f, k).tolist())] for k in range(5)] for f in fives], dtype=np.int64
    ).reshape(-1, 5)
    flags = rejected.copy()
    while True:
        seen = flags[places].reshape(len(fives), 15)
        standing = (seen.astype(np.int64) @ displayed.T.astype(np.int64)) == 0
        possible = (standing.astype(np.int64) @ displayed.astype(np.int64)) > 0
        judged = standing.any(axis=1)
        implied = np.where(judged[:, None], ~possible, False).reshape(-1, 5, 3)
        grown = flags.copy()
        np.logical_or.at(grown, places.ravel(), implied.reshape(-1, 3))
        if np.array_equal(grown, flags):
            return flags, int((~judged).sum())
        flags = grown


def _five_leaf_trees() -> Flags:
    """The pairings that each of the 26 trees on five leaves displays, (26, 5·3); quartet k lacks leaf k."""
    splits = [frozenset(pair) for pair in FIVE_PAIRS]
    trees = [(), *((s,) for s in splits), *(p for p in combinations(splits, 2) if not p[0] & p[1])]
    displayed = np.ones((len(trees), 5, 3), dtype=bool)
    for t, tree in enumerate(trees):
        for missing in range(5):
            q = [leaf for leaf in range(5) if leaf != missing]
            for split in tree:
                if split <= set(q):
                    displayed[t, missing] = [
                        split in ({q[i] for i in first}, {q[i] for i in second}) for first, second in PAIRINGS
                    ]
    return displayed.reshape(len(trees), 15)
