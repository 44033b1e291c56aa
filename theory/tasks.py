"""Tasks: joint laws of the label y and the projections ξ = Uᵀx on the spikes; the rest of x is white Gaussian noise.

To add a task, write one more class like these (theory/laws.py says what it must answer); no view changes.
"""

from dataclasses import dataclass
from functools import cached_property
from math import isfinite, prod, sqrt

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from theory.activations import COEFFICIENTS, LARGEST, SMALLEST
from theory.errors import require
from theory.hermite import (
    MultiIndex,
    gauss_legendre_panels,
    gaussian_density,
    hermite,
    monomial_in_hermite,
    multi_factorial,
    multiply_expansions,
)
from theory.latents import Coupling, GaussianCopula, Latent, gauss
from theory.laws import Law, Mixture, Parameters

MAX_DEGREE = 64
CORR = sp.Symbol("corr", real=True)
RADEMACHER, COPULA = gauss(4), GaussianCopula()


def _positive(symbol: str) -> sp.Symbol:
    return sp.Symbol(symbol, positive=True)


@dataclass(frozen=True)
class MixedCumulant:
    """Mixed cumulant model of Bardone & Goldt (2024).

    Labels y = ±1 with probability ½ each; y = -1 is white noise, y = +1 has

    ξ_m = √β_m + z_m,  ξ_u = √β_u λ + z_u,  ξ_v = (√β_v ν + z_v)/√(1+β_v),  corr = E[λν].
    With β_m = β_u = 0 it is the spiked cumulant model (Székely et al. 2023). Spikes of zero strength are left out.
    """

    latent: Latent = RADEMACHER
    coupling: Coupling = COPULA
    corr: float = 0.0
    beta_m: float = 0.0
    beta_u: float = 1.0
    beta_v: float = 10.0

    def __post_init__(self) -> None:
        """Check the ranges, and that the correlation asked for exists."""
        for name in ("beta_m", "beta_u", "beta_v"):
            value = getattr(self, name)
            require(isfinite(value) and 0 <= value <= 1e6, name.replace("_", "-"), value, "a finite number, 0 … 1e6")
        require(bool(self.spikes), "beta-m, beta-u, beta-v", "all 0", "at least one > 0")
        require(isfinite(self.corr), "corr", self.corr, "a finite number")
        object.__setattr__(self, "corr", float(self.corr))
        both = self.beta_u > 0 and self.beta_v > 0
        require(self.corr == 0 or both, "corr", self.corr, "0 unless beta-u > 0 and beta-v > 0")
        self.coupling.strength(self.latent, self.corr)

    @property
    def name(self) -> str:
        """``spiked-cumulant`` if v is alone, otherwise ``mixed-cumulant``."""
        return "spiked-cumulant" if self.spikes == ("v",) else "mixed-cumulant"

    @property
    def spikes(self) -> tuple[str, ...]:
        """Those of m, u, v whose β is positive."""
        return tuple(s for s in "muv" if getattr(self, f"beta_{s}") > 0)

    @property
    def degree(self) -> None:
        """Every order of moments is present."""
        return None

    @property
    def strength(self) -> float:
        """ρ̃ of the coupling; irrelevant (0) unless both u and v are present."""
        both = self.beta_u > 0 and self.beta_v > 0
        return self.coupling.strength(self.latent, self.corr) if both else 0.0

    def symbols(self) -> Parameters:
        """√β_m, √β_u, s_v, corr and κ_{kj} = E[He_k(η) He_j(ν)] as symbols, without those that vanish for this latent."""
        numeric = self.numbers(MAX_DEGREE).kappa

        def kappa(k: int, j: int) -> sp.Expr:
            if j == 0 or numeric(k, j) == 0:
                return sp.Integer(k == j == 0)
            return sp.Symbol(f"kappa_{k}_{j}")

        beta_m, beta_u = _positive("beta_m"), _positive("beta_u")
        rho = self.coupling.symbolic_strength(CORR, kappa(1, 1))
        return Parameters(m=sp.sqrt(beta_m), u=sp.sqrt(beta_u), v=_positive("s_v"), rho=rho, kappa=kappa)

    def numbers(self, order: int) -> Parameters:
        """The same with floats."""
        kappa = self.coupling.steps(self.latent).hermite_moments(order).tolist()
        return Parameters(
            m=sqrt(self.beta_m),
            u=sqrt(self.beta_u),
            v=sqrt(self.beta_v / (1 + self.beta_v)),
            rho=self.strength,
            kappa=lambda k, j: kappa[k][j],
        )

    def definitions(self) -> dict[sp.Symbol, sp.Expr | float]:
        """β's, s_v = √(β_v/(1+β_v)) and corr."""
        return {
            _positive("s_v"): sqrt(self.beta_v / (1 + self.beta_v)),
            _positive("beta_m"): self.beta_m,
            _positive("beta_u"): self.beta_u,
            CORR: self.corr,
        }

    def planted_moment(self, index: MultiIndex, par: Parameters) -> sp.Expr | float:
        """C_I = E[Π He_{i_a}(ξ_a) | y = +1] = β_m^{i_m/2} β_u^{i_u/2} s_v^{i_v} E[λ^{i_u} He_{i_v}(ν)]."""
        power = dict(zip(self.spikes, index, strict=True))
        i, j = power.get("u", 0), power.get("v", 0)
        latents = sum(c * par.rho**k * par.kappa(k, j) for k, c in monomial_in_hermite(i).items())
        return prod(getattr(par, s) ** n for s, n in power.items()) * latents

    def moment(self, index: MultiIndex, power: int, par: Parameters) -> sp.Expr | float:
        """½ (C_I + (-1)^power 1{I=0}), exact."""
        null = (-1) ** power if not any(index) else 0
        planted = self.planted_moment(index, par)
        return (planted + null) / 2

    def law(self) -> Law:
        """n_0 carries the label, n_1 = λ, η = ρ̃ λ + √(1-ρ̃²) n_2."""
        raw = tuple(sp.Symbol(f"z_{s}", real=True) for s in self.spikes)
        n = sp.symbols("n_0:3", real=True)
        steps = self.coupling.steps(self.latent)
        edges = sp.symbols(f"edge_1:{len(steps.values)}", real=True)
        values = sp.symbols(f"value_0:{len(steps.values)}", real=True)
        mean, strength, whitening, spiking, rho = sp.symbols("mean strength whitening spiking rho", real=True)
        # Balanced nesting would not pay: at most nine steps.
        eta = rho * n[1] + sp.sqrt(1 - rho**2) * n[2]
        nu = sp.Piecewise(*((v, eta <= e) for v, e in zip(values, edges, strict=False)), (values[-1], True))
        planted = {
            "m": lambda z: z + mean,
            "u": lambda z: z + strength * n[1],
            "v": lambda z: spiking * nu + whitening * z,
        }
        is_planted = n[0] > 0
        numbers = {
            mean: sqrt(self.beta_m),
            strength: sqrt(self.beta_u),
            spiking: sqrt(self.beta_v / (1 + self.beta_v)),
            whitening: 1 / sqrt(1 + self.beta_v),
            rho: self.strength,
            **dict(zip(edges, steps.edges[1:-1], strict=True)),
            **dict(zip(values, steps.values, strict=True)),
        }
        return Law(
            label=sp.Piecewise((1.0, is_planted), (-1.0, True)),
            projections=tuple(
                sp.Piecewise((planted[s](z), is_planted), (z, True)) for s, z in zip(self.spikes, raw, strict=True)
            ),
            raw=raw,
            normals=n,
            parameters=tuple(numbers.items()),
        )

    def mixture(self) -> Mixture:
        """One node for the null class; for the planted one, panels in η split at the steps of ν (its nodes if ρ̃ = 0)."""
        steps, rho = self.coupling.steps(self.latent), self.strength
        edges = np.clip(steps.edges, -9.0, 9.0)
        if rho == 0:
            eta, weight, nu = (
                np.zeros(len(self.latent.nodes)),
                np.array(self.latent.weights),
                np.array(self.latent.nodes),
            )
        else:
            eta, w = gauss_legendre_panels(tuple(edges), width=3.0, n_nodes=16)
            weight, nu = w * gaussian_density(eta), np.array(steps.values)[np.searchsorted(edges[1:-1], eta)]
        s_v = sqrt(self.beta_v / (1 + self.beta_v))
        mean = {"m": np.full_like(eta, sqrt(self.beta_m)), "u": sqrt(self.beta_u) * rho * eta, "v": s_v * nu}
        variance = {"m": 1.0, "u": 1 + self.beta_u * (1 - rho**2), "v": 1 - s_v**2}
        label = np.array([-1.0] + [1.0] * len(eta))
        planted = np.stack([mean[s] for s in self.spikes], axis=1)
        spread = np.array([variance[s] for s in self.spikes])
        return Mixture(
            weight=np.concatenate([[0.5], 0.5 * weight]),
            label_powers=np.stack([label**0, label, label**2], axis=1),
            mean=np.vstack([np.zeros(len(self.spikes)), planted]),
            variance=np.vstack([np.ones(len(self.spikes)), np.tile(spread, (len(eta), 1))]),
        )

    @property
    def signal_order(self) -> int:
        """Order p of the cumulant, 2 if v is absent."""
        return self.latent.order if "v" in self.spikes else 2

    def useful_degrees(self) -> dict[int, int]:
        """Degree 2 for u, degree p for v with the sign of E[He_p(ν)]."""
        if "v" not in self.spikes:
            return {2: 1}
        p = self.latent.order
        return {2: 1, p: 1 if self.latent.hermite_moment(p) > 0 else -1}

    def likelihood_moment(self, index: MultiIndex, par: Parameters) -> float:
        """C_I on the planted class."""
        return float(self.planted_moment(index, par))

    def settings(self) -> dict[str, float | int | str | None]:
        """p, corr, coupling, strengths, latent."""
        return {
            "task": self.name,
            "p": self.latent.order,
            "corr": self.corr,
            "coupling": self.coupling.name,
            "beta_m": self.beta_m,
            "beta_u": self.beta_u,
            "beta_v": self.beta_v,
            "latent": self.latent.name,
        }

    def alone(self, spike: str) -> "MixedCumulant | None":
        """The model with only this spike's β kept."""
        if spike not in self.spikes:
            return None
        betas = {f"beta_{s}": getattr(self, f"beta_{s}") if s == spike else 0.0 for s in "muv"}
        return MixedCumulant(self.latent, GaussianCopula(), 0.0, **betas)

    def describe(self) -> str:
        """Strengths, latent and coupling."""
        betas = ", ".join(f"β_{s} = {getattr(self, f'beta_{s}'):g}" for s in self.spikes)
        p = self.latent.order
        latent = f"latent {self.latent.name} of order p = {p}, E[He_{p}(ν)] = {self.latent.hermite_moment(p):.4g}"
        both = {"u", "v"} <= set(self.spikes)
        coupling = f"; coupling {self.coupling.name}, corr E[λν] = {self.corr:g}" if both else ""
        return f"{self.name}: {betas}" + (f"; {latent}" if "v" in self.spikes else "") + coupling


def spiked_cumulant(latent: Latent, beta_v: float = 10.0) -> MixedCumulant:
    """Spiked cumulant model: the mixed cumulant model with v alone (β_m = β_u = 0)."""
    return MixedCumulant(latent, GaussianCopula(), 0.0, 0.0, 0.0, beta_v)


@dataclass(frozen=True)
class TeacherStudent:
    """Gaussian multi-index teacher: ξ ~ N(0, I), y = f*(ξ) + noise, f* = sum_I f_I Π He_{i_a}(ξ_a).

    ``terms`` pairs multi-indices with the coefficients f_I; ``noise`` is the standard deviation of the label noise.
    """

    spikes: tuple[str, ...]
    terms: tuple[tuple[MultiIndex, float], ...]
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Check shapes and ranges."""
        require(0 <= self.noise <= LARGEST, "noise", self.noise, "a number >= 0 (at most 1e6)")
        require(bool(self.terms), "teacher", "no term", "at least one, as in h2(u)+0.5*h1(u)*h4(v)")
        for index, value in self.terms:
            fits = len(index) == len(self.spikes) and all(i >= 0 for i in index) and 0 < sum(index) <= 12
            require(fits, "teacher term", index, "degrees >= 0, one per spike, total degree 1 … 12")
            require(SMALLEST <= abs(value) <= LARGEST, "teacher coefficient", value, COEFFICIENTS)
        unused = [s for a, s in enumerate(self.spikes) if all(index[a] == 0 for index, _ in self.terms)]
        require(not unused, "teacher spikes", ", ".join(unused), "spikes that occur in a term")

    @property
    def name(self) -> str:
        """``teacher-student``."""
        return "teacher-student"

    @property
    def degree(self) -> int:
        """Degree of f*."""
        return max(sum(index) for index, _ in self.terms)

    @staticmethod
    def _symbol(index: MultiIndex) -> sp.Symbol:
        return sp.Symbol("f_" + "_".join(map(str, index)), real=True)

    def symbols(self) -> Parameters:
        """f_I and the noise as symbols."""
        return self._parameters({index: self._symbol(index) for index, _ in self.terms}, _positive("noise"))

    def numbers(self, order: int) -> Parameters:  # noqa: ARG002 - every moment is available at any order
        """The same with floats."""
        return self._parameters(dict(self.terms), self.noise)

    def _parameters(self, teacher: dict[MultiIndex, sp.Expr], noise: sp.Expr | float) -> Parameters:
        constant = (0,) * len(self.spikes)
        square = multiply_expansions(teacher, teacher)
        square[constant] = square.get(constant, 0) + noise**2
        return Parameters(powers=({constant: 1}, teacher, square))

    def definitions(self) -> dict[sp.Symbol, sp.Expr | float]:
        """f_I and the noise."""
        return {_positive("noise"): self.noise, **{self._symbol(i): f for i, f in self.terms}}

    def moment(self, index: MultiIndex, power: int, par: Parameters) -> sp.Expr | float:
        """I! times the Hermite coefficient of E[y^power | ξ]."""
        return par.powers[power].get(index, 0) * multi_factorial(index)

    def law(self) -> Law:
        """ξ = z, y = f*(z) + noise n_0."""
        raw = tuple(sp.Symbol(f"z_{s}", real=True) for s in self.spikes)
        n, noise = sp.Symbol("n_0", real=True), sp.Symbol("noise", real=True)
        teacher = sp.Add(
            *(
                self._symbol(index) * sp.Mul(*(hermite(i, z) for i, z in zip(index, raw, strict=True)))
                for index, _ in self.terms
            )
        )
        parameters = ((noise, self.noise), *((self._symbol(index), value) for index, value in self.terms))
        return Law(teacher + noise * n, raw, raw, (n,), parameters)

    @cached_property
    def _nodes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x, w = np.polynomial.hermite_e.hermegauss({1: 80, 2: 40}.get(len(self.spikes), 20))
        grid = np.stack(np.meshgrid(*[x] * len(self.spikes), indexing="ij"), axis=-1).reshape(-1, len(self.spikes))
        weight = np.stack(np.meshgrid(*[w] * len(self.spikes), indexing="ij"), axis=-1).reshape(grid.shape)
        return grid, weight.prod(axis=1) / sqrt(2 * np.pi) ** len(self.spikes)

    def mixture(self) -> Mixture:
        """Gauss-Hermite nodes in ξ itself, of zero variance."""
        grid, weight = self._nodes
        label = np.zeros(len(grid))
        for index, value in self.terms:
            label += value * np.prod(
                [np.polynomial.hermite_e.hermeval(grid[:, a], [0] * i + [1]) for a, i in enumerate(index)],
                axis=0,
            )
        powers = np.stack([np.ones_like(label), label, label**2 + self.noise**2], axis=1)
        return Mixture(weight, powers, grid, np.zeros_like(grid))

    @property
    def signal_order(self) -> int:
        """Degree of f*."""
        return max(self.degree, 2)

    def useful_degrees(self) -> dict[int, int]:
        """Total degrees of f*; the sign of a pure power where there is one."""
        pure = {sum(i): (1 if f > 0 else -1) for i, f in self.terms if max(i) == sum(i)}
        return {k: pure.get(k, 1) for k in sorted({sum(i) for i, _ in self.terms})}

    def likelihood_moment(self, index: MultiIndex, par: Parameters) -> float:
        """E[f* Π He]."""
        return float(self.moment(index, 1, par))

    def settings(self) -> dict[str, float | int | str | None]:
        """Degree and noise; f* itself as text. What belongs to other tasks is None."""
        others = dict.fromkeys(("corr", "coupling", "beta_m", "beta_u", "beta_v", "latent"))
        return {"task": self.name, "p": self.degree, **others, "teacher": self.formula(), "noise": self.noise}

    def alone(self, spike: str) -> "TeacherStudent | None":
        """The terms that contain this spike and no other."""
        a = self.spikes.index(spike)
        terms = tuple(((index[a],), f) for index, f in self.terms if 0 < index[a] == sum(index))
        return TeacherStudent((spike,), terms, self.noise) if terms else None

    def formula(self) -> str:
        """The teacher written out."""

        def product(index: MultiIndex) -> str:
            return "·".join(f"He_{i}({s})" for i, s in zip(index, self.spikes, strict=True) if i)

        text = " + ".join({1.0: "", -1.0: "-"}.get(f, f"{f:g}·") + product(index) for index, f in self.terms)
        return text.replace("+ -", "- ")

    def describe(self) -> str:
        """The teacher and the label noise."""
        return f"{self.name}: f* = {self.formula()}, label noise {self.noise:g}"
