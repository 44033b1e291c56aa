"""Theory and simulation side by side: ``python -m sims.compare --p 4 --corr 0.5``. A composition root: sees both."""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from functools import partial
from typing import TYPE_CHECKING

from solvers.options import (
    Parser,
    add_model_options,
    add_output_options,
    add_random_options,
    add_run_options,
    add_store_option,
    check_plot_path,
    origin_of,
    run_command,
)
from theory.numerals import number, whole_number

if TYPE_CHECKING:
    from theory.population import Model

PROGRAM = "sims.compare"
EXAMPLES = """examples:
  python -m sims.compare --p 4 --corr 0.5 --plot compare.png
  python -m sims.compare --p 4 --corr 0.5 --beside 0 --plot compare.png
  python -m sims.compare --p 4 --corr 0.5 --dim 500 --runs 40 --seed 0 --json
  python -m sims.compare --task spiked-cumulant --p 3 --dim 50 --runs 20
times are in samples; Ctrl-C gives the comparison on the runs finished so far;
--store DIR keeps every run and takes from there what it has"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="The theory's escape times beside those measured by online SGD in R^d, with intervals and a figure.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    add_run_options(parser)
    add_random_options(parser)
    simulation = parser.add_argument_group("simulation")
    simulation.add_argument(
        "--beside", type=number, metavar="CORR",
        help="compare the same model with this --corr too, at the same learning rate and for as many samples",
    )  # fmt: skip
    simulation.add_argument("--dim", default="1000", metavar="D", help="input dimension d (default: %(default)s)")
    simulation.add_argument("--runs", type=whole_number, default=40, help="independent runs (default: %(default)s)")
    simulation.add_argument(
        "--batch", type=whole_number, default=1, help="mini-batch size B; the step is the sum over it"
    )
    simulation.add_argument(
        "--samples", default="auto", help="samples a run; auto: three times the last predicted escape (default: auto)"
    )
    simulation.add_argument(
        "--threads", type=whole_number, default=None, help="threads (default: the cores of this machine)"
    )
    simulation.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_store_option(simulation)
    add_output_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, predict, simulate, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    unfinished = "interrupted before the first run finished; nothing to compare"
    return run_command(PROGRAM, lambda: _answer(words), unfinished)


def _answer(words: Namespace) -> int:
    from sims.comparison import check_batch, compare, comparison_json, comparison_table
    from sims.ensemble import check_ensemble
    from sims.sgd import OnlineSGD
    from solvers.build import build_model, dims_from_words, predict_from_words
    from theory.archive import archive
    from theory.errors import require

    check_plot_path(words.plot)
    model, dims = build_model(words), dims_from_words([words.dim])
    require(len(dims) == 1, "dim", words.dim, "one dimension", "run sims.compare once for each")
    samples = _samples(words.samples)
    check_ensemble(words.runs, 1 if samples is None else samples, words.threads)
    OnlineSGD(model, dims[0], 1.0, words.batch)  # refuses what it cannot run before the theory takes its time
    if samples is not None:
        check_batch(words.batch, samples)
    beside = _beside(words)
    prediction = predict_from_words(words, model, dims[0])
    with archive(words.store, words.command) as store:
        run = partial(compare, threads=words.threads, quiet=words.quiet, store=store)
        results = [run(prediction, words.runs, words.seed, words.batch, samples)]
        if beside is not None and not results[0].ensemble.interrupted:
            other = Namespace(**{**vars(words), "corr": words.beside, "lr": repr(float(prediction.lr))})
            again = predict_from_words(other, beside, dims[0])
            budget = int(results[0].ensemble.escapes.budget)
            results.append(run(again, words.runs, words.seed, words.batch, budget))
    sys.stdout.write(comparison_json(*results) if words.json else "\n".join(map(comparison_table, results)))
    if words.plot:
        from sims.plots import plot_comparison, plot_side_by_side
        from solvers.plots import save

        figure = plot_comparison(results[0]) if len(results) == 1 else plot_side_by_side(results[::-1])
        save(figure, words.plot, origin_of(words))
    return 0


def _beside(words: Namespace) -> "Model | None":
    """The model of --beside."""
    from solvers.build import build_model
    from theory.errors import require

    if words.beside is None:
        return None
    model = build_model(Namespace(**{**vars(words), "corr": words.beside}))
    both = {"u", "v"} <= set(model.spikes) and model.task.name == "mixed-cumulant"
    require(
        both,
        "--beside",
        words.beside,
        "nothing without both spikes u and v of the mixed cumulant model",
        "leave it out",
    )
    require(words.beside != words.corr, "--beside", words.beside, f"another correlation than --corr {words.corr:g}")
    return model


def _samples(text: str) -> int | None:
    from theory.errors import InputError

    try:
        return None if text == "auto" else whole_number(text)
    except ValueError:
        raise InputError("samples", repr(text), "a whole number >= 1, or auto") from None


if __name__ == "__main__":
    raise SystemExit(main())
