"""Gradient flow of tensor PCA on a fixed sample: ``python -m sims.tensor_flow --plot FILE``. A composition root."""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING

from solvers.options import Parser, add_output_options, check_plot_path, origin_of, run_command
from solvers.tables import json_text
from theory.numerals import number, whole_number

if TYPE_CHECKING:
    from sims.tensor_flow_study import FlowResult, Half

PROGRAM = "sims.tensor_flow"
EXAMPLES = """examples:
  python -m sims.tensor_flow --dims 20,30,45 --runs 32
  python -m sims.tensor_flow --p 3 --snr 1,0.5 --dims 30,45,70,100 --plot flow.png
  python -m sims.tensor_flow --p 4 --snr 1,0.5 --dims 20,28,40 --json
the mean of n tensors is one tensor with noise 1/√n; each run (a tensor, a start) is followed at a ladder of n, which need not
be whole: only n λ² matters. A start is uniform, given that the flow without noise recovers all spikes from it. n_1/2: the n
at which half of the runs recover at least one spike (first), or all. Ctrl-C gives the finished runs"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Tensors that gradient flow on a fixed sample needs for the first spike and for all, against N.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    study = parser.add_argument_group("study")
    study.add_argument("--p", type=whole_number, default=3, help="order of the tensor, 3 … 8 (default: %(default)s)")
    study.add_argument("--snr", default="1,0.5", metavar="λ,λ,…", help="decreasing strengths (default: %(default)s)")
    study.add_argument("--dims", default="20,30,45", metavar="N,N,…", help="dimensions (default: %(default)s)")
    study.add_argument("--runs", type=whole_number, default=32, help="tensors at each N (default: %(default)s)")
    study.add_argument(
        "--threshold", type=number, default=0.7, help="|m_ij| of a recovered spike (default: %(default)s)"
    )
    study.add_argument("--seed", type=whole_number, default=0, help="seed of everything random (default: %(default)s)")
    study.add_argument("--threads", type=whole_number, help="runs side by side (default: all cores)")
    study.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_output_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _answer(words), "interrupted before the first run was finished")


def _answer(words: Namespace) -> int:
    from sims.tensor_flow_study import FlowStudy, run_study
    from theory.numerals import numbers_from_text, whole_numbers_from_text
    from theory.tensor_pca import SpikedTensor

    check_plot_path(words.plot)
    tensor = SpikedTensor(words.p, numbers_from_text("snr", words.snr))
    dims = tuple(sorted(whole_numbers_from_text("dims", words.dims)))
    study = FlowStudy(tensor, dims, words.runs, words.threshold, words.seed)
    result = run_study(study, words.quiet, words.threads)
    sys.stdout.write(flow_json(result) if words.json else flow_table(result))
    if words.plot:
        from sims.tensor_flow_plots import plot_flow
        from solvers.plots import save

        save(plot_flow(result), words.plot, origin_of(words))
    return 0


def flow_table(result: "FlowResult") -> str:
    """For people."""
    study, p = result.study, result.study.tensor.order
    lines = [
        f"model   {study.tensor.describe()}; flow on the mean of n tensors, recovery at |m_ij| >= {study.threshold:g}",
        f"runs    {study.runs} tensors and starts at each N, seed {study.seed}",
        "",
        f"{'N':<6}{'goal':<8}{'n_1/2':<10}{'95 %':<22}{f'n_1/2 / N^{p - 2}':<14}{f'n_1/2 / N^{p - 1}':<14}starts accepted",
    ]
    for k, point in enumerate(result.points):
        for goal, halves in result.halves.items():
            half = halves[k]
            ratios = (f"{half.n / point.dim**power:.3g}" for power in (p - 2, p - 1))
            cells = (f"{cell:<14}" for cell in ratios)
            ends = f"{half.interval[0]:.3g} … {half.interval[1]:.3g}"
            lines.append(
                f"{point.dim:<6}{goal:<8}{half.n:<10.3g}{ends:<22}{''.join(cells)}{100 * point.accepted:.0f} %"
            )
    lines.append("")
    for goal, fit in result.growth.items():
        slope = "n_1/2 seen at fewer than two N" if fit is None else (
            f"n_1/2 ∝ N^{fit.exponent:.2f}, 95 % {fit.interval[0]:.2f} … {fit.interval[1]:.2f}"
        )  # fmt: skip
        lines.append(f"{goal:<8}{slope}")
    unfinished = sum(point.unfinished for point in result.points)
    lines += [f"{unfinished} flows were given up before they came to rest"] if unfinished else []
    lines += ["", "INTERRUPTED: finished runs only."] if result.interrupted else []
    return "\n".join(lines) + "\n"


def flow_json(result: "FlowResult") -> str:
    """{"schema": 1, "model", "runs", "seed", "points", "growth", "interrupted"}; null is beyond the ladder or unknown."""
    study = result.study
    record = {
        "schema": 1,
        "model": {"p": study.tensor.order, "snr": list(study.tensor.snr), "threshold": study.threshold},
        "runs": study.runs, "seed": study.seed,
        "points": [
            {
                "dim": p.dim, "counts": list(p.counts), "accepted": p.accepted, "unfinished": p.unfinished,
                "seconds": p.seconds, "runs": len(p.reached["all"]),
                **{goal: _entry(halves[k], p.shares(goal)[0].tolist()) for goal, halves in result.halves.items()},
            }
            for k, p in enumerate(result.points)
        ],
        "growth": {
            goal: None if fit is None else {"exponent": fit.exponent, "ci95": fit.interval}
            for goal, fit in result.growth.items()
        },
        "interrupted": result.interrupted,
    }  # fmt: skip
    return json_text(record)


def _entry(half: "Half", shares: list[float]) -> dict[str, object]:
    def plain(n: float) -> float | None:
        return n if 0 < n < float("inf") else None

    return {"share": shares, "n_half": plain(half.n), "ci95": [plain(n) for n in half.interval]}


if __name__ == "__main__":
    raise SystemExit(main())
