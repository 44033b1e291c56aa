"""Shared models and the false-alarm rate of statistical tests.

Every statistical check below compares a z-score or a p-value with ``FALSE_ALARM`` (one in ten thousand for each
comparison), and all randomness comes from ``SEED``, so a red test is a change of code, not of luck. Set the environment
variable DOWNSTAIRS_SEED to try other seeds.
"""

import os

import numpy as np
import pytest

from theory.activations import Activation, erf, hermite_mixture, relu, sigmoid, softplus, tanh
from theory.hierarchical import HierarchicalCumulant, Planted
from theory.hierarchy import Hierarchy, Variable
from theory.latents import EvenCoupling, gauss, lobatto, radau
from theory.laws import Task, sample
from theory.learners import CorrelationLoss, Loss, Neuron, SquaredLoss
from theory.population import Model
from theory.tasks import MixedCumulant, TeacherStudent, spiked_cumulant
from theory.teacher_network import TeacherNetwork

SEED = int(os.environ.get("DOWNSTAIRS_SEED", "0"))
FALSE_ALARM = 1e-4
Z_ALARM = 3.89  # two-sided normal quantile of FALSE_ALARM

DAG = Hierarchy((  # a latent above, three states, two parents, no symmetry
    Variable("Z", (), ((0.6, 0.4),)),
    Variable("u", ("Z",), ((0.4, 0.4, 0.2), (0.2, 0.3, 0.5))),
    Variable("v", ("Z", "u"), ((0.7, 0.3), (0.5, 0.5), (0.3, 0.7), (0.6, 0.4), (0.2, 0.8), (0.4, 0.6))),
))  # fmt: skip
TASKS: dict[str, Task] = {
    "mcm_corr": MixedCumulant(corr=0.5),
    "mcm_mean_p6": MixedCumulant(gauss(6), corr=-0.3, beta_m=0.5, beta_u=0.6),
    "mcm_even": MixedCumulant(coupling=EvenCoupling(), beta_u=0.8),
    "mcm_p3": MixedCumulant(radau(3), corr=0.4, beta_u=0.7, beta_v=3.0),
    "spiked_p4_positive": spiked_cumulant(lobatto(4), 5.0),
    "teacher": TeacherStudent(("u", "v"), (((2, 0), 1.0), ((1, 1), 0.5), ((0, 3), -0.4)), 0.3),
    "hierarchical": HierarchicalCumulant(DAG, (Planted("u", 0.4, hidden=False), Planted("v", 4.0))),
    "teacher_network": TeacherNetwork(erf(), (1.0, -0.7), 0.3),
}
ACTIVATIONS: dict[str, Activation] = {
    "relu": relu(),
    "relu_bias": relu(0.5),
    "erf": erf(),
    "tanh": tanh(),
    "sigmoid": sigmoid(),
    "softplus": softplus(),
    "hermite": hermite_mixture({1: 0.3, 2: 1.0, 4: -0.5}),
}
LOSSES: dict[str, Loss] = {"correlation": CorrelationLoss(), "squared": SquaredLoss()}


def model_of(task: Task, activation: Activation | None = None, loss: Loss | None = None) -> Model:
    return Model(task, Neuron(activation or relu(), loss or CorrelationLoss()))


def teacher(spikes: str, *terms: tuple[str, float], noise: float = 0.0) -> TeacherStudent:
    """``teacher("uv", ("20", 1), ("04", 1))`` is He_2(u) + He_4(v)."""
    return TeacherStudent(tuple(spikes), tuple((tuple(map(int, i)), float(f)) for i, f in terms), noise)


def draw(task: Task, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Samples of (y, ξ), shapes (n,) and (n, r), from the task's generative law by NumPy alone."""
    return sample(task.law(), n, rng)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)
