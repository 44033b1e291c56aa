"""The curves of ``sims.complexities_study``: bounds computed, the rest measured point by point and kept in a store."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np

from sims.complexities_study import (
    ACCURACY,
    BOUND,
    CHAIN_FROM,
    DEGREES,
    DETECTION,
    ERROR,
    FAR,
    KAPPA,
    LEVEL,
    LOW_DEGREE,
    RATES,
    RECOVERY,
    SPIKED,
    SUBJECT,
    TEST,
    Complexities,
    ComplexityStudy,
    Curve,
    Point,
    Times,
    crossings,
    record_times,
    until_interrupted,
)  # fmt: skip
from sims.escape_runs import run_study
from sims.escape_study import Point as Timed
from sims.escape_study import Scaling, false_alarms
from sims.feature_ridge import RandomFeatures
from sims.features_study import mean_interval
from sims.network_sgd import NetworkSGD
from sims.threshold_scaling import CRITICAL, Study, rates
from solvers.detection_study import STATISTICAL, DetectionStudy
from solvers.gram_chain import GramChain
from solvers.likelihood_ratio import LARGEST, likelihood_ratios
from theory.activations import relu
from theory.archive import completed, fingerprint
from theory.network_error import MARGIN, ErrorMeter
from theory.results import Array, EscapeTimes, wilson_interval
from theory.scaling_laws import RESAMPLES, fit_scaling
from theory.store import FINISHED, Run, Store
from theory.store import Point as Kept

Measure = Callable[[list[int]], Array]  # replicas -> accuracies (n_replicas, n_times)
Records = tuple[Times, Array]  # times and accuracies (n_runs, n_times)
Measured = tuple[Curve, bool]  # and whether Ctrl-C cut it short

PROGRAM = "sims.complexities"
NEURONS_A_RUN = 4  # single neurons are cheap
STEP, SURE = 1.2, 4.0  # ratio of neighbouring n of the likelihood-ratio test; z beyond which its error is below 1/4
CHUNK = 8  # networks or feature fits that a kill may lose
TEST_SEED, NETWORK_SEED, FEATURE_SEED = 1, 2, 3


def run_complexities(study: ComplexityStudy, quiet: bool = True, store: Store | None = None) -> Complexities:
    """Compute the bounds and measure the rest, or take it from ``store``. Ctrl-C keeps the finished points."""
    curves, interrupted = _bounds(study), False
    for part in (_likelihood_ratio, _neuron, _network, _network_accuracy, _feature_accuracy):
        curve, interrupted = part(study, quiet, store)
        curves += [curve] if curve.points else []
        if interrupted:
            break
    return Complexities(study, tuple(curves), interrupted)


def _bounds(study: ComplexityStudy) -> list[Curve]:
    """The three curves of ``solvers.detection_study``, exact."""
    exact = DetectionStudy(DETECTION, tuple(sorted({*study.dims, *FAR})), DEGREES, LEVEL)
    curves = []
    for name, values in exact.thresholds.items():
        points = tuple(Point(d, n, (n, n), "exact") for d, n in zip(exact.dims, values.tolist(), strict=True))
        known = name == STATISTICAL
        setting = "spike with entries ±1/√d" if known else f"polynomials of degree {name[4:]}, spike with entries ±1/√d"
        local = float(exact.exponents(name)[-1])
        curves.append(Curve(name, BOUND if known else LOW_DEGREE, setting, points, local))
    return curves


def _likelihood_ratio(study: ComplexityStudy, quiet: bool, store: Store | None) -> Measured:  # noqa: ARG001 - short
    """n at which the best test errs with probability 1/4; intervals by resampling the numbers of errors."""
    dims = [d for d in sorted(study.dims) if d <= LARGEST]
    found, interrupted = until_interrupted((d, _test_errors(study, d, store)) for d in dims)
    rng = np.random.default_rng(study.seed_of(TEST_SEED))
    trials, points, logs, measured = 2 * study.data_sets, [], [], []
    for dim, (samples, errors) in found:
        resampled = rng.binomial(trials, errors, (RESAMPLES, len(errors))) / trials
        at = float(crossings(samples, -errors[None, :], -ERROR)[0])
        # A resample whose last error is above 1/4 as well, one in thousands, counts as crossing there.
        spread = np.minimum(crossings(samples, -resampled, -ERROR), samples[-1])
        low, high = np.quantile(spread, (0.025, 0.975))
        points.append(Point(dim, at, (float(low), float(high)), "Monte Carlo", study.data_sets))
        logs.append(np.log(spread))
        measured.append(np.log(at))
    exponent = interval = None
    if len(points) > 1:
        x = np.log([p.dim for p in points])
        exponent = float(np.polyfit(x, measured, 1)[0])
        slopes = np.polyfit(x, np.array(logs), 1)[0]
        interval = (float(np.quantile(slopes, 0.025)), float(np.quantile(slopes, 0.975)))
    setting = f"spike with entries ±1/√d, {study.data_sets} data sets of each kind at each n"
    return Curve("likelihood ratio", TEST, setting, tuple(points), exponent, interval), interrupted


def _test_errors(study: ComplexityStudy, dim: int, store: Store | None) -> tuple[Array, Array]:
    """Errors of the test at n from the statistical bound on, until they are below 1/4 for certain."""
    samples: list[float] = []
    errors: list[float] = []
    n = ceil(DETECTION.statistical_threshold(dim, LEVEL))
    while not errors or wilson_interval(round(errors[-1] * 2 * study.data_sets), 2 * study.data_sets, SURE)[1] >= ERROR:
        samples.append(float(n))
        errors.append(_test_error(study, dim, n, store))
        n = max(n + 1, round(STEP * n))
    return np.array(samples), np.array(errors)


def _test_error(study: ComplexityStudy, dim: int, n: int, store: Store | None) -> float:
    seed = study.seed_of(TEST_SEED, dim, n)

    def compute(_: list[int]) -> Array:
        return np.array([[likelihood_ratios(DETECTION, dim, n, study.data_sets, seed).error[0]]])

    config = {
        "part": TEST,
        "dim": dim,
        "samples": n,
        "data_sets": study.data_sets,
        "seed": seed,
        "model": repr(DETECTION),
    }
    return float(_recalled(store, config, 1, float(n), compute)[0, 0])


def _neuron(study: ComplexityStudy, quiet: bool, store: Store | None) -> Measured:
    """One neuron on the sphere, from a random start: the exact chain, further on the diffusion, and the exact law of both."""

    def timed(engine: str, dims: tuple[int, ...]) -> Study:
        lrs = tuple(rates(SUBJECT, dims, CRITICAL, None, KAPPA))
        return Study(SUBJECT, engine, dims, lrs, (1,), NEURONS_A_RUN * study.runs, study.seed, controls=False)

    parts = [timed("chain", study.near), timed("sde", study.far)]
    found, interrupted = until_interrupted(run_study(part, quiet, store) for part in parts)
    timed_points = [(p, result.study.engine) for result in found for p in result.points]
    dims = np.unique(np.geomspace(CHAIN_FROM, max(study.far), 25).astype(int)).tolist()
    law = zip(dims, rates(SUBJECT, tuple(dims), CRITICAL, None, KAPPA), strict=True)
    rate = f"δ = {KAPPA:g} δ_crit = {rates(SUBJECT, (100,), CRITICAL, None, KAPPA)[0] * 100:.3g}/d"
    points = [_point(p, engine) for p, engine in timed_points]
    setting = f"one ReLU neuron on the sphere, correlation loss, {rate}"
    curve = _curve("neuron", RECOVERY, setting, points, [p.times for p, _ in timed_points], study.seed)
    predicted = tuple((d, SUBJECT.predicted(d, lr)) for d, lr in law)
    return replace(curve, predicted=predicted), interrupted or _cut(found)


def _network(study: ComplexityStudy, quiet: bool, store: Store | None) -> Measured:
    """The best neuron of a two-layer network, by SGD in R^d, beside the same network on data without the spike."""
    found, interrupted = until_interrupted(run_study(arm, quiet, store) for arm in (study.arm,))
    timed_points = [p for result in found for p in result.points]
    points = [_point(p, "SGD in R^d") for p in timed_points]
    curve = _curve("network", RECOVERY, _words(study), points, [p.times for p in timed_points], study.seed)
    controls = [c for result in found for c in result.controls]
    return replace(curve, control=false_alarms(controls) if controls else None), interrupted or _cut(found)


def _network_accuracy(study: ComplexityStudy, quiet: bool, store: Store | None) -> Measured:
    """The same networks, other runs, by their test accuracy: exactly from the state but for a quadrature."""
    model = study.network

    def measured(dim: int) -> Records:
        view = GramChain if dim >= study.hidden + len(model.spikes) + 1 else NetworkSGD
        engine, times = view(model, dim, RATES), record_times(dim, study.budget(dim))
        meter, seed = ErrorMeter(model, seed=study.seed), study.seed_of(NETWORK_SEED, dim)

        def compute(replicas: list[int]) -> Array:
            found = engine.run(replicas, int(times[-1]), seed, times=times, quiet=quiet)
            if found.interrupted:
                raise KeyboardInterrupt
            # A network that diverged stays at chance.
            return np.nan_to_num(meter.measure_trajectory(found.trajectory).accuracy(), nan=0.5)

        config = {
            "part": "network accuracy", "model": fingerprint(model), "rates": repr(RATES), "view": view.__name__, "dim": dim,
            "times": times.tolist(), "seed": seed, "meter": study.seed,
        }  # fmt: skip
        return times, _recalled(store, config, study.runs, float(times[-1]), compute)

    return _accuracies(study, "network, accuracy", "online SGD", _words(study), study.trained, measured)


def _feature_accuracy(study: ComplexityStudy, quiet: bool, store: Store | None) -> Measured:
    """Ridge regression on a frozen random first layer, the ridge chosen on held-out data that are not counted."""

    def measured(dim: int) -> Records:
        features = RandomFeatures(SPIKED, relu(), dim, study.features)
        times = record_times(dim, study.feature_budget(dim))
        seed = study.seed_of(FEATURE_SEED, dim)

        def compute(replicas: list[int]) -> Array:
            found = features.run(replicas, times, seed, quiet=quiet)
            if found.interrupted:
                raise KeyboardInterrupt
            return found.accuracy

        config = {
            "part": "features", "model": repr(SPIKED), "activation": features.activation.name, "dim": dim,
            "width": study.features, "times": times.tolist(), "seed": seed,
        }  # fmt: skip
        return times, _recalled(store, config, study.runs, float(times[-1]), compute)

    setting = f"ridge regression on N = {study.features} frozen random ReLU features"
    return _accuracies(study, "random features", "ridge", setting, tuple(sorted(study.dims)), measured)


def _accuracies(
    study: ComplexityStudy,
    name: str,
    view: str,
    setting: str,
    dims: tuple[int, ...],
    measured: Callable[[int], Records],
) -> Measured:
    """n at which the test accuracy of half of the runs has risen to 52 %."""
    found, interrupted = until_interrupted((d, *measured(d)) for d in dims)
    points, crossed = [], []
    for dim, times, accuracy in found:
        escapes = EscapeTimes(("v",), crossings(times, accuracy, 0.5 + MARGIN)[:, None], 0.5 + MARGIN, float(times[-1]))
        last = accuracy[:, -1]
        points.append(Point(
            dim, escapes.quantile("v", 0.5), escapes.median_interval("v", study.seed), view, len(last),
            escapes.n_censored("v"), float(times[-1]), (float(last.mean()), *mean_interval(last)),
        ))  # fmt: skip
        crossed.append(escapes.of("v"))
    return _curve(name, ACCURACY, setting, points, crossed, study.seed), interrupted


def _curve(name: str, criterion: str, setting: str, points: list[Point], times: list[Array], seed: int) -> Curve:
    """With the power of d that fits the medians of ``times``."""
    fit = fit_scaling(np.array([float(p.dim) for p in points]), times, seed) if points else None
    return Curve(
        name, criterion, setting, tuple(points), fit.exponent if fit else None, fit.interval if fit else None
    )  # fmt: skip


def _point(timed: Timed, view: str) -> Point:
    job = timed.job
    return Point(
        job.dim, timed.median, timed.interval, view, job.runs, timed.escapes.n_censored(timed.target), job.samples
    )  # fmt: skip


def _words(study: ComplexityStudy) -> str:
    r = RATES
    return (
        f"two-layer network, K = {study.hidden} ReLU neurons, squared loss, online SGD with δ = {r.first:g} (w), "
        f"{r.second:g} (a), {r.bias:g} (b), {r.output:g} (a_0)"
    )


def _cut(found: list[Scaling]) -> bool:
    return any(result.interrupted for result in found)


def _recalled(store: Store | None, config: dict[str, Any], runs: int, cost: float, measure: Measure) -> Array:
    """What ``measure`` gives for ``runs`` replicas, from the store where it has them. KeyboardInterrupt if any is missing."""
    if store is None:
        return measure(list(range(runs)))
    point = Kept.of(PROGRAM, {**config, "format": 1}, runs, cost)

    def compute(replicas: list[int]) -> list[Run]:
        rows = measure(replicas).tolist()
        return [
            Run(point.hash, i, FINISHED, json.dumps(row), False, cost, 0.0)
            for i, row in zip(replicas, rows, strict=True)
        ]

    rows, interrupted = completed(store, point, compute, CHUNK)
    if interrupted or not rows:
        raise KeyboardInterrupt
    return np.array([json.loads(row.result) for row in rows])
