"""The population flow as JavaScript: SymPy's series of ``theory.population``, printed by SymPy, for the explorer's page.

What depends on the sliders stays a symbol of the printed expressions: β_u, s_v, corr, the c_k of the activation and the
κ_kj = E[He_k(η) He_j(ν)] of the latent. In two layers, so that the page stays small: the moments C_ij as functions of the
task's parameters, then the coefficients of Φ, of the spherical gradient, of V and of E[g² (ξ - sα)(ξ - sα)ᵀ], linear in C_ij.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace

import sympy as sp
from scipy.integrate import RK45

from solvers.build import default_activation
from theory.activations import Activation, ScalarFunction, hermite_mixture, relu
from theory.exponents import FALLS_BACK, VISIBLE
from theory.hermite import MultiIndex
from theory.latents import GaussianCopula, Latent, standard_latent
from theory.laws import Parameters
from theory.learners import CorrelationLoss, Neuron
from theory.population import Model, Population
from theory.tasks import CORR, MixedCumulant

ORDERS = (3, 4, 5, 6)
SERIES_ORDER = 20
GENERIC_CORR = 0.3  # any value at which no moment vanishes by accident: it stays a symbol
BLIND = hermite_mixture({2: 1.0})


@dataclass(frozen=True)
class _NamedMoments(MixedCumulant):
    """The task with every moment C_ij that does not vanish for its latent as a symbol of its own."""

    def planted_moment(self, index: MultiIndex, par: Parameters) -> sp.Expr | float:
        """C_ij by name."""
        value = super().planted_moment(index, par)
        return value if value == 0 or not any(index) else sp.Symbol(f"C_{index[0]}_{index[1]}")


class _RawPopulation(Population):
    """A symbolic population whose coefficients are sums as they come: linear in the C_ij, they have nothing to cancel."""

    def _poly(self, expression: sp.Expr | int) -> sp.Poly:
        return super()._poly(expression).set_domain(sp.EXRAW)

    def _series(
        self, function: ScalarFunction, power: int, family: str, factors: tuple[int, ...] = ()
    ) -> sp.Poly:  # the same terms in the other domain
        return super()._series(function, power, family, factors).set_domain(sp.EXRAW)


@dataclass(frozen=True)
class Case:
    """One choice on the page: order p of the cumulant and what the neuron sees; the strengths stay free."""

    p: int
    role: str
    activation: Activation

    @property
    def latent(self) -> Latent:
        """The default latent of order p."""
        return standard_latent(self.p)

    @cached_property
    def population(self) -> Population:
        """The series in the symbols C_ij."""
        task = _NamedMoments(self.latent, GaussianCopula(), GENERIC_CORR)
        return _RawPopulation(Model(task, Neuron(self.activation, CorrelationLoss())), SERIES_ORDER, symbolic=True)

    @property
    def polynomials(self) -> tuple[sp.Poly, ...]:
        """Φ, F_u, F_v, V, and the lower triangle of the second moment of a step."""
        pop = self.population
        moment = pop.second_moment
        return (pop.objective, *pop.spherical_gradient, pop.variance, moment[0][0], moment[1][0], moment[1][1])


def cases(orders: Iterable[int] = ORDERS) -> Iterator[Case]:
    """For each p the default activation; ReLU too where p is even (repulsive at p = 6); He_2 alone, blind to cumulants."""
    for p in orders:
        chosen = default_activation(MixedCumulant(standard_latent(p)))
        yield Case(p, "default", chosen)
        if p % 2 == 0 and chosen.name != "relu":
            yield Case(p, "relu", relu())
        yield Case(p, "blind", BLIND)


def model_script(orders: Iterable[int] = ORDERS) -> str:
    """The script that defines MODEL, SERIES and TABLEAU for the page."""
    chosen = list(cases(orders))
    polynomials = [case.polynomials for case in chosen]
    moments = sorted({s for polys in polynomials for s in _symbols(polys) if _is_moment(s)}, key=_index)
    names = {s: sp.Symbol(f"C[{n}]") for n, s in enumerate(moments)}
    model = {
        "order": SERIES_ORDER,
        "visible": VISIBLE,
        "fallsBack": {"true": FALLS_BACK[True], "false": FALLS_BACK[False]},
        "moments": [_index(s) for s in moments],
        "latents": {p: _latent(standard_latent(p), moments) for p in sorted({c.p for c in chosen})},
        "cases": [{"p": c.p, "role": c.role} for c in chosen],  # in the order of LEARNERS
    }
    tableau = {name: getattr(RK45, name).tolist() for name in "ABEP"}
    printed = ",\n".join(_learner(case, polys, names) for case, polys in zip(chosen, polynomials, strict=True))
    return "\n".join([
        f"const TABLEAU = {json.dumps(tableau)};",
        f"const MODEL = {json.dumps(model, ensure_ascii=False)};",
        _moments_function([_index(s) for s in moments]),
        f"const LEARNERS = [\n{printed}\n];",
        "",
    ])  # fmt: skip


def _symbols(polynomials: Iterable[sp.Poly]) -> set[sp.Symbol]:
    """The symbols in the coefficients."""
    return {s for poly in polynomials for c in poly.as_dict().values() for s in sp.sympify(c).free_symbols}


def _is_moment(symbol: sp.Symbol) -> bool:
    return symbol.name.startswith("C_")


def _index(symbol: sp.Symbol) -> MultiIndex:
    _, i, j = symbol.name.split("_")
    return int(i), int(j)


def _latent(latent: Latent, moments: list[sp.Symbol]) -> dict[str, object]:
    """Nodes, weights, the largest corr, E[He_p(ν)] and κ_kj as far as the C_ij need them."""
    highest = max(sum(_index(s)) for s in moments)
    kappa = GaussianCopula().steps(latent).hermite_moments(highest).tolist()
    return {
        "name": latent.name,
        "nodes": latent.nodes,
        "weights": latent.weights,
        "largestCorr": GaussianCopula().max_corr(latent),
        "hermiteMoment": latent.hermite_moment(latent.order),
        "kappa": [[_short(x) for x in row[: highest + 1 - k]] for k, row in enumerate(kappa)],
    }


def _short(x: float) -> float | int:
    """0 in one character."""
    return x or 0


def _moments_function(indices: list[MultiIndex]) -> str:
    """C_ij = ``MixedCumulant.planted_moment`` with the latent's κ_kj = kappa[k][j] left open."""
    task = MixedCumulant()
    beta_v = sp.Symbol("beta_v", positive=True)

    def kappa(k: int, j: int) -> sp.Expr:
        return sp.Symbol(f"kappa[{k}][{j}]") if j else sp.Integer(k == 0)

    rho = sp.Symbol("rho")
    par = SimpleNamespace(u=task.symbols().u, v=sp.Symbol("s_v", positive=True), rho=rho, kappa=kappa)
    values = [sp.sympify(task.planted_moment(index, par)) for index in indices]
    shared, reduced = sp.cse(values, symbols=sp.numbered_symbols("x"))
    return "\n".join([
        "function moments(beta_u, beta_v, corr, kappa) {",
        f"  const s_v = {sp.jscode(sp.sqrt(beta_v / (1 + beta_v)))};",
        f"  const rho = {sp.jscode(task.coupling.symbolic_strength(CORR, kappa(1, 1)))};",
        *(f"  const {name} = {sp.jscode(value)};" for name, value in shared),
        f"  return [{', '.join(map(sp.jscode, reduced))}];",
        "}",
    ])  # fmt: skip


def _learner(case: Case, polynomials: tuple[sp.Poly, ...], names: dict[sp.Symbol, sp.Symbol]) -> str:
    """One activation: its numbers by name, and every polynomial as exponents and a function (C, c) -> coefficients."""
    values = case.population.values()
    used = sorted((s for s in _symbols(polynomials) if not _is_moment(s)), key=str)
    rename = names | {s: sp.Symbol(f"c.{s}") for s in used}
    seen = [k for k, c in enumerate(case.activation.coefficients(SERIES_ORDER)) if abs(c) > VISIBLE]
    facts = {
        "name": case.activation.name,
        "complete": case.population.complete,
        "seen": seen,
        "c": {str(s): values[s] for s in used},
    }
    tables = []
    for poly in polynomials:
        terms = [(index, c) for index, c in sorted(poly.as_dict().items()) if c != 0]
        exponents = json.dumps([index for index, _ in terms], separators=(",", ":"))
        code = ",".join(sp.jscode(sp.sympify(c).xreplace(rename)).replace(" ", "") for _, c in terms)
        tables.append(f"{{exponents:{exponents},coefficients:(C,c)=>[{code}]}}")
    return json.dumps(facts, ensure_ascii=False)[:-1] + ', "polynomials": [\n' + ",\n".join(tables) + "]}"
