"""Escape times against d, with the law they follow: ``python -m sims.scaling --p 4 --corr 0.5``. A composition root."""

import sys
from argparse import ArgumentTypeError, BooleanOptionalAction, Namespace, RawDescriptionHelpFormatter

from sims.scaling_build import NETWORK, NEURON, TENSOR, network_arms, neuron_study, tensor_arms
from solvers.options import (
    Parser,
    add_model_options,
    add_output_options,
    add_store_option,
    check_plot_path,
    origin_of,
    run_command,
)
from theory.numerals import number, whole_number

PROGRAM = "sims.scaling"
EXAMPLES = """examples:
  python -m sims.scaling --task spiked-cumulant --p 3 --dims 1e3,1e4,1e5,1e6 --engine sde --runs 1000
  python -m sims.scaling --p 4 --corr 0.5 --dims 300,1000,3000,10000 --lr-scaling constant --plot scaling.png
  python -m sims.scaling --task spiked-cumulant --p 3 --dims 300,600 --batch 1,10,100,1000 --json
  python -m sims.scaling --hidden 32 --beta-m 1 --beta-u 5 --corr 0.7978 --dims 64,96,128,512 --samples 3e7 --hours 3
  python -m sims.scaling --hidden 32 --beta-m 1 --beta-u 5 --corr 0.7978 --dims 64,256,1024 --target cumulant
  python -m sims.scaling --snr 2,1 --p 3 --dims 100,1000,10000 --lr 0.2,0.3,0.5 --plot tensor.png
with --hidden a two-layer network is timed until its best neuron recovers the target: at corr 0 and, beside it, at --corr
times are in samples; the step is lr/d, summed over a mini-batch; Ctrl-C gives the finished points;
--store DIR keeps every run and takes from there what it has"""


def make_parser() -> Parser:
    """All options."""
    parser = Parser(
        prog=PROGRAM,
        description="Median escape times from a random start against d: the exponent with its interval, the law they follow.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    parser.set_defaults(loss=None)
    study = parser.add_argument_group("study")
    study.add_argument(
        "--dims", metavar="D,D,…",
        help=f"dimensions d (default: {NEURON['dims']}; with --hidden {NETWORK['dims']}, with --snr {TENSOR['dims']})",
    )  # fmt: skip
    study.add_argument(
        "--engine", choices=("chain", "sde", "highd", "ode"), default="chain",
        help="exact overlap chain, diffusion, SGD in R^d, or the ODE from the typical start; with --hidden and --snr chain "
        "or highd (default: %(default)s)",
    )  # fmt: skip
    study.add_argument(
        "--target", metavar="SPIKE",
        help="spike to reach (default: v, else the last that the flow recovers); with --hidden also a stair of the test "
        "error, as in sims.network: mean, covariance or cumulant; with --snr 1, 2, …, first, or last and the first beside it",
    )  # fmt: skip
    study.add_argument(
        "--threshold", type=float, help="overlap of weak recovery (default: 0.3; with --hidden and --snr 0.5)"
    )
    study.add_argument(
        "--lr-scaling", choices=("critical", "constant", "log"),
        help="δ = κ δ_crit(d), ∝ d^(-(k-2)/2) for order k >= 2; or constant, or ∝ 1/log d "
        "(default: critical; with --hidden always constant)",
    )  # fmt: skip
    study.add_argument(
        "--kappa", type=float, help="κ of --lr-scaling critical (default: 1 for order >= 3, otherwise ½ or less)"
    )
    study.add_argument(
        "--lr",
        help="δ at the first d for constant and log (default: ½ δ_crit there, or less where that reaches more; with "
        "--hidden 0.5, of the first layer; with --snr the values of δ_0: 0.2,0.3,0.5, for p = 2 0.05)",
    )
    study.add_argument(
        "--batch", type=_whole_numbers, default=(1,), metavar="B,B,…", help="mini-batch sizes; the first is fitted"
    )
    study.add_argument("--runs", type=int, help="independent runs at each d (default: 64; with --hidden 16)")
    study.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    study.add_argument(
        "--budget", type=float, metavar="FACTOR",
        help="samples a run, as a factor of the predicted median (default: 20); with --hidden see --samples; with --snr of "
        "what nearly all runs need (default: 1)",
    )  # fmt: skip
    study.add_argument(
        "--controls", action=BooleanOptionalAction, default=True,
        help="run a blind neuron and, where the sign matters, a repelled one for as long as the slowest run; with --hidden "
        "the network on data without the target",
    )  # fmt: skip
    study.add_argument(
        "--correction", action="store_true", help="fit a finite-size factor exp(c d^-q) to the power laws"
    )
    study.add_argument(
        "--keep-small", action="store_true", help="fit also the d at which noise alone crosses the threshold"
    )
    study.add_argument(
        "--hours", type=float, default=1.0, help="refuse work that is predicted to take longer (default: %(default)s)"
    )
    study.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_store_option(study)
    _add_network_options(parser)
    tensor = parser.add_argument_group(
        "tensor PCA", "N in the place of d, δ = δ_0 N^((3-p)/2) with several δ_0 in --lr"
    )
    tensor.add_argument(
        "--snr", metavar="L,L,…", help="time spikes of strength λ_1 >= … >= λ_r in a tensor of order --p"
    )
    add_output_options(parser)
    return parser


def _add_network_options(parser: Parser) -> None:
    network = parser.add_argument_group(
        "two-layer network", "of ReLU neurons with the squared loss unless told otherwise"
    )
    network.add_argument("--hidden", type=whole_number, metavar="K", help="time a network of K neurons")
    network.add_argument("--bias-scale", type=number, metavar="S", help="b ~ N(0, S²) (default: 0)")
    network.add_argument("--lr-second", type=number, help="δ of the second layer (default: 0.05)")
    network.add_argument("--lr-bias", type=number, help="δ of the neurons' biases (default: 0)")
    network.add_argument("--lr-output", type=number, help="δ of the output's bias (default: 0.15)")
    network.add_argument(
        "--samples", type=number, help="most samples a run; larger d are left out after a median beyond (default: 1e7)"
    )


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, fit, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(
        PROGRAM, lambda: _answer(words), "interrupted before the first point was finished; nothing to fit"
    )


def _answer(words: Namespace) -> int:
    check_plot_path(words.plot)
    if words.snr is not None:
        return _answer_tensor(words)
    if words.hidden is not None:
        return _answer_network(words)
    from sims.escape_runs import run_study
    from sims.scaling_report import scaling_json, scaling_table
    from theory.archive import archive

    study = neuron_study(words)
    study.check_cost(words.hours)
    with archive(words.store, words.command) as store:
        result = run_study(study, words.quiet, store)
    sys.stdout.write(scaling_json(result) if words.json else scaling_table(result))
    if words.plot:
        from sims.scaling_plots import plot_scaling
        from solvers.plots import save

        save(plot_scaling(result), words.plot, origin_of(words))
    return 0


def _answer_network(words: Namespace) -> int:
    from sims.network_scaling import check_cost, run_arms
    from sims.scaling_report import arms_json, arms_table
    from theory.archive import archive

    arms = network_arms(words)
    check_cost(arms, words.hours)
    with archive(words.store, words.command) as store:
        results = run_arms(arms, words.quiet, store)
    sys.stdout.write(arms_json(results) if words.json else arms_table(results))
    if words.plot:
        from sims.scaling_plots import plot_arms
        from solvers.plots import save

        save(plot_arms(results), words.plot, origin_of(words))
    return 0


def _answer_tensor(words: Namespace) -> int:
    from sims.scaling_report import arms_json, arms_table
    from sims.tensor_scaling import check_cost, run_arms
    from theory.archive import archive

    arms = tensor_arms(words)
    check_cost(arms, words.hours)
    with archive(words.store, words.command) as store:
        results = run_arms(arms, words.quiet, store)
    sys.stdout.write(arms_json(results, ratios=False) if words.json else arms_table(results, ratios=False))
    if words.plot:
        from sims.scaling_plots import plot_tensor
        from solvers.plots import save

        save(plot_tensor(results, arms[0].tensor.order - 2), words.plot, origin_of(words))
    return 0


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"got {text!r}; allowed: whole numbers, as in 1,10,100") from None


if __name__ == "__main__":
    raise SystemExit(main())
