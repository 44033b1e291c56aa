"""What every view of a two-layer network returns: the overlaps of all neurons along time, by name. The clock is samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.errors import require
from theory.networks import NetworkState
from theory.result_tables import library, network_ensemble_dataset, network_ensemble_frame
from theory.results import EscapeTimes, Result, ensemble_summary
from theory.summaries import Summary, clock_text, counted, last_recorded, spread_text

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class NetworkTrajectory(Result):
    """States of ``n_runs`` runs at common times (n_times,), in samples; nan after a run's end.

    R (n_runs, n_times, K, r) overlaps w_k·u_a; Q (n_runs, n_times, K, K) = w_k·w_l; a, b (n_runs, n_times, K); output a_0
    (n_runs, n_times).
    """

    spikes: tuple[str, ...]
    times: Array
    R: Array
    Q: Array
    a: Array
    b: Array
    output: Array

    @property
    def neurons(self) -> tuple[str, ...]:
        """Names w1 … wK."""
        return tuple(f"w{k + 1}" for k in range(self.a.shape[-1]))

    @property
    def cosines(self) -> Array:
        """R_ka/√Q_kk (n_runs, n_times, K, r): overlaps of the rows' directions with the spikes."""
        return np.asarray(self.R / np.sqrt(np.diagonal(self.Q, axis1=-2, axis2=-1))[..., None])

    def of(self, spike: str) -> Array:
        """max_k |R_k,spike|/√Q_kk, the overlap of the best neuron (n_runs, n_times)."""
        return np.asarray(np.abs(self.cosines[..., self._index(spike)]).max(axis=-1))

    def assignment(self, threshold: float = 0.3) -> NDArray[np.int64]:
        """Index of the spike each neuron has most of (n_runs, n_times, K); -1 where no |cosine| reaches ``threshold``."""
        size = np.abs(self.cosines)
        return np.where(size.max(axis=-1) >= threshold, size.argmax(axis=-1), -1)

    def state(self, run: int, time: int) -> NetworkState:
        """The state of one run at the index ``time`` of ``times``. Raises InputError where the run had ended before."""
        require(bool(np.isfinite(self.output[run, time])), "time", time, f"a time at which run {run} was recorded")
        R, Q, a, b = (getattr(self, name)[run, time] for name in ("R", "Q", "a", "b"))
        return NetworkState(R, Q, a, b, float(self.output[run, time]))

    def to_xarray(self) -> Any:
        """An ``xarray.Dataset`` with dimensions run, time [samples], neuron, neuron2, spike (needs xarray)."""
        xarray = library("xarray")
        runs = np.arange(len(self.output))
        names = {"run": runs, "time": self.times, "neuron": list(self.neurons), "spike": list(self.spikes)}
        base = ("run", "time")
        variables = {
            "R": ((*base, "neuron", "spike"), self.R),
            "Q": ((*base, "neuron", "neuron2"), self.Q),
            "a": ((*base, "neuron"), self.a),
            "b": ((*base, "neuron"), self.b),
            "output": (base, self.output),
        }
        data = xarray.Dataset(variables, {**names, "neuron2": list(self.neurons)})
        data["time"].attrs["units"] = "samples"
        return data

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame``, one row for each run, time and neuron: a, b, Q_kk, overlap and cosine with every spike."""
        pandas = library("pandas")
        runs, times, hidden, _ = self.R.shape
        index = pandas.MultiIndex.from_product(
            [range(runs), self.times, self.neurons], names=["run", "samples", "neuron"]
        )
        squares = np.diagonal(self.Q, axis1=-2, axis2=-1)
        columns = {"a": self.a, "b": self.b, "norm_squared": squares}
        for a, spike in enumerate(self.spikes):
            columns |= {f"overlap_{spike}": self.R[..., a], f"cosine_{spike}": self.cosines[..., a]}
        return pandas.DataFrame({name: x.reshape(runs * times * hidden) for name, x in columns.items()}, index)

    def plot(self, ax: Any = None, spike: str | None = None, log: bool = False, **style: Any) -> Any:
        """Draw the best neuron's overlap with one spike, or with all: median over runs and the 10–90 % band.

        Returns the Matplotlib axes, new ones for None.
        """
        from theory.drawing import draw_best_neurons

        return draw_best_neurons(self, ax, self.spikes if spike is None else (spike,), log, **style)

    def summary(self) -> Summary:
        """The best neuron's |cosine| with every spike at its first and last time, median and 10 … 90 % over runs."""
        runs, _, hidden = self.a.shape
        title = f"NetworkTrajectory: {counted(hidden, 'neuron')}, {counted(runs, 'run')}, {clock_text(self.times)}"
        best = ((s, self.of(s)) for s in self.spikes)
        rows = [(s, spread_text(x[:, :1].reshape(-1)), spread_text(last_recorded(x))) for s, x in best]
        return Summary(title, ("spike", "best neuron at first", "at last"), tuple(rows))

    def _index(self, spike: str) -> int:
        require(spike in self.spikes, "spike", spike, ", ".join(self.spikes))
        return self.spikes.index(spike)


@dataclass(frozen=True)
class Divergence:
    """A replica stopped because ``name`` (as R[w3, v], Q[w1, w1], a[w2]) was not finite after ``samples`` samples."""

    replica: int
    samples: int
    name: str


@dataclass(frozen=True, repr=False)
class NetworkEnsemble(Result):
    """What the finished replicas measured; ``replicas`` are their numbers, ``interrupted`` if some were given up.

    An escape is the first time at which a neuron's |cosine| with the spike reaches the threshold. ``diverged`` lists the
    replicas that stopped at a number that is not finite; what they recorded before is kept, their later escapes are inf.
    """

    trajectory: NetworkTrajectory
    escapes: EscapeTimes
    replicas: tuple[int, ...]
    interrupted: bool
    seconds: float
    samples: int
    diverged: tuple[Divergence, ...] = ()

    def summary(self) -> Summary:
        """Escapes and last overlaps of the best neuron, and which replicas diverged."""
        ends = {s: spread_text(last_recorded(self.trajectory.of(s))) for s in self.trajectory.spikes}
        notes = tuple(
            f"replica {d.replica} diverged after {d.samples:.4g} samples: {d.name}" for d in self.diverged[:3]
        )
        more = len(self.diverged) - len(notes)
        return ensemble_summary(
            self, "NetworkEnsemble", "best neuron at last", ends, (*notes, *([f"{more} more diverged"] if more else []))
        )

    def plot(self, ax: Any = None, log: bool = False) -> Any:
        """Draw the best neuron's overlaps, and on the threshold the median escapes. Returns the Matplotlib axes."""
        from theory.drawing import draw_ensemble

        return draw_ensemble(self, ax, log)

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame``, one row a replica: ``escape_SPIKE``, and where it diverged (needs pandas)."""
        return network_ensemble_frame(self)

    def to_xarray(self) -> Any:
        """The trajectory's ``xarray.Dataset`` with ``escape``, ``diverged`` and the replicas' numbers (needs xarray)."""
        return network_ensemble_dataset(self)


def first_not_finite(spikes: tuple[str, ...], R: Array, rest: Array, a: Array, b: Array, output: float) -> str:
    """Name of the first number of a state that is not finite; empty if there is none."""
    labelled = [
        *((f"R[w{k + 1}, {spikes[i]}]", x) for (k, i), x in np.ndenumerate(R)),
        *((f"Q[w{k + 1}, w{j + 1}]", x) for (k, j), x in np.ndenumerate(rest)),
        *((f"{name}[w{k + 1}]", x) for name, values in (("a", a), ("b", b)) for k, x in enumerate(values)),
        ("a_0", output),
    ]
    return next((name for name, x in labelled if not np.isfinite(x)), "")
