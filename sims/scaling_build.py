"""The words of ``python -m sims.scaling`` as studies: of a single neuron, of networks, of tensors."""

from argparse import Namespace
from typing import TYPE_CHECKING

from solvers.options import require_defaults

if TYPE_CHECKING:
    from sims.network_scaling import Arm
    from sims.tensor_scaling import TensorArm
    from sims.threshold_scaling import Study
    from theory.population import Model

NEURON = {
    "dims": "30,100,300,1000", "threshold": 0.3, "lr_scaling": "critical", "lr": "auto", "runs": 64, "budget": 20.0,
    "loss": "correlation",
}  # fmt: skip
NETWORK = {
    "dims": "64,128,256,512", "threshold": 0.5, "lr_scaling": "constant", "lr": "0.5", "lr_second": 0.05, "lr_bias": 0.0,
    "lr_output": 0.15, "runs": 16, "samples": 1e7, "loss": "squared", "activation": "relu", "bias_scale": 0.0,
}  # fmt: skip
TENSOR = {
    "dims": "100,300,1000,3000",
    "threshold": 0.5,
    "lr": "0.2,0.3,0.5",
    "runs": 64,
    "budget": 1.0,
    "target": "last",
}


def complete(words: Namespace, defaults: dict[str, object]) -> Namespace:
    """The words with ``defaults`` where the user said nothing."""
    return Namespace(**{**vars(words), **{name: v for name, v in defaults.items() if getattr(words, name) is None}})


def neuron_study(words: Namespace) -> "Study":
    """One neuron on one task."""
    from sims.scaling_engines import Subject
    from sims.threshold_scaling import Study, rates
    from solvers.build import build_model, dims_from_words, lr_from_text

    require_defaults(
        words, "a single neuron", lr_second=None, lr_bias=None, lr_output=None, samples=None, bias_scale=None
    )
    words = complete(words, NEURON)
    model, dims = build_model(words), tuple(sorted(dims_from_words([words.dims])))
    target = _last_recovered(model, max(dims), words.threshold) if words.target is None else words.target
    subject = Subject(model, target, words.threshold)
    lrs = rates(subject, dims, words.lr_scaling, lr_from_text(words.lr), words.kappa)
    return Study(
        subject, words.engine, dims, tuple(lrs), words.batch, words.runs, words.seed, words.budget,
        words.keep_small, words.controls, words.correction,
    )  # fmt: skip


def network_arms(words: Namespace) -> "dict[str, Arm]":
    """The network on independent latents and, beside it, on those that --corr or --coupling ask for."""
    from sims.network_scaling import Arm
    from sims.stair_scaling import StairArm
    from solvers.build import LOSSES, build_task, dims_from_words, lr_from_text
    from theory.activations import activation_from_text
    from theory.errors import InputError, require
    from theory.network_error import STAIRS
    from theory.networks import NetworkModel, Rates, TwoLayer

    require_defaults(words, "--hidden", kappa=None, budget=None, correction=False)
    words = complete(words, NETWORK)
    require(words.lr_scaling == "constant", "--lr-scaling", words.lr_scaling, "constant with --hidden", "leave it out")
    first, dims = lr_from_text(words.lr), tuple(sorted(dims_from_words([words.dims])))
    if first is None:
        raise InputError("lr", "auto", "a number with --hidden", "0.5 is the default")
    rates = Rates(first, words.lr_second, words.lr_bias, words.lr_output)
    activation, loss = activation_from_text(words.activation), LOSSES[words.loss]
    learner = TwoLayer(activation, loss, words.hidden, bias_scale=words.bias_scale)

    def arm(stream: int, **latents: object) -> Arm:
        model = NetworkModel(build_task(Namespace(**{**vars(words), **latents})), learner)
        target = ("v" if "v" in model.spikes else model.spikes[-1]) if words.target is None else words.target
        return (StairArm if target in STAIRS else Arm)(
            model, target, rates, dims, words.samples, words.engine, words.threshold, words.batch, words.runs, words.seed,
            words.keep_small, words.controls, stream,
        )  # fmt: skip

    arms = {"independent": arm(0, corr=0.0, coupling="copula")}
    if words.corr or words.coupling != "copula":
        arms["correlated" if words.corr else words.coupling] = arm(1)
    return arms


def _last_recovered(model: "Model", dim: int, threshold: float) -> str:
    """The cumulant spike v, or else the one that the flow recovers last."""
    if "v" in model.spikes:
        return "v"
    from solvers.prediction import predict

    recovered = [d for d in predict(model, dim, threshold=threshold).directions if d.status == "recovered"]
    return max(recovered, key=lambda d: d.escape_samples).spike if recovered else model.spikes[-1]


def tensor_arms(words: Namespace) -> "list[TensorArm]":
    """Tensor PCA at every δ_0 of --lr."""
    from sims.tensor_scaling import TensorArm
    from solvers.build import dims_from_words
    from solvers.tensor_study import default_strength
    from theory.errors import require
    from theory.numerals import numbers_from_text
    from theory.tensor_pca import SpikedTensor

    company = "--snr"
    require_defaults(words, company, task="mixed-cumulant", corr=0.0, coupling="copula", latent="standard", beta_m=0.0,
                     beta_u=None, beta_v=10.0, teacher=None, noise=0.0, activation=None, loss=None, kappa=None, samples=None,
                     lr_scaling=None, batch=(1,), correction=False, lr_second=None, lr_bias=None, lr_output=None,
                     bias_scale=None, hidden=None)  # fmt: skip
    tensor = SpikedTensor(words.p, numbers_from_text("snr", words.snr))
    strength = default_strength(tensor.order)
    words = complete(words, TENSOR | ({"lr": f"{strength:g}"} if tensor.order == 2 else {}))
    dims, strengths = tuple(sorted(dims_from_words([words.dims]))), numbers_from_text("lr", words.lr)
    require(len(set(strengths)) == len(strengths), "lr", words.lr, "different values of δ_0")
    return [
        TensorArm(tensor, δ, dims, words.target, words.engine, words.threshold, words.runs, words.seed, words.budget,
                  words.keep_small, stream)
        for stream, δ in enumerate(strengths)
    ]  # fmt: skip
