"""What the standard figure of a sweep shows: a store's points arranged as series along one of its axes. Draws nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sims.sweep_results import SweepResults, axes_of
from sims.sweep_table import plain, read_times
from theory.errors import require
from theory.results import Array, EscapeTimes, wilson_interval

# Keys that may follow from the rest, by rules or the theory; then keys in the order in which they say most.
DERIVED = ("format", "records", "init", "samples", "spikes", "target", "lr")
LEADING = ("view", "task", "teacher", "hidden", "corr", "beta_u", "beta_v", "beta_m", "p", "dim", "lr", "batch")
CURVES, MOST, RESAMPLED = 4, 8, 1000


@dataclass(frozen=True)
class Dot:
    """One point: its spike that is drawn, escape times, and the samples after which half of its runs had ended."""

    point: str
    config: Mapping[str, Any]
    spike: str
    escapes: EscapeTimes
    ended: float

    @property
    def times(self) -> Array:
        """Shape (n_runs,), in samples; inf where the run ended first."""
        return self.escapes.of(self.spike)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the median: bootstrap, of very many runs its limit, the order statistics n/2 ± 0.98 √n."""
        if len(self.times) <= RESAMPLED:
            return self.escapes.median_interval(self.spike)
        return self.escapes.quantile_interval(self.spike, 0.5)

    @property
    def random(self) -> bool:
        """Whether there are runs to compare."""
        return len(self.times) > 1


@dataclass(frozen=True)
class Series:
    """Dots along x that agree in ``values``."""

    values: Mapping[str, Any]
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Arrangement:
    """The axis, all series, the keys that are the same everywhere."""

    x: str
    series: tuple[Series, ...]
    constant: Mapping[str, Any]

    @property
    def dots(self) -> list[Dot]:
        """Of all series."""
        return [dot for series in self.series for dot in series.dots]


def arrange(results: SweepResults, x: str | None, spike: str | None, where: Mapping[str, Any]) -> Arrangement:
    """Series of the points with finished runs of a spike (None: of their targets). Raises InputError if there are none."""
    dots = _dots(results, spike, where)
    axes = axes_of(dot.config for dot in dots)
    x = _axis(axes, x, dots[0].config)
    keys = _telling(dots, x, [key for key in axes if key != x])
    groups: dict[tuple[Any, ...], list[Dot]] = {}
    for dot in sorted(dots, key=lambda d: [axes[k].index(plain(d.config.get(k))) for k in (*keys, x) if k in axes]):
        groups.setdefault(tuple(plain(dot.config.get(key)) for key in keys), []).append(dot)
    split, advice = " × ".join(keys), "select some of them with where, or another axis x"
    require(len(groups) <= MOST, "plot", f"{len(groups)} series, {split}, along {x}", f"at most {MOST}", advice)
    series = tuple(Series(dict(zip(keys, values, strict=True)), tuple(group)) for values, group in groups.items())
    return Arrangement(x, series, {key: value for key, value in dots[0].config.items() if key not in axes})


def _dots(results: SweepResults, spike: str | None, where: Mapping[str, Any]) -> list[Dot]:
    dots: list[Dot] = []
    spikes: dict[str, None] = {}
    for point in results.select(**where):
        config, runs = results.finished(point)
        spikes |= dict.fromkeys(config["spikes"])
        if runs and (spike is None or spike in config["spikes"]):
            times = read_times([run.result for run in runs])
            escapes = EscapeTimes(tuple(config["spikes"]), times, config["threshold"], config["samples"])
            ended = float(np.median([run.samples for run in runs]))
            dots.append(Dot(point, config, spike or config["target"], escapes, ended))
    require(spike is None or spike in spikes, "spike", repr(spike), ", ".join(spikes) or "none: there are no points")
    advice = "python -m sims.sweep resume runs them"
    require(bool(dots), "plot", f"{results.path} without finished runs", "points with finished runs", advice)
    return dots


def _axis(axes: Mapping[str, Sequence[Any]], x: str | None, config: Mapping[str, Any]) -> str:
    """The axis asked for; else d, the numeric axis with most values, any axis, or d alone."""
    if x is not None:
        require(x in axes or x in config, "x", repr(x), ", ".join(axes) or "dim (nothing varies)")
        return x
    free = [key for key in axes if key not in DERIVED and key != "seed"] or list(axes)
    numeric = [key for key in free if all(isinstance(value, int | float) for value in axes[key])]
    return "dim" if "dim" in axes else max(numeric or free, key=lambda key: len(axes[key]), default="dim")


def _telling(dots: Sequence[Dot], x: str, keys: list[str]) -> list[str]:
    """The keys that tell series apart: not those that follow from x and the others, nor two that say the same."""

    def n_kinds(*chosen: str) -> int:
        return len({tuple(plain(dot.config.get(key)) for key in chosen) for dot in dots})

    kept = sorted(keys, key=lambda key: LEADING.index(key) if key in LEADING else len(LEADING))
    for key in [k for k in DERIVED if k in kept]:
        rest = [k for k in kept if k != key]
        kept = rest if n_kinds(x, *rest) == len(dots) else kept
    for key in reversed(kept.copy()):
        rest = [k for k in kept if k != key]
        kept = rest if n_kinds(*rest) == n_kinds(*kept) else kept
    return kept


def select_curves(arrangement: Arrangement) -> list[tuple[int, Dot]]:
    """Dots to show whole, with the numbers of their series: of one series at a few x, of several at the x most of them have.

    Recorded ones if there are any, otherwise those of several runs.
    """
    recorded = any(dot.config["records"] for dot in arrangement.dots)
    usable = [
        [dot for dot in series.dots if (dot.config["records"] if recorded else dot.random)]
        for series in arrangement.series
    ]
    if len(usable) == 1:
        last = len(usable[0]) - 1
        places = sorted({round(last * k / (CURVES - 1)) for k in range(CURVES)}) if usable[0] else []
        return [(0, usable[0][place]) for place in places]
    counts = Counter(plain(dot.config.get(arrangement.x)) for dots in usable for dot in dots)
    if not counts:
        return []
    most = max(counts.values())
    shared = [value for value in counts if counts[value] == most][-1]
    return [(k, dot) for k, dots in enumerate(usable) for dot in dots if plain(dot.config.get(arrangement.x)) == shared]


def survival(dot: Dot) -> tuple[Array, Array, Array]:
    """Share of runs that have not escaped after t samples: times (n,), shares (n,), 95 % Wilson intervals (n, 2).

    From t = 0 a step at every escape, to the last one or, if runs are left, the budget: the Kaplan–Meier estimate, since all
    are censored there.
    """
    n_runs = len(dot.times)
    seen = np.sort(dot.times[np.isfinite(dot.times)])
    times = np.concatenate([[0.0], seen])
    left = n_runs - np.arange(len(times))
    if left[-1]:
        times, left = np.append(times, dot.escapes.budget), np.append(left, left[-1])
    return times, left / n_runs, np.array([wilson_interval(int(hits), n_runs) for hits in left])
