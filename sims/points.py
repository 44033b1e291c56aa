"""From the words of a grid to points of a store, and from a point to its runs: what the workers of a sweep execute.

A point's configuration holds what was chosen, whatever was ``auto`` in the grid: it determines every run of it, replica i by
the seed (hash, i). Rates and budgets that the theory chooses are rounded, so that two machines choose the same.
"""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import inf, isfinite
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sims.batches import Unit
from sims.network_scaling import ENGINES as NETWORKS
from sims.scaling_engines import Subject
from sims.sweep_views import VIEWS, Engine
from solvers._chain_kernels import LANES
from solvers.build import LOSSES, build_model, build_task, start_from_text
from solvers.ode import best_signs
from solvers.options import TASKS
from solvers.random_start import natural_scale
from theory.activations import Activation, activation_from_text
from theory.errors import DivergedError, require
from theory.network_results import NetworkEnsemble
from theory.networks import NetworkModel, Rates, TwoLayer
from theory.provenance import canonical, digest, environment, seed_of
from theory.results import Ensemble, time_grid
from theory.store import DIVERGED, FAILED, FINISHED, Point, Run
from theory.store_payload import pack_overlaps, plain_times

PROGRAM = "sims.sweep"
FORMAT = 1  # of configurations: a change of what one means makes other hashes
RANDOM = "random"
TASK_KEYS = ("task", "p", "corr", "coupling", "latent", "beta_m", "beta_u", "beta_v", "teacher", "noise")
NETWORK_KEYS = ("hidden", "bias_scale", "lr_second", "lr_bias", "lr_output")


def resolve(words: Mapping[str, Any]) -> Point:
    """The point of one combination of a grid's words. Raises InputError."""
    config = {"format": FORMAT, **_resolve_network(words)} if "hidden" in words else _resolve_neuron(words)
    cost, runs = config.pop("cost"), words["runs"]
    if not VIEWS[config["view"]].random and config["init"] != RANDOM:
        runs = 1
    return Point.of(PROGRAM, config, runs, cost)


def _resolve_neuron(words: Mapping[str, Any]) -> dict[str, Any]:
    require(10 <= words["dim"] <= 10**15, "dim", words["dim"], "a whole number, 10 … 10^15")
    subject = _subject(_model_words(words), words["target"], words["threshold"])
    spikes, dim, view = subject.model.spikes, words["dim"], words["view"]
    _check_view(view, words, len(spikes))
    init = words["init"]
    if init == "typical":
        init = ",".join(
            f"{s}={x!r}" for s, x in zip(spikes, best_signs(subject.population, dim**-0.5).tolist(), strict=True)
        )
    start_from_text(init, spikes)
    lr = _rate(subject, words)
    predicted = subject.predicted(dim, lr)
    samples = words["samples"]
    if samples is None:
        expected = predicted if isfinite(predicted) else natural_scale(subject.population, dim, lr, np.array([inf]))
        samples = float(f"{words['budget'] * expected:.3g}")
    allowed, batch = "1 … 10^15 samples a run, at least one batch", words["batch"]
    require(max(1, batch) <= samples <= 1e15, "samples", f"{samples:.4g}", allowed, "give samples, or a smaller batch")
    samples = float(int(samples) // batch * batch)
    chosen = {"target": subject.target, "lr": lr, "init": init, "samples": samples, "spikes": list(spikes)}
    keys = (*TASK_KEYS, "activation", "loss", "view", "dim", "batch", "threshold", "records", "seed")
    config = {
        "format": FORMAT,
        **{k: words[k] for k in keys},
        **_defaults(words, subject.model.learner.activation),
        **chosen,
    }
    engine_of(config)
    finish = samples if words["records"] else min(2 * predicted, samples)
    return config | {"cost": max(VIEWS[view].cost(dim, finish), 1e-6)}


def _defaults(words: Mapping[str, Any], activation: Activation) -> dict[str, Any]:
    """What the words left open, written out so that it can be read again to the last digit."""
    chosen: dict[str, Any] = {}
    if words["activation"] is None:
        degree = activation.function.degree
        terms = [] if degree is None else enumerate(activation.coefficients(degree).tolist())
        text = ",".join(f"{k}={c!r}" for k, c in terms if c)
        chosen["activation"] = f"hermite:{text}" if text else activation.name
    if words["task"] == TASKS[0] and words["beta_u"] is None:
        chosen["beta_u"] = 1.0
    return chosen


def _check_view(name: str, words: Mapping[str, Any], spikes: int) -> None:
    require(name in VIEWS, "view", name, ", ".join(VIEWS))
    view, batch, records = VIEWS[name], words["batch"], words["records"]
    require(batch == 1 or view.minibatches, "batch", batch, f"1 with view {name}", "take chain or highd")
    require(records == 0 or view.records, "records", records, f"0 with view {name}, which knows times alone")
    one = spikes == 1 or not view.one_overlap
    require(one, "view", name, "ode, sde, chain or highd for several spikes", "the Kolmogorov equation has one overlap")


def _rate(subject: Subject, words: Mapping[str, Any]) -> float:
    """The learning rate as given, or a fraction κ of the critical one, or ½ of it or less, in six digits."""
    dim, kappa = words["dim"], words["kappa"]
    if kappa is not None:
        require(words["lr"] is None, "lr", words["lr"], "nothing beside kappa", "give one of them")
        return float(f"{kappa * subject.critical_rate(dim):.6g}")
    return words["lr"] if words["lr"] is not None else float(f"{subject.moderate_rate(dim):.6g}")


def _resolve_network(words: Mapping[str, Any]) -> dict[str, Any]:
    model, view, dim = _network(_model_words(words)), words["view"], words["dim"]
    require(view in NETWORKS, "view", view, f"{', '.join(NETWORKS)} with [network]")
    target = words["target"] or ("v" if "v" in model.spikes else model.spikes[-1])
    require(target in model.spikes, "target", target, ", ".join(model.spikes))
    require(words["lr"] is not None, "lr", "auto", "a number with [network]", "0.5 is usual")
    require(words["samples"] is not None, "samples", "auto", "a number with [network], whose times no theory predicts")
    for key, only in (("kappa", None), ("init", RANDOM)):
        require(words[key] == only, key, words[key], f"{only or 'nothing'} with [network]")
    kept = {k: words[k] for k in (
        *TASK_KEYS, "activation", "loss", *NETWORK_KEYS, "view", "dim", "lr", "batch", "threshold", "init", "records", "seed",
    )}  # fmt: skip
    config = kept | {"target": target, "samples": float(int(words["samples"])), "spikes": list(model.spikes)}
    engine: Any = engine_of(config)
    block = engine.block if view == "chain" else words["batch"]  # it ends and records at multiples of so many samples
    config |= {"grain": block, "samples": float(-(-int(config["samples"]) // block) * block)}
    return config | {"cost": config["samples"] * NETWORKS[view].cost(words["hidden"], dim)}


def _model_words(words: Mapping[str, Any]) -> str:
    """What the model depends on, as a key of the caches."""
    return canonical({k: words[k] for k in (*TASK_KEYS, "activation", "loss", *NETWORK_KEYS) if k in words})


@lru_cache(maxsize=64)
def _subject(model_words: str, target: str | None, threshold: float) -> Subject:
    model = build_model(Namespace(**json.loads(model_words)))
    named = target or ("v" if "v" in model.spikes else model.spikes[0] if len(model.spikes) == 1 else None)
    require(
        named in model.spikes, "target", target, f"one of {', '.join(model.spikes)}", "name the spike that ends a run"
    )
    require(0 < threshold < 1, "threshold", threshold, "a number between 0 and 1")
    return Subject(model, str(named), threshold)


@lru_cache(maxsize=64)
def _network(model_words: str) -> NetworkModel:
    words = Namespace(**json.loads(model_words))
    activation = activation_from_text(words.activation or "relu")
    learner = TwoLayer(activation, LOSSES[words.loss], words.hidden, bias_scale=words.bias_scale)
    return NetworkModel(build_task(words), learner)


def _rates(config: Mapping[str, Any]) -> Rates:
    return Rates(config["lr"], config["lr_second"], config["lr_bias"], config["lr_output"])


def grain(point: Point) -> int:
    """Replicas worth running together: the overlap chain carries ``LANES`` side by side at the price of one."""
    config = point.values
    return LANES if config["view"] == "chain" and "hidden" not in config else 1


def run_batch(units: Sequence[Unit]) -> tuple[str, list[Run]]:
    """The environment, and a row for every replica of the units: a replica that fails does so alone."""
    return environment(), [row for unit in units for row in _run_unit(unit.config, unit.replicas)]


def _run_unit(config: str, replicas: Sequence[int]) -> list[Run]:
    begin = perf_counter()
    try:
        found = _measure(json.loads(config), digest(config), replicas)
    except Exception as error:  # whatever one replica does, the others are finished
        if len(replicas) > 1:
            return [row for replica in replicas for row in _run_unit(config, (replica,))]
        status, what = (DIVERGED if isinstance(error, DivergedError) else FAILED), f"{type(error).__name__}: {error}"
        return [Run(digest(config), replicas[0], status, "[]", True, 0.0, perf_counter() - begin, what)]
    return _rows(json.loads(config), digest(config), replicas, found, perf_counter() - begin)


def _rows(
    config: dict[str, Any], point: str, replicas: Sequence[int], found: Ensemble | NetworkEnsemble, seconds: float
) -> list[Run]:
    target, n, budget = config["spikes"].index(config["target"]), len(replicas), config["samples"]
    diverged = {d.replica: f"{d.name} is not finite after {d.samples} samples" for d in getattr(found, "diverged", ())}
    paths = np.stack([found.trajectory.of(s) for s in config["spikes"]], axis=-1) if config["records"] else [None] * n
    rows = []
    for replica, times, path in zip(replicas, found.escapes.times.tolist(), paths, strict=True):
        status = DIVERGED if replica in diverged else FINISHED
        result, record = json.dumps(plain_times(times)), None if path is None else pack_overlaps(path)
        end = budget if config["records"] else min(times[target], budget)
        rows.append(Run(
            point, replica, status, result, not isfinite(times[target]), end, seconds / n, diverged.get(replica), record
        ))  # fmt: skip
    return rows


def _measure(config: dict[str, Any], point: str, replicas: Sequence[int]) -> Ensemble | NetworkEnsemble:
    """Runs end at the target, or, where they are recorded, at the end of the budget."""
    times, stop = (
        (record_times(config), ()) if config["records"] else (np.empty(0, dtype=np.int64), (config["target"],))
    )
    return engine_of(config).run(
        runs=list(replicas), samples=int(config["samples"]), seed=seed_of(point), threshold=config["threshold"],
        stop_spikes=stop, times=times, threads=1,
    )  # fmt: skip


def engine_of(config: Mapping[str, Any]) -> Engine:
    """What the replicas of a configuration are run with. Raises InputError for what it cannot do."""
    if "hidden" in config:
        model = _network(_model_words(config))
        return NETWORKS[config["view"]].view(model, config["dim"], _rates(config), config["batch"])
    subject = _subject(_model_words(config), config["target"], config["threshold"])
    return VIEWS[config["view"]].build(subject, config, start_from_text(config["init"], subject.model.spikes))


def record_times(config: Mapping[str, Any]) -> NDArray[np.int64]:
    """The samples at which overlaps are recorded: 0, then evenly in log time."""
    return time_grid(int(config["samples"]), config["records"], 0)
