"""Escape times against d, with the law they follow: ``python -m sims.scaling --p 4 --corr 0.5``. A composition root."""

import sys
from argparse import ArgumentTypeError, BooleanOptionalAction, Namespace, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING

from solvers.options import Parser, add_model_options, add_output_options, check_plot_path, run_command

if TYPE_CHECKING:
    from sims.threshold_scaling import Study
    from theory.population import Model

PROGRAM = "sims.scaling"
EXAMPLES = """examples:
  python -m sims.scaling --task spiked-cumulant --p 3 --dims 1e3,1e4,1e5,1e6 --engine sde --runs 1000
  python -m sims.scaling --p 4 --corr 0.5 --dims 300,1000,3000,10000 --lr-scaling constant --plot scaling.png
  python -m sims.scaling --task spiked-cumulant --p 3 --dims 300,600 --batch 1,10,100,1000 --json
times are in samples; the step is lr/d, summed over a mini-batch; Ctrl-C gives the finished points"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Median escape times from a random start against d: the exponent with its interval, the law they follow.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    study = parser.add_argument_group("study")
    study.add_argument("--dims", default="30,100,300,1000", metavar="D,D,…", help="dimensions d (default: %(default)s)")
    study.add_argument(
        "--engine", choices=("chain", "sde", "highd", "ode"), default="chain",
        help="exact overlap chain, diffusion, SGD in R^d, or the ODE from the typical start (default: %(default)s)",
    )  # fmt: skip
    study.add_argument(
        "--target", metavar="SPIKE", help="spike to reach (default: v, else the last that the flow recovers)"
    )
    study.add_argument("--threshold", type=float, default=0.3, help="overlap of weak recovery (default: %(default)s)")
    study.add_argument(
        "--lr-scaling", choices=("critical", "constant", "log"), default="critical",
        help="δ = κ δ_crit(d), ∝ d^(-(k-2)/2) for order k >= 2; or constant, or ∝ 1/log d (default: %(default)s)",
    )  # fmt: skip
    study.add_argument(
        "--kappa", type=float, help="κ of --lr-scaling critical (default: 1 for order >= 3, otherwise ½ or less)"
    )
    study.add_argument(
        "--lr",
        default="auto",
        help="δ at the first d for constant and log (default: ½ δ_crit there, or less where that reaches more)",
    )
    study.add_argument(
        "--batch", type=_whole_numbers, default=(1,), metavar="B,B,…", help="mini-batch sizes; the first is fitted"
    )
    study.add_argument("--runs", type=int, default=64, help="independent runs at each d (default: %(default)s)")
    study.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    study.add_argument(
        "--budget", type=float, default=20.0, metavar="FACTOR",
        help="samples a run, as a factor of the predicted median (default: %(default)s)",
    )  # fmt: skip
    study.add_argument(
        "--controls", action=BooleanOptionalAction, default=True,
        help="run a blind neuron and, where the sign matters, a repelled one for as long as the slowest run",
    )  # fmt: skip
    study.add_argument(
        "--correction", action="store_true", help="fit a finite-size factor exp(c d^-q) to the power laws"
    )
    study.add_argument("--keep-small", action="store_true", help="fit also the d at which threshold < 5/sqrt(d)")
    study.add_argument(
        "--hours", type=float, default=1.0, help="refuse work that is predicted to take longer (default: %(default)s)"
    )
    study.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_output_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, fit, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(
        PROGRAM, lambda: _answer(words), "interrupted before the first point was finished; nothing to fit"
    )


def _answer(words: Namespace) -> int:
    from sims.scaling_report import scaling_json, scaling_table
    from sims.threshold_scaling import run_study

    check_plot_path(words.plot)
    study = _study(words)
    study.check_cost(words.hours)
    result = run_study(study, words.quiet)
    sys.stdout.write(scaling_json(result) if words.json else scaling_table(result))
    if words.plot:
        from sims.scaling_plots import plot_scaling
        from solvers.plots import save

        save(plot_scaling(result), words.plot)
    return 0


def _study(words: Namespace) -> "Study":
    from sims.scaling_engines import Subject
    from sims.threshold_scaling import Study, rates
    from solvers.build import build_model, dims_from_words, lr_from_text

    model, dims = build_model(words), tuple(sorted(dims_from_words([words.dims])))
    subject = Subject(model, words.target or _last_recovered(model, max(dims), words.threshold), words.threshold)
    lrs = rates(subject, dims, words.lr_scaling, lr_from_text(words.lr), words.kappa)
    return Study(
        subject, words.engine, dims, tuple(lrs), words.batch, words.runs, words.seed, words.budget,
        words.keep_small, words.controls, words.correction,
    )  # fmt: skip


def _last_recovered(model: "Model", dim: int, threshold: float) -> str:
    """The cumulant spike v, or else the one that the flow recovers last."""
    if "v" in model.spikes:
        return "v"
    from solvers.prediction import predict

    recovered = [d for d in predict(model, dim, threshold=threshold).directions if d.status == "recovered"]
    return max(recovered, key=lambda d: d.escape_samples).spike if recovered else model.spikes[-1]


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"got {text!r}; allowed: whole numbers, as in 1,10,100") from None


if __name__ == "__main__":
    raise SystemExit(main())
