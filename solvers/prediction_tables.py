"""A prediction as a pandas table and an xarray data set. Times in samples, inf where it never happens."""

from typing import TYPE_CHECKING, Any

from theory.result_tables import library

if TYPE_CHECKING:
    from solvers.prediction import Prediction
    from solvers.random_start import EscapeLaw


def prediction_frame(result: "Prediction") -> Any:
    """One row a spike; from a random start also a column for every quantile and P(recovery), with 95 % intervals."""
    pandas = library("pandas")
    columns = ("information_exponent", "order_reached", "law", "status", "reason", "escape_ode", "overlap_end")
    rows = [
        (d.information_exponent, d.order_reached, None if d.law is None else str(d.law), d.status, d.reason,
         d.escape_samples, d.fixed_point)
        for d in result.directions
    ]  # fmt: skip
    index = pandas.Index([d.spike for d in result.directions], name="spike")
    table = pandas.DataFrame(rows, index, columns)
    whole = dict.fromkeys(columns[:2], "Int64")
    if result.random is None:
        return table.astype(whole)
    laws = pandas.DataFrame([_law_row(result.random.of(spike)) for spike in index], index)
    return table.astype(whole).join(laws)


def _law_row(law: "EscapeLaw") -> dict[str, float]:
    row: dict[str, float] = {}
    for q, samples in law.quantiles.items():
        row |= {f"escape_{q:g}": samples}
        row |= dict(zip((f"escape_{q:g}_low", f"escape_{q:g}_high"), law.intervals[q], strict=True))
    low, high = law.probability_interval
    return row | {"recovery": law.recovery_probability, "recovery_low": low, "recovery_high": high}


def prediction_dataset(result: "Prediction") -> Any:
    """``overlap`` and ``escape`` of the flow; from a random start ``escape_quantile``, ``recovery``, 95 % intervals."""
    data = result.flow.to_xarray().assign_attrs(dim=result.dim, lr=float(result.lr))
    if result.random is None:
        return data
    laws = [result.random.of(spike) for spike in result.flow.spikes]
    quantiles = list(laws[0].quantiles)
    data = data.assign_coords(quantile=quantiles, end=["low", "high"]).assign(
        escape_quantile=(("quantile", "spike"), [[law.quantiles[q] for law in laws] for q in quantiles]),
        escape_interval=(("quantile", "spike", "end"), [[law.intervals[q] for law in laws] for q in quantiles]),
        recovery=("spike", [law.recovery_probability for law in laws]),
        recovery_interval=(("spike", "end"), [law.probability_interval for law in laws]),
    )
    for name in ("escape_quantile", "escape_interval"):
        data[name].attrs["units"] = "samples"
    return data.assign_attrs(random_budget=float(result.random.budget))
