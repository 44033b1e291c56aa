"""Command line of the theory: ``python -m solvers.predict --p 4 --corr 0.5``."""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter

from solvers.options import (
    Parser,
    add_model_options,
    add_output_options,
    add_random_options,
    add_run_options,
    check_plot_path,
    origin_of,
    require_defaults,
    run_command,
)

PROGRAM = "solvers.predict"
UNUSED_BY_LATEX = ("json", "plot", "dim", "lr", "threshold", "order", "init", "budget", "seed")
EXAMPLES = """examples:
  python -m solvers.predict --p 4 --corr 0.5
  python -m solvers.predict --p 4 --corr 0.5 --dim 100,1000,10000 --json
  python -m solvers.predict --task spiked-cumulant --p 6 --latent positive --activation relu
  python -m solvers.predict --task teacher-student --teacher 'h1(u)+h1(u)*h1(v)' --activation hermite:1=1,2=-1
times are in samples (= steps of online SGD with batch 1); the step is lr/d"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Escape times and thresholds of one neuron under online SGD, predicted by the theory.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    add_run_options(parser)
    add_random_options(parser)
    parser.add_argument("--dim", nargs="+", default=["1000"], metavar="D", help="input dimension d, or several")
    parser.add_argument("--latex", action="store_true", help="print Φ and the drift in LaTeX, with symbols, and stop")
    add_output_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, predict, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _answer(words))


def _answer(words: Namespace) -> int:
    from solvers.build import build_model, dims_from_words, predict_from_words
    from solvers.report import latex_document, prediction_json, prediction_table

    check_plot_path(words.plot)
    model, dims = build_model(words), dims_from_words(words.dim)
    if words.latex:
        usual = make_parser().get_default
        require_defaults(words, "--latex", **{name: usual(name) for name in UNUSED_BY_LATEX})
        sys.stdout.write(latex_document(model) + "\n")
        return 0
    results = [predict_from_words(words, model, dim) for dim in dims]
    sys.stdout.write(prediction_json(results) if words.json else prediction_table(results, words))
    if words.plot:
        from solvers.plots import plot_prediction, save

        save(plot_prediction(results), words.plot, origin_of(words))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
