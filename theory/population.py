"""Population objective of a model as a Hermite series in the overlaps, and everything SymPy derives from it.

With α = Uᵀw, s = w·x and any scalar function h, the addition formula on the unit sphere gives

    E[y^n h(s)] = sum_I h_|I| / I! · E[y^n Π_a He_{i_a}(ξ_a)] · Π_a α_a^{i_a},        h_k = E[h(z) He_k(z)],

exact for polynomial h, truncated at total degree ``order`` otherwise. Φ, V and D below are sums of such terms.
"""

from dataclasses import dataclass
from functools import cached_property

import sympy as sp

from theory.activations import ScalarFunction, Z
from theory.board import polynomial_latex, polynomial_text
from theory.errors import require
from theory.hermite import MultiIndex, multi_factorial, multi_indices, sqrt_factorials
from theory.laws import Task
from theory.learners import Neuron, SmoothedNeuron
from theory.lower import PolynomialMap
from theory.spaces import Ball

DELTA, DIM = sp.symbols("delta d", positive=True)
MAX_ORDER = 60


@dataclass(frozen=True)
class Model:
    """What is learnt and who learns it: a task and a learner. Dimension and learning rate belong to the run."""

    task: Task
    learner: Neuron | SmoothedNeuron

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the spikes, in the order of the overlaps."""
        return self.task.spikes

    @property
    def space(self) -> Ball:
        """Where the overlaps live."""
        return Ball(len(self.spikes))

    def describe(self) -> str:
        """The model in one line."""
        return f"{self.task.describe()}; activation {self.learner.activation.name}, {self.learner.loss.name} loss"


@dataclass(frozen=True)
class Population:
    """The series of one model to total degree ``order``; ``symbolic`` keeps β's, corr and c_k as symbols.

    Every ``Poly`` has the overlaps α_a as generators. Raises InputError for an order below 2 or above 60.
    """

    model: Model
    order: int = 20
    symbolic: bool = False

    def __post_init__(self) -> None:
        """Check the order."""
        require(2 <= self.order <= MAX_ORDER, "order", self.order, f"2 … {MAX_ORDER}")

    @property
    def overlaps(self) -> tuple[sp.Symbol, ...]:
        """The symbols α_a, one for each spike."""
        return tuple(sp.Symbol(f"alpha_{s}", real=True) for s in self.model.spikes)

    @cached_property
    def objective(self) -> sp.Poly:
        """Φ(α) = sum_n E[y^n h_n(s)] without its constant; the loss is L = const - Φ."""
        total = self._zero
        for n, h in self.model.learner.objective.items():
            total += self._series(h, n, f"h{n}")
        return total - total.coeff_monomial(1)

    @property
    def complete(self) -> bool:
        """Whether no term beyond ``order`` is missing: polynomial σ, or labels whose powers have few Hermite degrees."""
        learner, degree = self.model.learner, self.model.task.degree
        functions = [*learner.objective.values(), *learner.slope_squared.values()]
        finite = all(h.degree is not None and h.degree + 2 <= self.order for h in functions)
        return finite or (degree is not None and 2 * degree + 2 <= self.order)

    @cached_property
    def euclidean_gradient(self) -> tuple[sp.Poly, ...]:
        """∇Φ."""
        return tuple(self.objective.diff(a) for a in self.overlaps)

    @cached_property
    def radial(self) -> sp.Poly:
        """α·∇Φ: with δV/2, what repels every direction that is not yet learnt."""
        return sum((self._poly(a) * g for a, g in zip(self.overlaps, self.euclidean_gradient, strict=True)), self._zero)

    @cached_property
    def spherical_gradient(self) -> tuple[sp.Poly, ...]:
        """∇Φ - α (α·∇Φ) = E[g (ξ - s α)]."""
        return tuple(
            g - self._poly(a) * self.radial for a, g in zip(self.overlaps, self.euclidean_gradient, strict=True)
        )

    @cached_property
    def variance(self) -> sp.Poly:
        """V(α) = E[g²]."""
        total = self._zero
        for n, f in self.model.learner.slope_squared.items():
            total += self._series(f, n, f"v{n}")
        return total

    @cached_property
    def normalisation(self) -> tuple[sp.Poly, ...]:
        """-½ V(α) α: the price of projecting back on the sphere, per δ²/d."""
        return tuple(self._poly(-a / 2) * self.variance for a in self.overlaps)

    @cached_property
    def lowered(self) -> PolynomialMap:
        """The spherical gradient and, last, V as one numeric map α (r,) -> (r + 1,)."""
        return PolynomialMap.from_polys([*self.spherical_gradient, self.variance])

    @property
    def loss(self) -> sp.Expr:
        """Population loss up to a constant, -Φ(α)."""
        return -self.objective.as_expr()

    @property
    def drift(self) -> tuple[sp.Expr, ...]:
        """dα/dt per sample: (δ/d) [∇Φ - α (α·∇Φ)] - (δ²/2d) V(α) α."""
        return tuple(
            DELTA / DIM * f.as_expr() + DELTA**2 / DIM * v.as_expr()
            for f, v in zip(self.spherical_gradient, self.normalisation, strict=True)
        )

    @cached_property
    def second_moment(self) -> list[list[sp.Poly]]:
        """E[g² (ξ - sα)(ξ - sα)ᵀ], a matrix of ``Poly``.

        E[G (ξ_a - sα_a)(ξ_b - sα_b)] is expanded into E[G ξ_a ξ_b], E[sG ξ_a] and E[s²G]; ξ He_i = He_{i+1} + i He_{i-1}.
        """
        r = len(self.overlaps)
        alpha = [self._poly(a) for a in self.overlaps]
        rows = [[self._zero] * r for _ in range(r)]
        for n, f in self.model.learner.slope_squared.items():
            plain, once, twice = (_times_z(f, m) for m in range(3))
            square = self._series(twice, n, f"w{n}")
            linear = [self._series(once, n, f"u{n}", (a,)) for a in range(r)]
            for a in range(r):
                for b in range(r):
                    rows[a][b] += self._series(plain, n, f"v{n}", (a, b))
                    rows[a][b] += alpha[a] * alpha[b] * square - alpha[a] * linear[b] - alpha[b] * linear[a]
        return rows

    @cached_property
    def diffusion(self) -> list[list[sp.Poly]]:
        """D(α) with Cov(Δα) = (δ/d)² D: ``second_moment`` minus the squared mean step. A matrix of ``Poly``."""
        mean = self.spherical_gradient
        return [[entry - mean[a] * mean[b] for b, entry in enumerate(row)] for a, row in enumerate(self.second_moment)]

    @cached_property
    def lowered_step(self) -> PolynomialMap:
        """Mean and variance of a step as one map: spherical gradient (r), V, lower triangle of ``second_moment`` by rows."""
        moments = [entry for a, row in enumerate(self.second_moment) for entry in row[: a + 1]]
        return PolynomialMap.from_polys([*self.spherical_gradient, self.variance, *moments])

    def drift_text(self, spike: str) -> str:
        """The leading orders of one component of the drift in plain text, per sample."""
        a = self.model.spikes.index(spike)
        flow = polynomial_text(self.spherical_gradient[a], self._gradient_cut)
        v_0 = polynomial_text(sp.Poly(self.variance.coeff_monomial(1), *self.overlaps))
        return f"delta/d*({flow}) - delta^2/(2*d)*({v_0})*alpha_{spike}"

    def latex(self) -> str:
        """Φ and the drift as on a board, leading orders first, in LaTeX (an ``aligned`` block)."""
        learner, missing = self.model.learner, self.first_missing_degree
        lines = [rf"\Phi(\alpha) &= {polynomial_latex(self.objective, missing(learner.objective))}"]
        for a, f in zip(self.overlaps, self.spherical_gradient, strict=True):
            flow = rf"\frac{{\delta}}{{d}}\left[{polynomial_latex(f, self._gradient_cut)}\right]"
            name = sp.latex(a)
            lines.append(rf"\frac{{d{name}}}{{dt}} &= {flow} - \frac{{\delta^2}}{{2d}}\,V(\alpha)\,{name}")
        lines.append(rf"V(\alpha) &= {polynomial_latex(self.variance, missing(learner.slope_squared))}")
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def values(self) -> dict[sp.Symbol, float]:
        """Numbers for every symbol of a symbolic population, so that ``expr.subs(values)`` is the numeric one."""
        numbers: dict[sp.Symbol, float] = dict(self.model.task.definitions())
        symbolic, numeric = self.model.task.symbols(), self.model.task.numbers(self.order + 2)
        if hasattr(symbolic, "kappa"):
            for k in range(self.order + 3):
                for j in range(self.order + 3 - k):
                    if (symbol := symbolic.kappa(k, j)).is_Symbol:
                        numbers[symbol] = numeric.kappa(k, j)
        families = {f"h{n}": h for n, h in self.model.learner.objective.items()}
        for n, f in self.model.learner.slope_squared.items():
            families |= {f"{letter}{n}": _times_z(f, m) for m, letter in enumerate("vuw")}
        for family, function in families.items():
            coefficients = self._coefficients(function)
            numbers |= {self._coefficient_symbol(family, k): c for k, c in enumerate(coefficients)}
        return numbers

    def first_missing_degree(self, functions: dict[int, ScalarFunction]) -> int | None:
        """Lowest degree that the series of sum_n E[y^n f_n(s)] lacks; None if it ends before."""
        degree = self.model.task.degree
        ends = all(
            (f.degree is not None and f.degree <= self.order) or (degree is not None and n * degree <= self.order)
            for n, f in functions.items()
        )
        return None if ends else self.order + 1

    @property
    def _gradient_cut(self) -> int | None:
        cut = self.first_missing_degree(self.model.learner.objective)
        return None if cut is None else cut - 1

    @property
    def _zero(self) -> sp.Poly:
        return self._poly(0)

    def _poly(self, expression: sp.Expr | int) -> sp.Poly:
        return sp.Poly(expression, *self.overlaps, domain=sp.EX if self.symbolic else sp.RR)

    def _coefficients(self, function: ScalarFunction) -> list[float]:
        objective = self.model.learner.objective
        if function is objective[1]:  # σ itself: its closed form
            normalized = self.model.learner.activation.normalized_coefficients(self.order)
        else:
            normalized = function.normalized_coefficients(self.order)
        return (normalized * sqrt_factorials(self.order)).tolist()

    def _coefficient_symbol(self, family: str, k: int) -> sp.Symbol:
        return sp.Symbol(f"c_{k}" if family == "h1" else f"{family}_{k}", real=True)

    def _series(self, function: ScalarFunction, power: int, family: str, factors: tuple[int, ...] = ()) -> sp.Poly:
        """E[y^power h(s) Π_{a in factors} ξ_a] to total degree ``order`` in α."""
        task = self.model.task
        parameters = task.symbols() if self.symbolic else task.numbers(self.order + len(factors))
        numeric = self._coefficients(function)
        terms = {}
        for degree in range(self.order + 1):
            if numeric[degree] == 0:
                continue
            h = self._coefficient_symbol(family, degree) if self.symbolic else numeric[degree]
            for index in multi_indices(len(self.overlaps), degree):
                raised = _multiply_by_projections(index, factors)
                moment = sum(c * task.moment(i, power, parameters) for i, c in raised.items())
                if moment != 0:
                    value = h * moment / multi_factorial(index)
                    # Poly would build a new real field for every Python float that it converts.
                    terms[index] = value if self.symbolic else sp.RR(value)
        return sp.Poly.from_dict(terms, *self.overlaps, domain=sp.EX if self.symbolic else sp.RR)


def _multiply_by_projections(index: MultiIndex, factors: tuple[int, ...]) -> dict[MultiIndex, int]:
    """Hermite expansion of Π He_{i_a}(ξ_a) · Π_{b in factors} ξ_b, from ξ He_i = He_{i+1} + i He_{i-1}."""
    expansion = {index: 1}
    for b in factors:
        raised: dict[MultiIndex, int] = {}
        for i, c in expansion.items():
            for shift, weight in ((1, 1), (-1, i[b])):
                if weight:
                    j = (*i[:b], i[b] + shift, *i[b + 1 :])
                    raised[j] = raised.get(j, 0) + c * weight
        expansion = raised
    return expansion


def _times_z(function: ScalarFunction, power: int) -> ScalarFunction:
    return ScalarFunction(Z**power * function.expression, function.kinks) if power else function
