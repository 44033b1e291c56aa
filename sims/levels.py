"""Which level of a hierarchy does SGD learn first: ``python -m sims.levels --hierarchy 'u(v(w))'``. A composition root."""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter

from solvers.options import Parser, add_model_options, add_output_options, check_plot_path, origin_of, run_command
from theory.numerals import number, whole_number

PROGRAM = "sims.levels"
EXAMPLES = """examples:
  python -m sims.levels --hierarchy 'u(v(w))' --plot levels.png
  python -m sims.levels --hierarchy 'u(v,w)' --corr 0.4,0.8 --json
  python -m sims.levels --hierarchy 'u(v(w))' --visible w --corr 0.6
  python -m sims.levels --hierarchy 'u(V(w))' --corr 0.6
times are in samples (= steps of online SGD with batch 1); the step is lr/d; the model's other options are those of
python -m solvers.predict --task hierarchical"""


def make_parser() -> Parser:
    """All options; --corr takes several values here."""
    parser = Parser(
        prog=PROGRAM,
        description="In what order, when and how far one neuron learns the spikes of a hierarchy, by theory and exact chain.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
        conflict_handler="resolve",
    )
    add_model_options(parser)
    parser.add_argument(
        "--corr", default="0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9", metavar="R,R,…",
        help="correlations along each edge (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(task="hierarchical", hierarchy="u(v(w))")
    run = parser.add_argument_group("run")
    run.add_argument("--dim", type=whole_number, default=1000, metavar="D", help="dimension d (default: %(default)s)")
    run.add_argument("--lr", type=number, default=0.2, help="learning rate δ, step δ/d (default: %(default)s)")
    run.add_argument("--threshold", type=number, default=0.3, help="overlap of weak recovery (default: %(default)s)")
    run.add_argument(
        "--order", type=whole_number, default=20, help="order of the Hermite series (default: %(default)s)"
    )
    run.add_argument("--runs", type=whole_number, default=200, help="runs of the chain (default: %(default)s)")
    run.add_argument(
        "--samples", type=whole_number, help="samples a run (default: six times the last escape of the ODE)"
    )
    run.add_argument("--seed", type=whole_number, default=0, help="seed of everything random (default: %(default)s)")
    run.add_argument("--threads", type=whole_number, help="threads (default: all cores)")
    run.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_output_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, predict, run, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _answer(words))


def _answer(words: Namespace) -> int:
    from sims.levels_study import LevelsStudy, run_study, study_json, study_table
    from solvers.build import build_model
    from theory.errors import require

    check_plot_path(words.plot)
    require(words.task == "hierarchical", "--task", words.task, "hierarchical", "leave it out")
    corrs = correlations_from_text(words.corr)
    models = [(rho, build_model(Namespace(**{**vars(words), "corr": rho}))) for rho in corrs]
    study = LevelsStudy(words.dim, words.lr, words.threshold, words.order, words.runs, words.samples, words.seed)
    points = run_study(study, models, words.threads, words.quiet)
    interrupted = len(points) < len(models) or points[-1].chain.interrupted
    sys.stdout.write((study_json if words.json else study_table)(study, points, interrupted))
    if words.plot:
        from sims.levels_plots import plot_levels
        from solvers.plots import save

        save(plot_levels(study, points), words.plot, origin_of(words))
    return 0


def correlations_from_text(text: str) -> list[float]:
    """Numbers with commas, sorted. Raises InputError."""
    from theory.errors import InputError, require

    try:
        corrs = sorted({number(word) for word in text.split(",")})
    except ValueError:
        raise InputError("corr", repr(text), "numbers from -1 to 1 with commas, as in 0.4,0.8") from None
    require(0 < len(corrs) <= 100, "corr", repr(text), "1 … 100 correlations")
    return corrs


if __name__ == "__main__":
    raise SystemExit(main())
