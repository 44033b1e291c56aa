"""Network against random features on the cumulant: ``python -m sims.random_features --plot FILE``. A composition root."""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter

from solvers.options import Parser, add_output_options, check_plot_path, origin_of, run_command
from theory.numerals import number, whole_number

PROGRAM = "sims.random_features"
EXAMPLES = """examples:
  python -m sims.random_features --dims 32,64 --runs 8
  python -m sims.random_features --dims 32,64,128 --runs 16 --samples-factor 400 --plot features.png
a two-layer network (ReLU, squared loss, both layers, online SGD) and ridge regression on frozen random ReLU features: on the
spiked cumulant model, and on the mixed one, where the accuracy beyond that on Gaussians of the same mean and covariance
counts. Times are in samples. Ctrl-C gives the finished points"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Samples needed for the cumulant by a trained network and by ridge regression on random features.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    study = parser.add_argument_group("study")
    study.add_argument("--dims", default="32,64", metavar="D,D,…", help="dimensions (default: %(default)s)")
    study.add_argument(
        "--hidden", type=whole_number, default=64, metavar="K", help="neurons of the network (default: %(default)s)"
    )
    study.add_argument("--width", default="2,8", metavar="F,F,…", help="random features N = F d (default: %(default)s)")
    study.add_argument("--runs", type=whole_number, default=8, help="independent runs of each (default: %(default)s)")
    study.add_argument(
        "--samples-factor", type=number, default=300.0, metavar="C", help="C d² samples a run (default: %(default)g)"
    )
    study.add_argument("--seed", type=whole_number, default=0, help="seed of everything random (default: %(default)s)")
    study.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_output_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _answer(words), "interrupted before the first point was finished")


def _answer(words: Namespace) -> int:
    from sims.features_report import features_json, features_table
    from sims.features_study import FeaturesStudy, run_study

    check_plot_path(words.plot)
    dims, widths = _whole("dims", words.dims), _whole("width", words.width)
    study = FeaturesStudy(dims, words.hidden, widths, words.runs, words.samples_factor, words.seed)
    result = run_study(study, words.quiet)
    sys.stdout.write(features_json(result) if words.json else features_table(result))
    if words.plot:
        from sims.features_plots import plot_features
        from solvers.plots import save

        save(plot_features(result), words.plot, origin_of(words))
    return 0


def _whole(argument: str, text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas, increasing."""
    from theory.errors import InputError

    try:
        return tuple(sorted(whole_number(piece) for piece in text.split(",")))
    except ValueError:
        raise InputError(argument, repr(text), "whole numbers separated by commas, as in 2,8") from None


if __name__ == "__main__":
    raise SystemExit(main())
