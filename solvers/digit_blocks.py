"""Image regions from scikit-learn's handwritten digits: 16 blocks of 2 × 2 pixels, each above or below its median.

The tree of two-state latents is put to the test first (``identify_tree``). What is drawn is the least refuted hierarchy: in
every four blocks the pairing with the smallest statistic of rank <= 2 gets a vote, and average linkage joins the blocks
that are paired in most of the votes. It is a summary, not an identified model; nothing in it knows where a block is.
"""

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import average
from scipy.spatial.distance import squareform

from solvers.identification import Recovered, identify_tree
from solvers.identification_baselines import information_distances
from solvers.leaf_table import LeafTable, sampled
from solvers.quartets import PAIRINGS, quartet_groups, quartets_of
from solvers.rank_tests import table_rank_tests
from theory.errors import require
from theory.results import Array, replica_seed, stream

SIDE, STATES = 4, 2
CHECKS = 10  # stream of the seed
PERMUTATIONS, HALVINGS = 999, 20
NAMES = tuple(f"r{row + 1}c{column + 1}" for row in range(SIDE) for column in range(SIDE))
Regions = frozenset[frozenset[int]]


@dataclass(frozen=True)
class Check:
    """A share of regions that passed, its mean under the null, and the chance of as much under the null."""

    share: float
    null: float
    p_value: float


@dataclass(frozen=True)
class DigitBlocks:
    """The study of the blocks ``states`` (n_images, 16), row by row."""

    states: NDArray[np.int64]
    level: float
    seed: int

    @cached_property
    def table(self) -> LeafTable:
        """The images as samples."""
        return sampled(NAMES, self.states)

    @cached_property
    def verdict(self) -> Recovered:
        """The tree of two-state latents, as far as the tests let it stand."""
        return identify_tree(self.table, self.level, STATES)

    @cached_property
    def refuted(self) -> tuple[int, int]:
        """Quartets all of whose pairings are rejected, which no such tree allows, and all quartets."""
        rejected = quartets_of(self.table, STATES).rejected(self.level)
        return int((rejected.sum(axis=1) == 3).sum()), len(rejected)

    @cached_property
    def tree(self) -> Array:
        """Linkage matrix (15, 4) of the least refuted hierarchy."""
        return least_refuted(self.table)

    @cached_property
    def baseline(self) -> Array:
        """Linkage matrix of the information distances."""
        return by_information(self.table)

    def contiguity(self, tree: Array) -> Check:
        """Share of the regions that are connected on the grid; null: blocks permuted over the grid."""
        rng = np.random.default_rng(stream(replica_seed(self.seed, 0), CHECKS))
        found = regions(tree)
        share = connected(found, np.arange(len(NAMES)))
        null = [connected(found, rng.permutation(len(NAMES))) for _ in range(PERMUTATIONS)]
        return Check(share, float(np.mean(null)), (1 + sum(value >= share for value in null)) / (PERMUTATIONS + 1))

    def stability(self, method: str) -> Check:
        """Share of regions common to the trees of two random halves of the images; null: blocks of one half permuted."""
        build = {"rank tests": least_refuted, "information": by_information}[method]
        shares, null = [], []
        for halving in range(HALVINGS):
            rng = np.random.default_rng(stream(replica_seed(self.seed, halving + 1), CHECKS))
            order = rng.permutation(len(self.states))
            first, second = (regions(build(sampled(NAMES, self.states[part]))) for part in np.array_split(order, 2))
            shares.append(len(first & second) / len(first))
            for _ in range(PERMUTATIONS // HALVINGS):
                place = rng.permutation(len(NAMES))
                null.append(len({frozenset(int(place[v]) for v in r) for r in first} & second) / len(first))
        share = float(np.mean(shares))
        return Check(share, float(np.mean(null)), (1 + sum(value >= share for value in null)) / (len(null) + 1))


def digit_blocks(level: float, seed: int) -> DigitBlocks:
    """Load the 1797 images. Raises InputError without scikit-learn."""
    have = find_spec("sklearn") is not None
    require(have, "--digits", "no scikit-learn", "nothing without it", "pip install 'downstairs[digits]'")
    require(0 < level < 1, "level", level, "a number between 0 and 1")
    require(seed >= 0, "seed", seed, "a whole number >= 0")
    from sklearn.datasets import load_digits

    blocks = load_digits().images.reshape(-1, SIDE, 2, SIDE, 2).mean(axis=(2, 4)).reshape(-1, SIDE * SIDE)
    return DigitBlocks((blocks > np.median(blocks, axis=0)).astype(np.int64), level, seed)


def least_refuted(table: LeafTable) -> Array:
    """Average linkage of 1 − (share of the quartets with a and b in which ab|cd has the smallest statistic)."""
    n = len(table.names)
    groups = quartet_groups(n)
    statistic = table_rank_tests(table.tables(groups), table.samples, STATES).statistic.reshape(-1, 3)
    best = np.eye(3)[statistic.argmin(axis=1)]
    lost, seen = np.zeros((n, n)), np.zeros((n, n))
    for k, (first, second) in enumerate(groups):
        for a, b in (first, second):
            lost[a, b] += 1 - best[k // len(PAIRINGS), k % len(PAIRINGS)]
            seen[a, b] += 1
    distance = np.divide(lost, seen, out=np.zeros_like(lost), where=seen > 0)
    return np.asarray(average(squareform(distance + distance.T)))


def by_information(table: LeafTable) -> Array:
    """Average linkage of the information distances."""
    return np.asarray(average(squareform(information_distances(table), checks=False)))


def regions(tree: Array) -> Regions:
    """The sets of blocks below the inner nodes, the root aside."""
    n = len(tree) + 1
    below = [frozenset({v}) for v in range(n)]
    for left, right, *_ in tree:
        below.append(below[int(left)] | below[int(right)])
    return frozenset(below[n:-1])


def connected(found: Regions, place: NDArray[np.int64]) -> float:
    """Share of the regions whose blocks, put at ``place``, hang together by their sides."""
    import networkx as nx

    grid = nx.grid_2d_graph(SIDE, SIDE)
    cells = [divmod(int(p), SIDE) for p in place]
    return float(np.mean([nx.is_connected(grid.subgraph([cells[v] for v in region])) for region in found]))
