"""The stairs of a two-layer network: ``python -m sims.network --dim 128 --corr 0.5 --plot FILE``. A composition root."""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING

from solvers.options import (
    TASKS,
    Parser,
    add_model_options,
    add_output_options,
    check_plot_path,
    origin_of,
    run_command,
)
from theory.numerals import number, whole_number

if TYPE_CHECKING:
    from sims.network_study import Engine, NetworkStudy
    from theory.networks import TwoLayer

PROGRAM = "sims.network"
EXAMPLES = """examples:
  python -m sims.network --dim 128 --hidden 32 --samples 1e6 --plot stairs.png
  python -m sims.network --dim 64 --corr 0.5 --samples 1e7 --json
  python -m sims.network --dim 1e4 --samples 1e8 --runs 4 --no-theory
  python -m sims.network --corr 0.6 --activation tanh --bias-scale 1 --lr-bias 0.2
left the task with independent latents, right the one that is asked for. A stair is the gap between two curves of the test
error: on the task, on Gaussians of the same mean and covariance in each class, on Gaussians of the same mean.
times are in samples; steps are δ/d, summed over a mini-batch; Ctrl-C gives the finished runs"""


def make_parser() -> Parser:
    """All options; those of the model that have other defaults here than for a single neuron are declared anew."""
    parser = Parser(
        prog=PROGRAM,
        description="Test errors of a two-layer network on the task and on its Gaussian equivalents along online SGD.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
        conflict_handler="resolve",
    )
    add_model_options(parser)
    _add_own_model_options(parser)
    rates = parser.add_argument_group("learning rates")
    rates.add_argument("--lr", type=number, default=0.5, help="δ of the first layer (default: %(default)s)")
    rates.add_argument("--lr-second", type=number, default=0.05, help="of the second layer (default: %(default)s)")
    rates.add_argument("--lr-bias", type=number, default=0.0, help="of the neurons' biases (default: %(default)s)")
    rates.add_argument("--lr-output", type=number, default=0.15, help="of the output's bias (default: %(default)s)")
    rates.add_argument("--batch", type=whole_number, default=1, help="mini-batch size B (default: %(default)s)")
    run = parser.add_argument_group("run")
    run.add_argument("--dim", type=whole_number, default=128, metavar="D", help="dimension d (default: %(default)s)")
    run.add_argument(
        "--samples", type=whole_number, default=1_000_000, help="samples a run, as in 1e6 (default: %(default)s)"
    )
    run.add_argument("--runs", type=whole_number, default=8, help="independent runs (default: %(default)s)")
    run.add_argument("--seed", type=whole_number, default=0, help="seed of everything random (default: %(default)s)")
    run.add_argument("--threshold", type=number, default=0.3, help="|cosine| of weak recovery (default: %(default)s)")
    run.add_argument(
        "--engine", choices=("chain", "highd"), default="chain",
        help="exact Gram chain, d >= spikes + neurons + 1, or SGD in R^d (default: %(default)s)",
    )  # fmt: skip
    run.add_argument(
        "--no-theory", action="store_true", help="leave out the overlap ODE, which is drawn up to 200 d samples"
    )
    run.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_output_options(parser)
    return parser


def _add_own_model_options(parser: Parser) -> None:
    network = parser.add_argument_group("network")
    network.add_argument("--hidden", type=whole_number, default=32, metavar="K", help="neurons (default: %(default)s)")
    network.add_argument(
        "--activation", metavar="A", default="relu", help="as in solvers.predict (default: %(default)s)"
    )
    network.add_argument(
        "--loss", choices=("squared", "logistic", "correlation"), default="squared", help="default: %(default)s"
    )
    network.add_argument(
        "--scaling", choices=("standard", "mean-field"), default="standard",
        help="output divided by √K or by K (default: %(default)s)",
    )  # fmt: skip
    network.add_argument(
        "--initial-scale", type=number, default=1.0, metavar="S", help="w ~ N(0, S²/d) (default: %(default)s)"
    )
    network.add_argument(
        "--bias-scale", type=number, default=0.0, metavar="S", help="b ~ N(0, S²) (default: %(default)s)"
    )
    network.add_argument("--spherical", action="store_true", help="rows of the first layer of length 1")
    network.add_argument("--weight-decay", type=number, default=0.0, help="default: %(default)s")
    latents = parser.add_argument_group("strengths of the spikes")
    latents.add_argument("--beta-m", type=number, help="mean (default: 1; spiked-cumulant has none)")
    latents.add_argument("--beta-u", type=number, help="covariance (default: 5; spiked-cumulant has none)")
    latents.add_argument("--beta-v", type=number, default=10.0, help="cumulant (default: %(default)s)")
    latents.add_argument(
        "--corr", type=number, help="E[λν] of the right column; 0 leaves it out (default: the largest there is)"
    )


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, measure, print; returns the exit code."""
    words = make_parser().parse_args(arguments)
    return run_command(PROGRAM, lambda: _answer(words), "interrupted before the first run was finished")


def _answer(words: Namespace) -> int:
    from sims.network_report import network_json, network_table
    from sims.network_study import run_study

    check_plot_path(words.plot)
    result = run_study(_study(words), words.quiet)
    sys.stdout.write(network_json(result) if words.json else network_table(result))
    if words.plot:
        from sims.network_plots import plot_network
        from solvers.plots import save

        save(plot_network(result), words.plot, origin_of(words))
    return 0


def _study(words: Namespace) -> "NetworkStudy":
    from sims.network_study import NetworkStudy
    from theory.networks import NetworkModel, Rates

    learner = _learner(words)
    rates = Rates(words.lr, words.lr_second, words.lr_bias, words.lr_output)
    return NetworkStudy(
        tuple(NetworkModel(task, learner) for task in _tasks(words)), _engine(words.engine), words.dim, rates,
        words.samples, words.batch, words.runs, words.seed, words.threshold, not words.no_theory,
    )  # fmt: skip


def _learner(words: Namespace) -> "TwoLayer":
    from solvers.build import LOSSES
    from theory.activations import activation_from_text
    from theory.learners import LogisticLoss
    from theory.networks import TwoLayer

    losses = {**LOSSES, "logistic": LogisticLoss()}
    scaling = {"standard": 0.5, "mean-field": 1.0}[words.scaling]
    return TwoLayer(
        activation_from_text(words.activation), losses[words.loss], words.hidden, scaling, words.weight_decay,
        words.spherical, words.initial_scale, bias_scale=words.bias_scale,
    )  # fmt: skip


def _engine(name: str) -> "Engine":
    if name == "highd":
        from sims.network_sgd import NetworkSGD

        return NetworkSGD
    from solvers.gram_chain import GramChain

    return GramChain


def _tasks(words: Namespace) -> tuple:
    """The task with independent latents and, where it is another one, the task that is asked for."""
    from solvers.build import build_task, latent_from_text
    from theory.latents import GaussianCopula

    given = Namespace(**vars(words))
    mixed = words.task == TASKS[0]
    if words.beta_m is None:
        given.beta_m = 1.0 if mixed else 0.0
    if mixed and words.beta_u is None:
        given.beta_u = 5.0
    if words.corr is None:
        both = mixed and words.coupling == "copula" and given.beta_u > 0 and given.beta_v > 0
        given.corr = GaussianCopula().max_corr(latent_from_text(words.latent, words.p)) if both else 0.0
    asked = build_task(given)
    independent = build_task(Namespace(**{**vars(given), "corr": 0.0, "coupling": "copula"}))
    return (asked,) if asked == independent else (independent, asked)


if __name__ == "__main__":
    raise SystemExit(main())
