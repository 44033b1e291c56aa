"""Statistical, low-degree, network, random-features and single-neuron sample complexities: ``python -m sims.complexities``.

A composition root.
"""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter

from solvers.options import Parser, add_output_options, add_store_option, check_plot_path, origin_of, run_command
from theory.numerals import number, whole_number

PROGRAM = "sims.complexities"
EXAMPLES = """examples:
  python -m sims.complexities --plot complexities.png
  python -m sims.complexities --dims 8,12,40,60 --runs 4 --samples-factor 100 --json
  python -m sims.complexities --store results --plot complexities.png
n(d) on the spiked cumulant model (Rademacher latent, p = 4, β = 10): bounds below which all tests, or those of low degree,
fail; the exact likelihood-ratio test (d <= 12); overlap of a single neuron and of a two-layer network's best one; test
accuracy of the network and of random features. Each by a criterion of its own, which the output names: they are not the
same event. Ctrl-C gives the finished points; --store DIR keeps every run and takes from there what it has"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Samples against d that detection and learning of one cumulant spike need, on the same axes.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    study = parser.add_argument_group("study")
    study.add_argument(
        "--dims", default="8,10,12,16,24,32,48,64,96,128", metavar="D,D,…",
        help="dimensions that are simulated, each by what is possible there (default: %(default)s)",
    )  # fmt: skip
    study.add_argument(
        "--runs", type=whole_number, default=8,
        help="runs of network and features at each d, a quarter of those of the single neuron (default: %(default)s)",
    )  # fmt: skip
    study.add_argument(
        "--samples-factor", type=number, default=400.0, metavar="C",
        help="at most C d² samples for a network or random features (default: %(default)g)",
    )  # fmt: skip
    study.add_argument(
        "--feature-samples", type=whole_number, default=300_000, metavar="N",
        help="at most N for random features (default: %(default)s)",
    )  # fmt: skip
    study.add_argument("--seed", type=whole_number, default=0, help="seed of everything random (default: %(default)s)")
    study.add_argument(
        "--hours", type=number, default=1.0, help="refuse work that may take longer (default: %(default)s)"
    )
    study.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_store_option(study)
    add_output_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _answer(words))


def _answer(words: Namespace) -> int:
    from sims.complexities_curves import run_complexities
    from sims.complexities_report import complexities_json, complexities_table
    from sims.complexities_study import ComplexityStudy
    from theory.archive import archive

    check_plot_path(words.plot)
    study = ComplexityStudy(_dims(words.dims), words.runs, words.seed, words.samples_factor, words.feature_samples)
    study.check_cost(words.hours)
    with archive(words.store, words.command) as store:
        result = run_complexities(study, words.quiet, store)
    sys.stdout.write(complexities_json(result) if words.json else complexities_table(result))
    if words.plot:
        from sims.complexities_plots import plot_complexities
        from solvers.plots import save

        save(plot_complexities(result), words.plot, origin_of(words))
    return 0


def _dims(text: str) -> tuple[int, ...]:
    from theory.errors import InputError

    try:
        return tuple(whole_number(piece) for piece in text.split(","))
    except ValueError:
        raise InputError("dims", repr(text), "whole numbers separated by commas, as in 8,12,48,64") from None


if __name__ == "__main__":
    raise SystemExit(main())
