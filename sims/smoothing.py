"""The smoothed landscape beside the accelerated law: ``python -m sims.smoothing --plot FILE``. A composition root."""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter

from solvers.options import Parser, add_output_options, check_plot_path, origin_of, run_command

PROGRAM = "sims.smoothing"
EXAMPLES = """examples:
  python -m sims.smoothing --dims 64,100,140,200 --samples 3e8
  python -m sims.smoothing --dims 100,200,400,800 --plot smoothing.png
five neurons, p = 4: He_4 and ReLU on the cumulant spike alone, each with and without smoothing, and ReLU on correlated
latents. Times are in samples; a neuron stops at the d where its runs would take more than --samples together."""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Escape times against d with the loss averaged over a sphere of radius d^POWER, and without.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    study = parser.add_argument_group("study")
    study.add_argument("--dims", default="64,100,140,200", metavar="D,D,…", help="dimensions (default: %(default)s)")
    study.add_argument("--radius-power", type=float, default=0.25, metavar="POWER", help="default: %(default)s")
    study.add_argument("--threshold", type=float, default=0.5, help="overlap of weak recovery (default: %(default)s)")
    study.add_argument("--runs", type=int, default=64, help="independent runs at each d (default: %(default)s)")
    study.add_argument(
        "--samples", type=float, default=3e8, help="samples of all runs of a point together (default: %(default)g)"
    )
    study.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    add_output_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, fit, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _answer(words))


def _answer(words: Namespace) -> int:
    from sims.smoothing_study import SmoothingStudy, run_study, study_json, study_table
    from solvers.build import dims_from_words

    check_plot_path(words.plot)
    dims = tuple(sorted(dims_from_words([words.dims])))
    study = SmoothingStudy(dims, words.radius_power, words.threshold, words.runs, words.samples, words.seed)
    curves = run_study(study)
    sys.stdout.write(study_json(study, curves) if words.json else study_table(curves))
    if words.plot:
        from sims.smoothing_plots import plot_smoothing
        from solvers.plots import save

        save(plot_smoothing(study, curves), words.plot, origin_of(words))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
