"""Two-layer networks: f(x) = a_0 + K^(-γ) Σ_k a_k σ(w_k·x + b_k), their overlaps with the spikes, their rates.

Committee machines (a = 1, frozen), mean-field networks (γ = 1) and the soft committees of the teacher–student literature are
values of one class. The loss is that of the single neuron, its objective per sample, with f in the place of σ.
"""

from dataclasses import dataclass
from functools import cached_property
from math import isfinite

import numpy as np
import sympy as sp
from numpy.random import Generator
from numpy.typing import NDArray

from theory.activations import Activation, Z
from theory.errors import require
from theory.laws import Task, has_classes
from theory.learners import LogisticLoss, Loss, Y

Array = NDArray[np.float64]
F = sp.Symbol("f", real=True)  # output of the network
MOST_HIDDEN = 4096


@dataclass(frozen=True)
class TwoLayer:
    """K = ``hidden`` neurons; one sample moves every parameter up the gradient of objective(y, f), a step rate/d each.

    w_k += (δ_1/d) g_k x,  b_k += (δ_b/d) g_k,  a_k += (δ_2/d) r K^(-γ) σ(h_k + b_k),  a_0 += (δ_0/d) r,

    with h_k = w_k·x, r = ∂objective/∂f and g_k = r K^(-γ) a_k σ'(h_k + b_k); a mini-batch moves by the SUM over its samples.
    γ = ``scaling``: ½ standard, 1 mean-field, 0 plain sum. ``weight_decay`` λ adds -λ w_k and -λ a_k to the gradients.
    ``spherical`` projects: each row moves along x - h_k w_k and is normalised after every batch. Start: w_k ~
    N(0, ``initial_scale``² I/d) (spherical: uniform on the unit sphere), a_k uniform among ``second_values``, b_k ~
    N(0, ``bias_scale``²), a_0 = 0. Raises InputError for bad values.
    """

    activation: Activation
    loss: Loss
    hidden: int
    scaling: float = 0.5
    weight_decay: float = 0.0
    spherical: bool = False
    initial_scale: float = 1.0
    second_values: tuple[float, ...] = (-1.0, 1.0)
    bias_scale: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        whole = isinstance(self.hidden, int | np.integer) and 1 <= self.hidden <= MOST_HIDDEN
        require(whole, "hidden", self.hidden, f"a whole number, 1 … {MOST_HIDDEN}")
        require(
            isfinite(self.scaling) and 0 <= self.scaling <= 2,
            "scaling",
            self.scaling,
            "0 … 2 (½: standard, 1: mean-field)",
        )
        require(
            isfinite(self.weight_decay) and self.weight_decay >= 0, "weight_decay", self.weight_decay, "a number >= 0"
        )
        free = self.weight_decay == 0 or not self.spherical
        require(free, "weight_decay", self.weight_decay, "0 with spherical rows, whose norm is fixed")
        scale = self.initial_scale
        require(1e-100 <= scale <= 1e100, "initial_scale", scale, "1e-100 … 1e100")
        require(scale == 1 or not self.spherical, "initial_scale", scale, "1 with spherical rows")
        ok = len(self.second_values) > 0 and all(isfinite(a) for a in self.second_values)
        require(ok, "second_values", self.second_values, "one or more finite numbers")
        require(0 <= self.bias_scale <= 1e100, "bias_scale", self.bias_scale, "0 … 1e100")

    @property
    def output_scale(self) -> float:
        """K^(-γ)."""
        return float(self.hidden**-self.scaling)

    @cached_property
    def objective(self) -> sp.Expr:
        """What one sample maximises, in the symbols ``Y`` and ``F``."""
        return sp.Add(*(Y**n * h for n, h in self.loss.objective(F).items()))

    @cached_property
    def residual(self) -> sp.Expr:
        """r = ∂objective/∂f, in the symbols ``Y`` and ``F``."""
        return sp.diff(self.objective, F)

    @cached_property
    def slope(self) -> sp.Expr:
        """σ'(z) in the symbol ``Z``."""
        return sp.diff(self.activation.expression, Z)

    def draw_readout(self, rng: Generator) -> tuple[Array, Array]:
        """a (K,) and b (K,) at the start."""
        a = rng.choice(np.array(self.second_values, dtype=float), self.hidden)
        return a, self.bias_scale * rng.standard_normal(self.hidden)

    def describe(self) -> str:
        """The network in a few words."""
        rows = ", spherical rows" if self.spherical else ""
        biases = f", biases N(0, {self.bias_scale:g}²)" if self.bias_scale else ""
        return f"two-layer network of {self.hidden} neurons, output scaled by K^-{self.scaling:g}{rows}{biases}"


@dataclass(frozen=True)
class NetworkModel:
    """What is learnt and who learns it: a task and a two-layer network. Dimension and rates belong to the run.

    Raises InputError for the logistic loss on a task whose labels are not ±1.
    """

    task: Task
    learner: TwoLayer

    def __post_init__(self) -> None:
        """Check the labels."""
        fits = not isinstance(self.learner.loss, LogisticLoss) or has_classes(self.task)
        require(fits, "loss", "logistic", "squared or correlation for a task whose labels are not ±1")

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the spikes, in the order of the columns of R."""
        return self.task.spikes

    def describe(self) -> str:
        """The model in one line."""
        learner = self.learner
        return f"{self.task.describe()}; {learner.describe()}, {learner.activation.name}, {learner.loss.name} loss"


@dataclass(frozen=True)
class Rates:
    """Learning rates δ of first layer, second layer, biases and output bias a_0; the step of each is δ/d. 0: frozen."""

    first: float
    second: float = 0.0
    bias: float = 0.0
    output: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("first", "second", "bias", "output"):
            value = getattr(self, name)
            require(isfinite(value) and value >= 0, f"rate {name}", value, "a finite number >= 0")

    def steps(self, dim: int, weight_decay: float, batch: int) -> Array:
        """(δ_1, δ_2, δ_b, δ_0)/d and λ: the run-time array of the kernels. InputError if decay alone takes 0.9."""
        steps = np.array([self.first, self.second, self.bias, self.output]) / dim
        share = float(max(steps[:2])) * weight_decay * batch
        require(share < 0.9, "weight_decay", weight_decay, "rate × weight_decay × batch / d < 0.9")
        return np.append(steps, weight_decay)


@dataclass(frozen=True)
class NetworkState:
    """All that the law of f needs: R = W U (K, r), Q = W Wᵀ (K, K), a (K,), b (K,), a_0.

    Raises InputError for shapes that do not fit and for a Q - R Rᵀ that is not positive semidefinite.
    """

    R: Array
    Q: Array
    a: Array
    b: Array
    output: float = 0.0

    def __post_init__(self) -> None:
        """Check shapes and positivity."""
        k = len(self.a)
        shapes = {"R": (k, self.R.shape[-1]), "Q": (k, k), "a": (k,), "b": (k,)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            require(value.shape == shape, f"state {name}", value.shape, f"shape {shape}")
            require(bool(np.all(np.isfinite(value))), f"state {name}", "a number that is not finite", "finite numbers")
        require(isfinite(self.output), "state output", self.output, "a finite number")
        least = float(np.linalg.eigvalsh(self.rest)[0])
        bound = -1e-10 * max(float(np.trace(self.Q)), 1e-300)
        symmetric = bool(np.allclose(self.Q, self.Q.T, rtol=1e-10, atol=0))
        require(symmetric, "state Q", "an asymmetric matrix", "a symmetric one")
        allowed = "Q - R Rᵀ positive semidefinite"
        require(least >= bound, "state Q", f"Q - R Rᵀ with an eigenvalue {least:.3g}", allowed, "it is W_⊥ W_⊥ᵀ")

    @property
    def rest(self) -> Array:
        """P = Q - R Rᵀ = W_⊥ W_⊥ᵀ (K, K)."""
        return np.asarray(self.Q - self.R @ self.R.T)


def check_start(model: NetworkModel, start: NetworkState) -> None:
    """Raise InputError unless shapes fit the model, no row is 0, and rows are unit where spherical."""
    shape = (model.learner.hidden, len(model.spikes))
    require(start.R.shape == shape, "start", f"R of shape {start.R.shape}", f"shape {shape} (neurons, spikes)")
    require(bool(np.all(np.diag(start.Q) > 0)), "start", "a row that is 0", "Q_kk > 0", "its direction is not defined")
    unit = not model.learner.spherical or bool(np.allclose(np.diag(start.Q), 1, atol=1e-9))
    require(unit, "start", "rows of other lengths", "Q_kk = 1 with spherical rows")


def semidefinite_root(P: Array) -> Array:
    """Some L with L Lᵀ = P, (…, K, K); eigenvalues below 0 by rounding count as 0."""
    values, vectors = np.linalg.eigh(P)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0, None))[..., None, :])


def symmetric_root(P: Array) -> Array:
    """P^½ (…, K, K), the one root that is continuous in a semidefinite P and favours no neuron."""
    values, vectors = np.linalg.eigh(P)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))[..., None, :]) @ np.swapaxes(vectors, -1, -2))
