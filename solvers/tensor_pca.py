"""Multi-spiked tensor PCA: ``python -m solvers.tensor_pca --p 3 --snr 3,2,1 --dim 1000 --plot tensor.png``."""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter

from solvers.options import Parser, add_output_options, check_plot_path, origin_of, require_defaults, run_command
from theory.numerals import number, whole_number

PROGRAM = "solvers.tensor_pca"
EXAMPLES = """examples:
  python -m solvers.tensor_pca --p 3 --snr 3,2,1 --dim 1000 --plot tensor.png
  python -m solvers.tensor_pca --p 2 --snr 1,1 --dim 1000 --runs 100 --json
  python -m solvers.tensor_pca --p 4 --snr 2,1 --latex
N against samples: python -m sims.scaling --snr 3,2 --p 3 --lr 0.2,0.3,0.5 --dims 1e2,1e3,1e4
one sample is one tensor; the step is δ/N with δ = δ_0 N^((3-p)/2) and --lr δ_0"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Spikes of a tensor: which are recovered by online SGD, when, in which order; exact chain and flow.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    model = parser.add_argument_group("model")
    model.add_argument("--p", type=whole_number, default=3, help="order of the tensor, 2 … 8 (default: %(default)s)")
    model.add_argument("--snr", default="3,2,1", metavar="L,L,…", help="λ_1 >= … >= λ_r (default: %(default)s)")
    run = parser.add_argument_group("run")
    run.add_argument("--dim", type=whole_number, default=1000, help="N (default: %(default)s)")
    run.add_argument("--lr", type=number, help="δ_0 (default: 0.3, for p = 2 0.05)")
    run.add_argument("--runs", type=whole_number, default=200, help="replicas of the chain (default: %(default)s)")
    run.add_argument("--samples", type=whole_number, help="tensors of a run (default: enough for nearly all runs)")
    run.add_argument(
        "--threshold",
        type=number,
        default=0.5,
        help="overlap at which a spike counts as recovered (default: %(default)s)",
    )
    run.add_argument("--seed", type=whole_number, default=0, help="seed of everything random (default: %(default)s)")
    run.add_argument("--threads", type=whole_number, help="default: all cores")
    run.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_output_options(parser)
    parser.add_argument("--latex", action="store_true", help="print the population flow in LaTeX and nothing else")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _answer(words), "interrupted before the first run was finished")


def _answer(words: Namespace) -> int:
    from theory.numerals import numbers_from_text
    from theory.tensor_pca import SpikedTensor, TensorPopulation

    check_plot_path(words.plot)
    tensor = SpikedTensor(words.p, numbers_from_text("snr", words.snr))
    if words.latex:
        company = {"json": False, "plot": None, "dim": 1000, "runs": 200, "lr": None, "samples": None, "threshold": 0.5}
        require_defaults(words, "--latex", **company)
        sys.stdout.write(TensorPopulation(tensor.order, tensor.rank).latex() + "\n")
        return 0
    from solvers.tensor_report import tensor_json, tensor_table
    from solvers.tensor_study import TensorStudy, default_strength

    strength = default_strength(tensor.order) if words.lr is None else words.lr
    study = TensorStudy(tensor, words.dim, strength, words.runs, words.samples, words.threshold, words.seed)
    result = study.run(words.threads, words.quiet)
    sys.stdout.write(tensor_json(result) if words.json else tensor_table(result))
    if words.plot:
        from solvers.plots import save
        from solvers.tensor_plots import plot_tensor_pca

        save(plot_tensor_pca(result), words.plot, origin_of(words))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
