"""Recovery of random hierarchies from n samples, against n and against baselines: as a table and as JSON."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from solvers.graph_scores import Score, score
from solvers.identification import Recovered, identify_tree
from solvers.identification_baselines import average_linkage, neighbour_joining
from solvers.leaf_table import LeafTable, sampled
from solvers.level_identification import identify_levels
from theory.errors import require
from theory.hierarchy import Hierarchy
from theory.random_hierarchies import random_levels, random_tree
from theory.results import Array, replica_seed, stream, wilson_interval

GRAPH, SAMPLES = 8, 9  # streams of a replica's seed
RANKS = "rank tests"
MOST_SAMPLES = 10**7
MOST_GRAPHS = 10_000


class Kind(Protocol):
    """What the study needs of a class of graphs."""

    @property
    def name(self) -> str:
        """As on the command line."""

    def draw(self, leaves: int, states: int, rng: np.random.Generator, strength: float) -> Hierarchy:
        """A random hierarchy."""

    def truth(self, hierarchy: Hierarchy) -> Any:
        """Its graph, as far as the leaves' law determines it."""

    def identify(self, table: LeafTable, level: float, states: int | None = None) -> Recovered:
        """By rank tests."""

    def baselines(self) -> dict[str, Callable[[LeafTable], Any]]:
        """Other ways to such a graph."""


@dataclass(frozen=True)
class Trees:
    """Latent trees: undirected. At most ``branches`` subtrees below a latent, three below the root."""

    branches: int = 3
    name: str = "tree"

    def draw(self, leaves: int, states: int, rng: np.random.Generator, strength: float) -> Hierarchy:
        """``random_tree``."""
        return random_tree(leaves, states, rng, strength, self.branches)

    def truth(self, hierarchy: Hierarchy) -> Any:
        """Without directions."""
        return hierarchy.graph.to_undirected()

    def identify(self, table: LeafTable, level: float, states: int | None = None) -> Recovered:
        """``identify_tree``."""
        return identify_tree(table, level, states)

    def baselines(self) -> dict[str, Callable[[LeafTable], Any]]:
        """Average linkage and neighbour joining of information distances."""
        return {
            "average linkage": lambda table: average_linkage(table, directed=False),
            "neighbour joining": neighbour_joining,
        }


@dataclass(frozen=True)
class Levels:
    """Multi-level graphs with mixed children: directed."""

    name: str = "dag"

    def draw(self, leaves: int, states: int, rng: np.random.Generator, strength: float) -> Hierarchy:
        """``random_levels``."""
        return random_levels(leaves, states, rng, strength)

    def truth(self, hierarchy: Hierarchy) -> Any:
        """As it is."""
        return hierarchy.graph

    def identify(self, table: LeafTable, level: float, states: int | None = None) -> Recovered:
        """``identify_levels``."""
        return identify_levels(table, level, states)

    def baselines(self) -> dict[str, Callable[[LeafTable], Any]]:
        """Average linkage of information distances."""
        return {"average linkage": lambda table: average_linkage(table, directed=True)}


@dataclass(frozen=True)
class IdentificationStudy:
    """``graphs`` random graphs, each with its own samples, of which the first n are used for each n of ``samples``."""

    kind: Kind
    graphs: int = 20
    leaves: int = 8
    states: int = 2
    samples: tuple[int, ...] = (1000, 10_000, 100_000)
    level: float = 0.05
    strength: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges that the graphs do not."""
        require(2 <= self.graphs <= MOST_GRAPHS, "graphs", self.graphs, f"2 … {MOST_GRAPHS}, for intervals over graphs")
        require(self.seed >= 0, "seed", self.seed, "a whole number >= 0")
        require(0 < self.level < 1, "level", self.level, "a number between 0 and 1")
        rising = len(self.samples) >= 1 and all(a < b for a, b in zip(self.samples, self.samples[1:], strict=False))
        got = ",".join(map(str, self.samples))
        require(rising and self.samples[0] >= 100 and self.samples[-1] <= MOST_SAMPLES, "samples", got,
                f"rising numbers, 100 … {MOST_SAMPLES}")  # fmt: skip

    def hierarchy(self, replica: int) -> Hierarchy:
        """The graph of one replica with its tables."""
        rng = np.random.default_rng(stream(replica_seed(self.seed, replica), GRAPH))
        return self.kind.draw(self.leaves, self.states, rng, self.strength)

    def drawn(self, replica: int) -> tuple[Hierarchy, NDArray[np.int64]]:
        """The hierarchy of one replica and the samples of its leaves, (n, n_leaves)."""
        hierarchy = self.hierarchy(replica)
        rng = np.random.default_rng(stream(replica_seed(self.seed, replica), SAMPLES))
        columns = [hierarchy.index(leaf) for leaf in hierarchy.leaves]
        return hierarchy, hierarchy.sample(self.samples[-1], rng)[:, columns]

    def replica(self, replica: int) -> list[dict[str, Score]]:
        """Scores for each n by method; alone as among others."""
        hierarchy, states = self.drawn(replica)
        truth = self.kind.truth(hierarchy)
        found = []
        for n in self.samples:
            table = sampled(hierarchy.leaves, states[:n])
            graphs = {name: method(table) for name, method in self.kind.baselines().items()}
            graphs[RANKS] = self.kind.identify(table, self.level).graph
            found.append(
                {name: score(truth, graphs[name], hierarchy.leaves) for name in (RANKS, *self.kind.baselines())}
            )
        return found

    def run(self, progress: Callable[[], object] = lambda: None) -> "IdentificationResult":
        """Graph after graph; Ctrl-C keeps what is finished if that is two graphs or more."""
        scores: list[list[dict[str, Score]]] = []
        try:
            for i in range(self.graphs):
                scores.append(self.replica(i))
                progress()
        except KeyboardInterrupt:
            if len(scores) < 2:
                raise
        return IdentificationResult(self, tuple(scores))


@dataclass(frozen=True)
class IdentificationResult:
    """Scores by graph, n and method; of fewer graphs than asked for after Ctrl-C."""

    study: IdentificationStudy
    scores: tuple[list[dict[str, Score]], ...]

    @property
    def interrupted(self) -> bool:
        """Some graphs were given up."""
        return len(self.scores) < self.study.graphs

    @property
    def methods(self) -> tuple[str, ...]:
        """Rank tests first."""
        return tuple(self.scores[0][0])

    def values(self, method: str, what: str) -> Array:
        """One number of the scores (``distance``, ``f1``, ``exact``, ``false_latents``), shape (n_graphs, n_samples)."""
        return np.array([[float(getattr(at[method], what)) for at in graph] for graph in self.scores])

    def mean(self, method: str, what: str) -> tuple[Array, Array, Array]:
        """Mean over graphs for each n and the ends of its 95 % interval: Student's t, cut at what is possible."""
        values = self.values(method, what)
        half = stdtrit(len(values) - 1, 0.975) * values.std(axis=0, ddof=1) / np.sqrt(len(values))
        centre, most = values.mean(axis=0), 1.0 if what == "f1" else np.inf
        return centre, np.maximum(centre - half, 0), np.minimum(centre + half, most)

    def share(self, method: str, what: str) -> list[tuple[float, tuple[float, float]]]:
        """Share of graphs where a number is not 0, for each n, with its 95 % interval (Wilson)."""
        hits, n = (self.values(method, what) > 0).sum(axis=0), len(self.scores)
        return [(float(h) / n, wilson_interval(int(h), n)) for h in hits]


def study_table(result: IdentificationResult) -> str:
    """For people."""
    study = result.study
    head = ("samples", "method", "F1", "95 %", "SHD", "95 %", "exact", "95 %", "false latent")
    rows = [head]
    for k, n in enumerate(study.samples):
        for method in result.methods:
            f1, shd = result.mean(method, "f1"), result.mean(method, "distance")
            exact, false = result.share(method, "exact")[k], result.share(method, "false_latents")[k]
            rows.append((
                str(n), method, f"{f1[0][k]:.3f}", f"{f1[1][k]:.3f} – {f1[2][k]:.3f}", f"{shd[0][k]:.2f}",
                f"{shd[1][k]:.2f} – {shd[2][k]:.2f}", f"{exact[0]:.2f}", f"{exact[1][0]:.2f} – {exact[1][1]:.2f}",
                f"{false[0]:.2f}",
            ))  # fmt: skip
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    edges = np.mean([study.kind.truth(study.hierarchy(i)).number_of_edges() for i in range(len(result.scores))])
    lines = [
        f"graphs     {len(result.scores)} random graphs, kind {study.kind.name}, {study.leaves} leaves, "
        f"{study.states} states, strength {study.strength:g}, {edges:.1f} edges in the mean",
        f"tests      rank <= k, family-wise level {study.level:g} (Holm)",
        "",
        *("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows),
        "",
        "F1, SHD    means over graphs; exact, false latent: shares of graphs (the same graph; a latent above leaves "
        "that no true latent is above)",
    ]
    return "\n".join(lines) + "\n"


def study_json(result: IdentificationResult) -> str:
    """``{"schema": 1, "model", "samples", "level", "methods": {name: {f1, distance: {mean, low, high}, exact, …}}}``."""

    def means(method: str, what: str) -> dict[str, list[float]]:
        return {name: v.tolist() for name, v in zip(("mean", "low", "high"), result.mean(method, what), strict=True)}

    def shares(method: str, what: str) -> dict[str, list[float]]:
        found = result.share(method, what)
        return {"share": [s for s, _ in found], "low": [i[0] for _, i in found], "high": [i[1] for _, i in found]}

    study = result.study
    return json.dumps({
        "schema": 1,
        "interrupted": result.interrupted,
        "model": {
            "kind": study.kind.name, "graphs": len(result.scores), "leaves": study.leaves, "states": study.states,
            "strength": study.strength, "seed": study.seed,
        },
        "samples": list(study.samples),
        "level": study.level,
        "methods": {
            method: {
                "f1": means(method, "f1"), "distance": means(method, "distance"),
                "exact": shares(method, "exact"), "false_latent": shares(method, "false_latents"),
            }
            for method in result.methods
        },
    }, indent=2, allow_nan=False) + "\n"  # fmt: skip
