"""Results as pandas tables and xarray data sets, which the extra ``data`` installs: imported when asked for, not before."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from theory.summaries import last_recorded

if TYPE_CHECKING:
    from theory.network_results import NetworkEnsemble, NetworkTrajectory
    from theory.results import Ensemble, EscapeTimes, Trajectory


def library(module: str, extra: str = "data") -> Any:
    """An optional library. Raises ImportError that names the extra which installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise ImportError(f"{module} is not installed: pip install 'downstairs[{extra}]'") from None


def trajectory_frame(trajectory: "Trajectory") -> Any:
    """One row for each run and time in samples; a column ``overlap_SPIKE`` for every spike."""
    pandas = library("pandas")
    runs, times, _ = trajectory.overlaps.shape
    index = pandas.MultiIndex.from_product([range(runs), trajectory.times], names=["run", "samples"])
    columns = {f"overlap_{s}": trajectory.of(s).reshape(runs * times) for s in trajectory.spikes}
    return pandas.DataFrame(columns, index)


def trajectory_dataset(trajectory: "Trajectory") -> Any:
    """``overlap`` (run, time [samples], spike)."""
    runs = np.arange(len(trajectory.overlaps))
    coordinates = {"run": runs, "time": trajectory.times, "spike": list(trajectory.spikes)}
    data = library("xarray").Dataset({"overlap": (("run", "time", "spike"), trajectory.overlaps)}, coordinates)
    data["time"].attrs["units"] = "samples"
    return data


def escape_frame(escapes: "EscapeTimes") -> Any:
    """One row a run; a column ``escape_SPIKE`` in samples for every spike, inf where censored."""
    pandas = library("pandas")
    columns = {f"escape_{s}": escapes.of(s) for s in escapes.spikes}
    return pandas.DataFrame(columns, pandas.RangeIndex(len(escapes.times), name="run"))


def escape_dataset(escapes: "EscapeTimes") -> Any:
    """``escape`` (run, spike) in samples, inf where censored; threshold and budget are attributes."""
    coordinates = {"run": np.arange(len(escapes.times)), "spike": list(escapes.spikes)}
    attributes = {"threshold": float(escapes.threshold), "budget": float(escapes.budget)}
    data = library("xarray").Dataset({"escape": (("run", "spike"), escapes.times)}, coordinates, attributes)
    data["escape"].attrs["units"] = "samples"
    return data


def ensemble_frame(ensemble: "Ensemble") -> Any:
    """One row a replica: ``escape_SPIKE`` in samples, and ``overlap_SPIKE`` at the last time recorded."""
    table = _by_replica(ensemble)
    for spike in ensemble.escapes.spikes:
        table[f"overlap_{spike}"] = last_recorded(ensemble.trajectory.of(spike))
    return table


def network_ensemble_frame(ensemble: "NetworkEnsemble") -> Any:
    """One row a replica: ``escape_SPIKE`` in samples, and in ``diverged`` the number that stopped being finite, or ""."""
    table = _by_replica(ensemble)
    names = _diverged(ensemble)
    table["diverged"] = library("pandas").Series(names, table.index, dtype=str)
    return table


def run_dataset(trajectory: "Trajectory | NetworkTrajectory", escapes: "EscapeTimes") -> Any:
    """What the trajectory and the escapes have."""
    known = escapes.to_xarray()
    return trajectory.to_xarray().merge(known).assign_attrs(known.attrs)


def ensemble_dataset(ensemble: "Ensemble | NetworkEnsemble") -> Any:
    """The same, with the replicas' numbers along run."""
    data = run_dataset(ensemble.trajectory, ensemble.escapes)
    facts = {
        "interrupted": int(ensemble.interrupted),  # NetCDF knows no truth values
        "seconds": float(ensemble.seconds),
        "samples": float(ensemble.samples),
    }
    data = data.assign_coords(replica=("run", np.array(ensemble.replicas, dtype=np.int64)))
    return data.assign_attrs(facts)


def network_ensemble_dataset(ensemble: "NetworkEnsemble") -> Any:
    """The same and ``diverged`` (run): the number that stopped being finite, or ""."""
    return ensemble_dataset(ensemble).assign(diverged=("run", np.array(_diverged(ensemble), dtype=object)))


def _by_replica(ensemble: "Ensemble | NetworkEnsemble") -> Any:
    index = library("pandas").Index(list(ensemble.replicas), name="replica", dtype="int64")
    return escape_frame(ensemble.escapes).set_index(index)


def _diverged(ensemble: "NetworkEnsemble") -> list[str]:
    names = {d.replica: d.name for d in ensemble.diverged}
    return [names.get(i, "") for i in ensemble.replicas]
