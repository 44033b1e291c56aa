"""Speed of two-layer SGD in R^d against PyTorch, as ratios within one run, and its cost at d = 10^4.

    pytest -m benchmark -n 0 -s tests/benchmarks/test_network_speed.py

Same task, same step (ReLU, squared loss, both layers and all biases), one core each, CPU seconds: neighbours on a shared
machine take turns, and the figure is the median over turns of the ratio within a turn. PyTorch computes in float32, ours
in float64. Its contender is the fastest of the codes below: inputs drawn in chunks or one by one, gradients by hand or by
autograd.
"""

from statistics import median
from time import process_time

import numpy as np
import pytest

from sims.network_sgd import NetworkSGD
from tests.conftest import ACTIVATIONS, LOSSES, TASKS
from theory.networks import NetworkModel, Rates, TwoLayer

pytestmark = pytest.mark.benchmark

TASK, RATES, TURNS = TASKS["mcm_corr"], Rates(0.5, 0.05, 0.1, 0.15), 9
CHUNK = 1000  # inputs that PyTorch draws at once
PROTOTYPE = {8: 46.0, 32: 90.0, 64: 145.0}  # us a sample at d = 10^4, the blocked engine in the issue


def engine_of(dim, hidden, batch):
    return NetworkSGD(NetworkModel(TASK, TwoLayer(ACTIVATIONS["relu"], LOSSES["squared"], hidden)), dim, RATES, batch)


def ours(dim, hidden, batch):
    """A function that runs n samples, on one thread, and returns their CPU seconds beyond those of a start."""
    engine, nothing = engine_of(dim, hidden, batch), np.array([], dtype=int)

    def run(n):
        spent = []
        for samples in (batch, n + batch):
            begin = process_time()
            engine.run(1, samples, times=nothing, threads=1)
            spent.append(process_time() - begin)
        return spent[1] - spent[0]

    run(batch)
    return run


class Torch:
    """The same learner in PyTorch; ``drawn``: inputs to a chunk."""

    def __init__(self, dim, hidden, batch, drawn):
        import torch

        torch.set_num_threads(1)
        self.torch, self.dim, self.hidden, self.batch, self.drawn = torch, dim, hidden, batch, drawn
        self.U = torch.linalg.qr(torch.randn(dim, 2))[0].T.contiguous()
        self.W, self.a = torch.randn(hidden, dim) / dim**0.5, torch.sign(torch.randn(hidden))
        self.b, self.a0 = torch.zeros(hidden), torch.zeros(1)
        self.scale = hidden**-0.5
        self.first, self.second, self.bias, self.output = (r / dim for r in (0.5, 0.05, 0.1, 0.15))

    def draw(self):
        """Inputs and labels of a chunk: the mixed cumulant model with a Rademacher latent, corr = 0.5."""
        torch, law = self.torch, TASK
        z, n = torch.randn(self.drawn, self.dim), torch.randn(self.drawn, 3)
        z_U, on, rho = z @ self.U.T, n[:, 0] > 0, law.strength
        nu = torch.sign(rho * n[:, 1] + (1 - rho**2) ** 0.5 * n[:, 2])
        u = z_U[:, 0] + law.beta_u**0.5 * n[:, 1]
        v = (z_U[:, 1] + law.beta_v**0.5 * nu) / (1 + law.beta_v) ** 0.5
        shift = torch.stack([u, v], 1).sub_(z_U).mul_(on[:, None])
        return z.addmm_(shift, self.U), torch.where(on, 1.0, -1.0)

    def by_hand(self, n):
        """Gradients written out; one sample or one batch a step."""
        with self.torch.no_grad():
            for _ in range(0, n, self.drawn):
                X, y = self.draw()
                if self.batch > 1:
                    for x, label in zip(X.split(self.batch), y.split(self.batch), strict=True):
                        self.batch_step(x, label)
                else:
                    for x, label in zip(X.unbind(), y.tolist(), strict=True):
                        self.sample_step(x, label)

    def sample_step(self, x, y):
        h = self.torch.addmv(self.b, self.W, x)
        s = h.relu()
        r = (y - float(self.a0) - self.scale * float(self.a @ s)) * self.scale
        g = (self.a * (h > 0)).mul_(r)
        self.W.addr_(g, x, alpha=self.first)
        self.a.add_(s, alpha=self.second * r)
        self.b.add_(g, alpha=self.bias)
        self.a0 += self.output * r / self.scale

    def batch_step(self, x, y):
        h = self.torch.addmm(self.b, x, self.W.T)
        s = h.relu()
        r = (y - self.a0 - self.scale * (s @ self.a)).mul_(self.scale)
        g = self.torch.outer(r, self.a).mul_(h > 0)
        self.W.addmm_(g.T, x, alpha=self.first)
        self.a.addmv_(s.T, r, alpha=self.second)
        self.b.add_(g.sum(0), alpha=self.bias)
        self.a0 += self.output / self.scale * r.sum()

    def by_autograd(self, n):
        """torch.optim.SGD, one group for each rate."""
        leaves = [p.clone().requires_grad_() for p in (self.W, self.a, self.b, self.a0)]
        W, a, b, a0 = leaves
        rates = (self.first, self.second, self.bias, self.output)
        optimiser = self.torch.optim.SGD([{"params": [p], "lr": lr} for p, lr in zip(leaves, rates, strict=True)])
        for _ in range(0, n, self.drawn):
            X, y = self.draw()
            for x, label in zip(X.split(self.batch), y.split(self.batch), strict=True):
                optimiser.zero_grad()
                f = a0 + self.scale * ((x @ W.T + b).relu() @ a)
                (0.5 * ((f - label) ** 2).sum()).backward()
                optimiser.step()


def torch_codes(dim, hidden, batch):
    codes = {}
    for drawn in sorted({batch, CHUNK}):
        contender = Torch(dim, hidden, batch, drawn)
        codes |= {f"{way} {drawn}": getattr(contender, way) for way in ("by_hand", "by_autograd")}
    return codes


def cpu_seconds(work, n):
    begin = process_time()
    work(n)
    return process_time() - begin


@pytest.mark.parametrize(("hidden", "batch", "least"), [(8, 1, 3), (64, 1, 3), (8, 100, 1), (64, 100, 1)])
def test_network_sgd_beats_torch(hidden, batch, least):
    pytest.importorskip("torch")
    dim, n = 1000, 3000 if batch == 1 else 20_000
    run, codes = ours(dim, hidden, batch), torch_codes(dim, hidden, batch)
    for code in codes.values():
        code(CHUNK)
    trial = {name: min(cpu_seconds(code, CHUNK) for _ in range(3)) for name, code in codes.items()}
    best = min(trial, key=trial.get)
    turns = [(run(10 * n) / (10 * n), cpu_seconds(codes[best], n) / n) for _ in range(TURNS)]
    mine, torchs = (1e6 * median(cost) for cost in zip(*turns, strict=True))
    ratio = median(b / a for a, b in turns)
    others = ", ".join(f"{name} {t / CHUNK * 1e6:.1f}" for name, t in trial.items())
    print(
        f"\nd = {dim}, K = {hidden}, batch {batch}: {mine:.2f} us a sample, torch {torchs:.2f} ({others}) | ratio {ratio:.2f}"
    )
    assert ratio >= least


@pytest.mark.parametrize("hidden", [8, 32, 64])
def test_cost_at_ten_thousand_dimensions(hidden):
    run, n = ours(10_000, hidden, 1), 4000
    cost = 1e6 * median(run(n) / n for _ in range(5))
    print(f"\nd = 10000, K = {hidden}: {cost:.1f} us a sample (prototype {PROTOTYPE[hidden]:.0f})")
    assert cost < PROTOTYPE[hidden]
