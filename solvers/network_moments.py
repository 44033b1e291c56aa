"""Where the overlap ODE of a two-layer network takes its expectations from, at a state (R, P, a, b, a_0), h = R ξ + ζ.

- `ErfClosure`: closed form, erf network and erf teacher, squared loss [Saad, Solla 1995];
- `Cubature.exact`: Gauss-Hermite rules, sparse in many dimensions, exact for polynomial σ whatever the latents;
- `Cubature.sobol`: a fixed scrambled Sobol sample for everything else. One sample serves the whole flow, so the
  right-hand side is smooth, and independent scramblings tell the error.

The residual is r = ∂objective/∂f, and c_k = r K^(-γ) a_k σ'(h_k + b_k).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import comb, prod, sqrt
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from theory.activations import erf
from theory.errors import require
from theory.hermite import multi_indices
from theory.learners import CorrelationLoss, SquaredLoss
from theory.lower import compile_law, compile_network
from theory.networks import NetworkModel, Rates, symmetric_root
from theory.results import replica_seed
from theory.teacher_network import TeacherNetwork

Array = NDArray[np.float64]
LARGEST_CUBATURE = 2**17
PRODUCT_SHARE = 10  # in 4 … 6 dimensions the sparse rule has 4 to 14 nodes for every polynomial that it must integrate
LARGEST_CLOSED_FORM = 64  # neurons: K² (K + M)² / 2 arcsines a call


@dataclass(frozen=True)
class Moments:
    """Expectations at one state: E[c ξᵀ] (K, r), E[c ζᵀ] (K, K), E[c cᵀ] (K, K), E[c] (K,), E[r K^(-γ) σ] (K,), E[r]."""

    spikes: Array
    rest: Array
    squares: Array
    push: Array
    second: Array
    output: float


class Closure(Protocol):
    """A source of `Moments`."""

    @property
    def name(self) -> str:
        """What a report calls it."""
        ...

    @property
    def rtol(self) -> float:
        """Relative accuracy that is worth asking from the integrator."""
        ...

    def __call__(self, R: Array, P: Array, a: Array, b: Array, output: float) -> Moments:
        """The expectations at W U = R (K, r), W_⊥ W_⊥ᵀ = P (K, K), a (K,), b (K,), a_0."""
        ...

    def others(self, n: int) -> "list[Closure]":
        """Independent versions, whose scatter is the error; none if there is no sampling error."""
        ...


def choose_closure(model: NetworkModel, rates: Rates, b: Array, points: int, seed: int) -> Closure:
    """The first of closed form, exact cubature and Sobol sample that serves model, rates and biases ``b`` at the start."""
    if ErfClosure.serves(model) and rates.bias == 0 and not np.any(b):
        return ErfClosure(model)
    return Cubature.exact(model) or Cubature.sobol(model, points, seed)


@dataclass(frozen=True)
class Cubature:
    """Expectations as weighted sums over fixed inputs: ω (n,), y (n,), and X = (ξ | g) (n, r + K) with ζ = P^½ g."""

    model: NetworkModel
    name: str
    weight: Array
    label: Array
    inputs: Array
    rtol: float
    seed: int | None = None
    replica: int = 0

    @classmethod
    def sobol(cls, model: NetworkModel, points: int, seed: int, replica: int = 0) -> "Cubature":
        """``points`` (a power of 2) of a scrambled Sobol sequence; every ``replica`` is an independent scrambling."""
        from scipy.special import ndtri
        from scipy.stats import qmc

        from solvers._closure_kernels import label

        power = int(points).bit_length() - 1
        require(2**power == points and 4 <= power <= 24, "points", points, "a power of 2 from 16 to 2^24")
        law, r = model.task.law(), len(model.spikes)
        inner = r + len(law.normals)
        engine = qmc.Sobol(inner + model.learner.hidden, rng=np.random.default_rng(replica_seed(seed, replica)))
        normals = ndtri(engine.random_base2(power) + 2.0**-32)  # the grid has spacing 2^-30, and holds 0
        xi, y = np.zeros((points, r)), np.zeros(points)
        draw, theta = _lowered(law)
        label(draw, np.ascontiguousarray(normals[:, :r]), np.ascontiguousarray(normals[:, r:inner]), theta, xi, y)
        weight = np.full(points, 1 / points)
        inputs = np.hstack([xi, normals[:, inner:]])
        return cls(model, f"Sobol sample of {points} points", weight, y, inputs, 1e-3, seed, replica)

    @classmethod
    def exact(cls, model: NetworkModel) -> "Cubature | None":
        """Gauss-Hermite rule given each node of the latents; None if σ is no polynomial or the rule is too large.

        A label that is random given the latents takes the values mean ± deviation: y enters to the second power at most.
        """
        degree = _degree(model)
        if degree is None:
            return None
        law = model.task.mixture()
        r, hidden = law.mean.shape[1], model.learner.hidden
        free = np.flatnonzero(law.variance.any(axis=0))
        level = degree // 2
        noise = np.sqrt(np.maximum(law.label_powers[:, 2] - law.label_powers[:, 1] ** 2, 0))
        signs = np.array([0.0]) if np.all(noise <= 1e-12) else np.array([-1.0, 1.0])
        nodes = len(law.weight) * len(signs)
        if nodes * comb(len(free) + hidden + level, level) > LARGEST_CUBATURE:
            return None
        g, w = gauss_hermite(len(free) + hidden, level)
        if nodes * len(w) > LARGEST_CUBATURE:
            return None
        xi = np.repeat(law.mean[:, None], len(w), axis=1)
        xi[..., free] += np.sqrt(law.variance[:, None, free]) * g[:, : len(free)]
        inputs = np.concatenate([xi, np.broadcast_to(g[:, len(free) :], (*xi.shape[:2], hidden))], axis=2)
        weight, mean = law.weight[:, None] * w, law.label_powers[:, 1]
        label = np.concatenate([np.repeat(mean + s * noise, len(w)) for s in signs])
        return cls(
            model,
            f"exact cubature of {nodes * len(w)} points",
            np.tile(weight.ravel() / len(signs), len(signs)),
            label,
            np.tile(inputs.reshape(-1, r + hidden), (len(signs), 1)),
            1e-8,
        )

    def __call__(self, R: Array, P: Array, a: Array, b: Array, output: float) -> Moments:
        """One pass over the sample, the products by BLAS; cost n K (3 K + r)."""
        from solvers._closure_kernels import respond

        r, root = R.shape[1], symmetric_root(P)
        pushes, second = np.empty((len(self.label), len(a))), np.empty(len(a) + 1)
        H = self.inputs @ np.hstack([R, root]).T
        act, residual = self._compiled
        respond(
            act, residual, H, self.label, self.weight, a, b, output, self.model.learner.output_scale, pushes, second
        )
        weighted = pushes * self.weight[:, None]
        mixed = weighted.T @ self.inputs
        return Moments(
            spikes=mixed[:, :r],
            rest=mixed[:, r:] @ root,
            squares=weighted.T @ pushes,
            push=weighted.sum(axis=0),
            second=second[:-1],
            output=float(second[-1]),
        )

    def others(self, n: int) -> list[Closure]:
        """Further scramblings of a Sobol sample."""
        if self.seed is None:
            return []
        replicas = range(self.replica + 1, self.replica + 1 + n)
        return [Cubature.sobol(self.model, len(self.label), self.seed, i) for i in replicas]

    @cached_property
    def _compiled(self) -> tuple[Any, Any]:
        return compile_network(self.model.learner)


_lowered = lru_cache(maxsize=16)(compile_law)


def _degree(model: NetworkModel) -> int | None:
    """Largest degree in (ξ, g), given the latents, of what `Moments` averages; None if that is no polynomial."""
    learner = model.learner
    p, linear = learner.activation.function.degree, isinstance(learner.loss, SquaredLoss)
    if p is None or not (linear or isinstance(learner.loss, CorrelationLoss)):
        return None
    residual = p if linear else 0
    push = residual + p - 1
    return max(2 * push, push + 1, residual + p)


def gauss_hermite(dim: int, level: int) -> tuple[Array, Array]:
    """Nodes (n, dim) and weights (n,) for N(0, I), exact to total degree 2 level + 1.

    The product rule, or where that is much larger Smolyak's combination of the product rules with e_i + 1 nodes in dimension
    i, |e| = j, times (-1)^(level-j) C(dim-1, level-j).
    """
    terms = [(1, (level,) * dim)]
    if (level + 1) ** dim > PRODUCT_SHARE * comb(dim + level, level):
        least = max(0, level - dim + 1)
        signs = {j: (-1) ** (level - j) * comb(dim - 1, level - j) for j in range(least, level + 1)}
        terms = [(sign, e) for j, sign in signs.items() for e in multi_indices(dim, j)]
    rules = [np.polynomial.hermite_e.hermegauss(n + 1) for n in range(level + 1)]
    found: dict[bytes, float] = {}
    for sign, e in terms:
        active = [i for i in range(dim) if e[i]]
        shape = [e[i] + 1 for i in active]
        nodes = np.zeros((prod(shape), dim))
        weights = np.full(len(nodes), float(sign))
        for i, at in zip(active, np.indices(shape).reshape(len(active), len(nodes)), strict=True):
            x, w = rules[e[i]]
            nodes[:, i] = x[at]
            weights *= w[at] / sqrt(2 * np.pi)
        for node, weight in zip(np.round(nodes, 14) + 0.0, weights, strict=True):
            key = node.tobytes()
            found[key] = found.get(key, 0.0) + weight
    return np.frombuffer(b"".join(found), dtype=float).reshape(-1, dim), np.array(list(found.values()))


@dataclass(frozen=True)
class ErfClosure:
    """Closed forms for σ = σ* = erf(z/√2), squared loss, no biases [Saad, Solla 1995], any a, a_0 and label noise.

    Student and teacher fields x = (h, ξ) have covariance C (N, N), N = K + M, and r = noise - a_0 + Σ_i v_i σ(x_i) with
    v = (-K^(-γ) a, a*). Since σ'(z) = √(2/π) exp(-z²/2), a factor σ'(x_k) is a Gaussian weight: it leaves the other fields
    Gaussian with C' = C - C_·k C_k·/(1 + C_kk) and multiplies by √(2/π)/√(1 + C_kk); two factors weigh in turn.
    """

    model: NetworkModel
    name: str = "closed form"
    rtol: float = 1e-8

    @staticmethod
    def serves(model: NetworkModel) -> bool:
        """Whether model and loss are those of the closed form."""
        task, learner, sigma = model.task, model.learner, erf().expression
        known = isinstance(task, TeacherNetwork) and task.activation.expression == sigma
        fits = learner.activation.expression == sigma and isinstance(learner.loss, SquaredLoss)
        return known and fits and learner.hidden <= LARGEST_CLOSED_FORM

    def __call__(self, R: Array, P: Array, a: Array, b: Array, output: float) -> Moments:  # noqa: ARG002 - b = 0
        """E[σ'_k x_j r], E[σ'_k σ'_l r²] and E[σ_k r], from the arcsine law E[σ(x) σ(y)]."""
        K, scale = len(a), self.model.learner.output_scale
        task = self.model.task
        assert isinstance(task, TeacherNetwork)
        C = np.block([[P + R @ R.T, R], [R.T, np.eye(R.shape[1])]])
        v = np.concatenate([-scale * a, task.weights])
        constant = task.noise**2 + output**2
        mean, squares, slopes = np.empty((K, len(C))), np.empty((K, K)), np.empty(K)
        for k in range(K):
            slopes[k], tilted = _tilt(C, k)
            mean[k] = slopes[k] * (tilted @ (np.sqrt(2 / np.pi) * v / np.sqrt(1 + np.diagonal(tilted))))
            for l in range(k + 1):  # noqa: E741
                slope, twice = _tilt(tilted, l)
                squares[k, l] = squares[l, k] = slopes[k] * slope * (v @ _arcsine(twice) @ v + constant)
        gain = scale * a
        spikes = gain[:, None] * mean[:, K:]
        return Moments(
            spikes=spikes,
            rest=gain[:, None] * mean[:, :K] - spikes @ R.T,
            squares=np.outer(gain, gain) * squares,
            push=-output * gain * slopes,
            second=scale * (_arcsine(C)[:K] @ v),
            output=-output,
        )

    def others(self, n: int) -> list[Closure]:  # noqa: ARG002 - nothing is sampled
        """None."""
        return []


def _tilt(C: Array, k: int) -> tuple[float, Array]:
    """E[σ'(x_k)] and the covariance of x under the weight σ'(x_k)."""
    spread = 1 + C[k, k]
    return float(np.sqrt(2 / np.pi / spread)), C - np.outer(C[:, k], C[k]) / spread


def _arcsine(C: Array) -> Array:
    """E[σ(x_i) σ(x_j)] = (2/π) arcsin(C_ij/√((1 + C_ii)(1 + C_jj)))."""
    root = np.sqrt(1 + np.diagonal(C))
    return np.asarray(2 / np.pi * np.arcsin(C / np.outer(root, root)))
