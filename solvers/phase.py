"""Command line of the phase diagrams: ``python -m solvers.phase --plane corr,dim --plot phase.png``."""

import json
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from math import isfinite
from typing import TYPE_CHECKING

from solvers.options import (
    Parser,
    add_model_options,
    add_output_options,
    add_store_option,
    check_plot_path,
    origin_of,
    run_command,
)

if TYPE_CHECKING:
    from solvers.phase_diagram import Array, PhaseDiagram

PROGRAM = "solvers.phase"
PLANES = ("corr,dim", "corr,beta-u", "lr,dim")
MAX_POINTS = 40_000
# Smallest and largest value, default number of points (lr: see _range_of_rates), logarithmic.
AXES = {
    "corr": (-1.0, 1.0, 27, False),
    "dim": (10.0, 1e12, 17, True),
    "beta-u": (1e-6, 1e6, 15, True),
    "lr": (1e-12, 1e6, 2, True),
}
EXAMPLES = """examples:
  python -m solvers.phase --plot phase.png
  python -m solvers.phase --plane corr,beta-u --dim 10000 --x 0,0.79,21 --y 0.1,5,11 --json
  python -m solvers.phase --plane lr,dim --corr 0.5 --y 100,1e5,13 --plot rates.pdf
corr,dim and corr,beta-u: how many times fewer samples v costs than v alone, each at its own rate: half the critical one,
halved up to six times more until v settles above the threshold; lr,dim: where v is recovered, by the flow.
Times in samples from |α| = d^(-1/2) on every spike; the step is lr/d. corr is spaced evenly, other axes in the logarithm"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Phase diagrams of the cumulant spike v: speed-up over v alone, and where it is never recovered.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    plane = parser.add_argument_group("plane")
    plane.add_argument("--plane", choices=PLANES, default=PLANES[0], help="x and y axis (default: %(default)s)")
    plane.add_argument("--x", metavar="LO,HI,N", help="values on the first axis, ends included")
    plane.add_argument("--y", metavar="LO,HI,N", help="values on the second axis, ends included")
    plane.add_argument("--dim", metavar="D", help="input dimension in the plane corr,beta-u (default: 1000)")
    plane.add_argument("--threshold", type=float, default=0.3, help="overlap of weak recovery (default: %(default)s)")
    plane.add_argument("--workers", type=int, default=None, help="processes (default: the cores of this machine)")
    plane.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_store_option(plane)
    add_output_options(parser)
    parser.set_defaults(task=None)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, compute, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _answer(words))


def _answer(words: Namespace) -> int:
    from solvers.build import dims_from_words
    from solvers.phase_diagram import phase_diagram
    from theory.archive import archive
    from theory.errors import require

    check_plot_path(words.plot)
    require(0 < words.threshold < 1, "threshold", words.threshold, "a number between 0 and 1")
    names = words.plane.split(",")
    words.task = words.task or _default_task(words)
    for name, default in (("corr", 0.0), ("beta-u", None)):
        given = getattr(words, name.replace("-", "_"))
        require(name not in names or given == default, f"--{name}", given, "nothing: it is an axis", "use --x or --y")
    require(words.dim is None or "dim" not in names, "--dim", words.dim, "nothing: it is an axis", "use --y LO,HI,N")
    dims = dims_from_words(["1000" if words.dim is None else words.dim])
    require(len(dims) == 1, "dim", words.dim, "one dimension")
    y = axis_from_text(names[1], default_range(words, names[1]) if words.y is None else words.y)
    x = axis_from_text(names[0], default_range(words, names[0], y) if words.x is None else words.x)
    require(len(x) * len(y) <= MAX_POINTS, "x, y", f"{len(x)} × {len(y)} points", f"at most {MAX_POINTS} points")
    with archive(words.store, words.command) as store:
        diagram = phase_diagram(words, words.plane, x, y, dims[0], words.threshold, words.workers, words.quiet, store)
    sys.stdout.write(phase_json(diagram) if words.json else phase_table(diagram))
    if words.plot:
        from solvers.phase_plots import plot_phase_diagram
        from solvers.plots import save

        save(plot_phase_diagram(diagram), words.plot, origin_of(words))
    return 0


def _default_task(words: Namespace) -> str:
    """In the plane of rates v stands alone until another spike or a correlation is asked for."""
    mixed = (
        words.plane != "lr,dim" or words.corr or words.beta_u is not None or words.beta_m or words.coupling == "even"
    )
    return "mixed-cumulant" if mixed else "spiked-cumulant"


def axis_from_text(name: str, text: str) -> "Array":
    """Read ``LO,HI,N``: N values from LO to HI, for corr evenly spaced, otherwise in the logarithm; d in whole numbers."""
    import numpy as np

    from theory.errors import InputError, require

    smallest, largest, _, log = AXES[name]
    allowed = f"LO,HI,N with {smallest:g} <= LO < HI <= {largest:g} and N = 2 … 1000 values of {name}"
    try:
        low, high, number = text.split(",")
        ends, n = (float(low), float(high)), int(number)
    except ValueError:
        raise InputError("range", repr(text), allowed) from None
    require(smallest <= ends[0] < ends[1] <= largest and 2 <= n <= 1000, "range", repr(text), allowed)
    values = np.geomspace(*ends, n) if log else np.linspace(*ends, n)
    return np.unique(values.round()) if name == "dim" else values


def default_range(words: Namespace, name: str, dims: "Array | None" = None) -> str:
    """Corr up to the largest attainable, lr around the critical rates of the dimensions on the other axis."""
    from solvers.build import latent_from_text
    from theory.latents import GaussianCopula

    n = AXES[name][2]
    if name == "corr":
        teacher = words.task == "teacher-student"
        largest = 1.0 if teacher else GaussianCopula().max_corr(latent_from_text(words.latent, words.p))
        return f"0,{int(largest * 100) / 100},{n}"
    if name == "lr" and dims is not None:
        return _range_of_rates(words, dims)
    return {"dim": "30,1e4,21" if words.plane == "lr,dim" else f"100,1e6,{n}", "beta-u": f"0.1,5,{n}"}[name]


def _range_of_rates(words: Namespace, dims: "Array") -> str:
    """A decade below the critical rates to three times above, spaced so that the edge falls between the points."""
    from math import ceil, log10

    from solvers.build import build_model
    from solvers.phase_reader import Reader
    from theory.population import Population

    reader = Reader(Population(build_model(words)), words.threshold)
    low, high = sorted(log10(reader.critical(int(d)) or 1.0) for d in (dims[0], dims[-1]))
    step = (high - low) / (len(dims) - 1) or 0.04
    before, after = ceil(1 / step) - 0.5, ceil(0.4 / step) - 0.5
    number = round((high - low) / step + before + after) + 1
    return f"{10 ** (low - before * step):.6g},{10 ** (high + after * step):.6g},{number}"


def phase_json(diagram: "PhaseDiagram") -> str:
    """The documented contract: matrices have one row for each y; times in samples; null = never."""
    from solvers.report import SCHEMA, model_dict

    settings = model_dict(diagram.model)
    axes = {name.replace("-", "_") for name in diagram.axes}
    payload = {
        "schema": SCHEMA,
        "plane": diagram.plane,
        "x": diagram.x.tolist(),
        "y": diagram.y.tolist(),
        "speedup": _plain(diagram.speedup),
        "status": diagram.matrix("status").tolist(),
        "escape_samples": _plain(diagram.matrix("escape_samples")),
        "fixed_point": _plain(diagram.matrix("overlap")),
        "lr": _plain(diagram.matrix("lr")),
        "lr_critical": _plain(diagram.matrix("critical")),
        "threshold": diagram.threshold,
        "alone": [
            {"dim": dim, "status": fate.status, "lr": fate.lr, "escape_samples": _number(fate.escape_samples)}
            for dim, fate in zip(diagram.dims, diagram.alone, strict=bool(diagram.alone))
        ],
        "model": {name: value for name, value in settings.items() if name not in axes and name != "description"},
    }
    return json.dumps(payload, ensure_ascii=False, allow_nan=False) + "\n"


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _plain(matrix: "Array") -> list[list[float | None]]:
    return [[_number(value) for value in row] for row in matrix]


def phase_table(diagram: "PhaseDiagram") -> str:
    """The model, at most 7 × 9 of the points, and the share of each status."""
    import numpy as np

    speedup, status = diagram.speedup, diagram.matrix("status")
    rows, columns = (
        np.unique(np.linspace(0, n - 1, k).round().astype(int)) for n, k in zip(speedup.shape, (9, 7), strict=True)
    )
    cells: list[list[str]] = [[f"{diagram.axes[1]} \\ {diagram.axes[0]}", *(f"{diagram.x[j]:.3g}" for j in columns)]]
    for i in rows[::-1]:
        words = [f"{speedup[i, j]:.3g}" if isfinite(speedup[i, j]) else str(status[i, j]) for j in columns]
        cells.append([f"{diagram.y[i]:.4g}", *words])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    names, counts = np.unique(status, return_counts=True)
    shares = ", ".join(f"{name} {count / status.size:.0%}" for name, count in zip(names, counts, strict=True))
    return "\n".join([
        f"model     {diagram.describe()}",
        "entries   samples of v alone at its own rate / samples of v here, or why v is not recovered",
        "",
        *("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in cells),
        "",
        f"points    {status.size}: {shares}",
    ]) + "\n"  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
