"""From command-line words to frozen values: the only place that translates names into tasks, learners and starts."""

import re
from argparse import Namespace
from math import comb, factorial, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from solvers.options import require_defaults
from solvers.prediction import Prediction, predict, predict_random
from theory.activations import Activation, activation_from_text, hermite_mixture, relu
from theory.errors import InputError, require
from theory.exponents import first_form
from theory.hermite import MultiIndex
from theory.hierarchical import HierarchicalCumulant, Planted
from theory.hierarchy import TREE, symmetric, tree_from_text
from theory.latents import Coupling, EvenCoupling, GaussianCopula, Latent, gauss, lobatto, radau, standard_latent
from theory.laws import Task
from theory.learners import CorrelationLoss, Loss, Neuron, SquaredLoss
from theory.numerals import number, whole_number
from theory.population import Model, Population
from theory.tasks import MixedCumulant, TeacherStudent

COUPLINGS: dict[str, Coupling] = {"copula": GaussianCopula(), "even": EvenCoupling()}
LOSSES: dict[str, Loss] = {"correlation": CorrelationLoss(), "squared": SquaredLoss()}
FACTOR = re.compile(r"h(\d{1,2})\(([a-z]\w{0,9})\)", re.ASCII)
MOST_TERMS = 12_000  # of the series of a hierarchy: some seconds of theory
TEACHER = "terms joined by + or -, each a product of a number and factors hK(NAME), as in h2(u)+0.5*h1(u)*h4(v)"


def build_model(words: Namespace) -> Model:
    """Task and learner from parsed options. Raises InputError."""
    task = build_task(words)
    activation = default_activation(task) if words.activation is None else activation_from_text(words.activation)
    return Model(task, Neuron(activation, LOSSES[words.loss]))


def build_task(words: Namespace) -> Task:
    """The law of the data. Options that do not belong to the chosen task must be left at their defaults."""
    require(3 <= words.p <= 8, "p", words.p, "3 … 8")
    company = f"--task {words.task}"
    if words.task == "hierarchical":
        require_defaults(words, company, p=4, latent="standard", coupling="copula", beta_m=0.0, teacher=None, noise=0.0)
        return hierarchical_from_words(words)
    require_defaults(words, company, **{name: None for name in ("hierarchy", "visible") if hasattr(words, name)})
    if words.task == "teacher-student":
        require_defaults(words, company, latent="standard", coupling="copula", beta_m=0.0, beta_u=None, beta_v=10.0)
        if words.teacher is not None:
            require(words.corr == 0, "corr", words.corr, "0 with --teacher", "write the term h1(u)*h1(v) into it")
            require_defaults(words, "--teacher", p=4)
            return teacher_from_text(words.teacher, words.noise)
        require(words.corr == 0 or 1e-6 <= abs(words.corr) <= 1, "corr", words.corr, "0, or 1e-6 … 1 in absolute value")
        terms = [((2, 0), 1.0), ((1, 1), words.corr), ((0, words.p), 1.0)]
        return TeacherStudent(("u", "v"), tuple((i, f) for i, f in terms if f), words.noise)
    require_defaults(words, company, teacher=None, noise=0.0)
    alone = words.task == "spiked-cumulant"
    if alone:
        require_defaults(words, company, beta_m=0.0, beta_u=None, corr=0.0, coupling="copula")
    beta_u = 0.0 if alone else 1.0 if words.beta_u is None else words.beta_u
    latent = latent_from_text(words.latent, words.p)
    return MixedCumulant(latent, COUPLINGS[words.coupling], words.corr, words.beta_m, beta_u, words.beta_v)


def hierarchical_from_words(words: Namespace) -> HierarchicalCumulant:
    """Binary latents on the tree --hierarchy, spikes but for capital names: visible of --beta-u, hidden of --beta-v."""
    text = getattr(words, "hierarchy", None)  # grids of sweeps have no such key
    if text is None:
        raise InputError("hierarchy", "nothing", TREE, "name it by --hierarchy")
    parents = tree_from_text(text)
    tree = symmetric(parents, words.corr)
    spikes = tuple(name for name in parents if not name[0].isupper())
    chosen = next(iter(parents)) if words.visible is None else words.visible
    visible = {name.strip() for name in chosen.split(",")} - {""}
    known = words.visible is None or visible <= set(spikes)
    require(known, "visible", repr(words.visible), f"spikes of the hierarchy: {', '.join(spikes)}")
    used = words.beta_u is None or bool(visible & set(spikes))
    require(used, "beta-u", words.beta_u, "nothing where no spike is visible", "leave it out")
    if "order" in words:
        terms = comb(words.order + len(spikes), len(spikes))
        require(terms <= MOST_TERMS, "hierarchy", f"{len(spikes)} spikes, {terms} terms of the series",
                f"at most {MOST_TERMS} terms", "lower --order, or leave spikes out by capital names")  # fmt: skip
    beta_u = 1.0 if words.beta_u is None else words.beta_u
    planted = (Planted(s, beta_u if s in visible else words.beta_v, s not in visible) for s in spikes)
    return HierarchicalCumulant(tree, tuple(planted))


def default_activation(task: Task) -> Activation:
    """ReLU where it drives every hidden spike (v) alone at its own order, otherwise the Hermite mixture with V = 1 on noise.

    The mixture holds degree 2 and the degrees of the task, c_k = ±√((k-1)!)/√n, with the attractive sign.
    """
    signs = task.useful_degrees()
    hidden = task.hidden if isinstance(task, HierarchicalCumulant) else tuple(s for s in task.spikes if s == "v")
    alone = [solo for s in hidden if (solo := task.alone(s)) is not None]
    suits = all(_suits_relu(solo) for solo in alone) if alone else min(signs) == max(signs) == 2
    if suits:
        return relu()
    return hermite_mixture({k: sign * sqrt(factorial(k - 1) / len(signs)) for k, sign in signs.items()})


def _suits_relu(alone: Task) -> bool:
    """Whether ReLU drives a lone spike at the order of its cumulant."""
    form = first_form(Population(Model(alone, Neuron(relu(), CorrelationLoss())), alone.signal_order))
    return form is not None and form[0] == alone.signal_order


def latent_from_text(text: str, p: int) -> Latent:
    """``standard``, ``positive``, ``negative``, ``gauss``, ``rademacher``, ``radau[:NODE]``, ``lobatto[:NODE]``."""
    name, _, rest = text.partition(":")
    signs = {"standard": 0, "positive": 1, "negative": -1}
    rules = {"radau": radau, "lobatto": lobatto}
    try:
        node = number(rest) if rest else None
    except ValueError:
        raise InputError("latent", repr(text), "a number after the colon, as in lobatto:2") from None
    require(node is None or isfinite(node), "latent", repr(text), "a finite node")
    if name in signs and node is None:
        return standard_latent(p, signs[name])
    if name in ("gauss", "rademacher") and node is None:
        require(
            name == "gauss" or p == 4, "latent", repr(text), "p = 4 with rademacher", "gauss is its like for p = 6, 8"
        )
        return gauss(p)
    if name in rules:
        return rules[name](p, node)
    raise InputError("latent", repr(text), ", ".join([*signs, "gauss", "rademacher", "radau[:NODE]", "lobatto[:NODE]"]))


def teacher_from_text(text: str, noise: float = 0.0) -> TeacherStudent:
    """Read ``h2(u)+0.5*h1(u)*h4(v)``, h_k = He_k. Spikes are named m, u, v or as one likes. Never evaluated."""
    compact = text.replace(" ", "")
    # A sign right after an exponent's e (1e-3) does not start a new term.
    parts = [t for t in re.split(r"(?<![\d.][eE])(?=[+-])", compact) if t]
    require(bool(parts) and len(compact) <= 400, "teacher", repr(text), TEACHER)
    read = [_term(part, text) for part in parts]
    spikes = tuple(sorted({s for _, degrees in read for s in degrees}))
    require(len(spikes) <= 4, "teacher", repr(text), "at most 4 spikes")
    terms: dict[MultiIndex, float] = {}
    for value, degrees in read:
        index = tuple(degrees.get(s, 0) for s in spikes)
        terms[index] = terms.get(index, 0.0) + value
    return TeacherStudent(spikes, tuple((i, f) for i, f in terms.items() if f != 0), noise)


def _term(part: str, text: str) -> tuple[float, dict[str, int]]:
    value, degrees = (-1.0 if part[0] == "-" else 1.0), {}
    for factor in part.lstrip("+-").split("*"):
        match = FACTOR.fullmatch(factor)
        if match:
            degree, spike = int(match[1]), match[2]
            require(spike not in degrees and degree > 0, "teacher", repr(text), "each spike once a term, degree >= 1")
            degrees[spike] = degree
            continue
        try:
            value *= number(factor)
        except ValueError:
            raise InputError("teacher", repr(text), TEACHER) from None
    require(bool(degrees), "teacher", repr(text), TEACHER)
    return value, degrees


def predict_from_words(words: Namespace, model: Model, dim: int) -> Prediction:
    """The prediction that the options ask for: from a random start, or by the ODE from a given one."""
    require(words.seed >= 0, "seed", words.seed, "a whole number >= 0")
    lr, start, budget = (
        lr_from_text(words.lr),
        start_from_text(words.init, model.spikes),
        samples_from_text(words.budget),
    )
    if words.init == "random":
        return predict_random(model, dim, lr, words.threshold, words.order, budget, words.seed)
    require(budget is None, "--budget", words.budget, "nothing unless --init random", "leave it out")
    return predict(model, dim, lr, words.threshold, words.order, start)


def samples_from_text(text: str | None) -> float | None:
    """A number of samples such as 1e9, or None."""
    try:
        samples = None if text is None else number(text)
    except ValueError:
        raise InputError("budget", repr(text), "a number of samples >= 1, as in 1e9") from None
    require(
        samples is None or (isfinite(samples) and samples >= 1), "budget", text, "a number of samples >= 1, as in 1e9"
    )
    return samples


def lr_from_text(text: str) -> float | None:
    """A number, or None for ``auto``."""
    if text == "auto":
        return None
    try:
        return number(text)
    except ValueError:
        raise InputError("lr", repr(text), "a number > 0, or auto") from None


def start_from_text(text: str, spikes: tuple[str, ...]) -> NDArray[np.float64] | None:
    """``random`` or ``typical`` (None), or overlaps ``u=0.05,v=0.02`` for every spike."""
    if text in ("random", "typical"):
        return None
    try:
        pairs = [(name.strip(), number(value)) for name, value in (item.split("=") for item in text.split(","))]
    except ValueError:
        raise InputError(
            "init", repr(text), f"random, typical, or overlaps for {', '.join(spikes)} such as u=0.05"
        ) from None
    given = dict(pairs)
    complete = len(pairs) == len(given) and set(given) == set(spikes)
    require(complete, "init", repr(text), f"random, typical, or one overlap for each of {', '.join(spikes)}")
    start = np.array([given[s] for s in spikes])
    inside = bool(np.all(np.isfinite(start))) and float(start @ start) <= 1
    require(inside, "init", repr(text), "finite overlaps with sum of squares <= 1")
    return start


def dims_from_words(words: list[str]) -> list[int]:
    """``--dim 100 1000`` or ``--dim 100,1000``."""
    pieces = [piece for word in words for piece in word.split(",")]
    try:
        dims = [whole_number(piece) for piece in pieces]
    except ValueError:
        raise InputError("dim", repr(" ".join(words)), "whole numbers >= 10, as in 1000 or 100,1000,1e4") from None
    for dim in dims:
        require(10 <= dim <= 10**12, "dim", dim, "a whole number, 10 … 10^12")
    return dims
