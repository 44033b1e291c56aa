"""What the chain of tensor PCA recovers, when, in which order, against the flow, a uniform rotation and the law N^{p-2}."""

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr

from sims.tensor_scaling import TensorArm, run_arms
from solvers.tensor_study import TensorStudy, spike_times, typical_budget
from tests.conftest import FALSE_ALARM, SEED
from theory.errors import InputError
from theory.tensor_pca import SpikedTensor


def test_equal_strengths_of_order_two_vs_uniform_rotation():
    """p = 2, λ equal: the subspace is recovered and X is turned in it by a uniform angle φ: P(|cos φ| >= 0.8) is 0.41."""
    result = TensorStudy(SpikedTensor(2, (1.0, 1.0)), 2000, 0.02, runs=400, seed=SEED).run()
    ends = result.ensemble.trajectory.overlaps[:, -1].reshape(-1, 2, 2)
    assert np.linalg.svd(ends, compute_uv=False)[:, 1].min() > 0.9
    expected = np.arccos(0.8) / (np.pi / 2)
    for name in ("exact", "permutation"):
        share = result.outcomes[name]
        assert binomtest(share.hits, share.runs, expected).pvalue > FALSE_ALARM
    assert result.outcomes["subspace"].hits > 0 == result.outcomes["partial"].hits


def test_distinct_strengths_of_order_two_are_recovered_exactly():
    result = TensorStudy(SpikedTensor(2, (2.0, 1.0)), 2000, 0.02, runs=64, seed=SEED).run()
    assert result.outcomes["exact"].hits == 64
    assert result.score(result.by_strength, first_only=False).hits > 48


def test_small_rate_chain_vs_flow():
    """At small δ_0 each run follows the flow from its own start: first recoveries agree run by run."""
    tensor = SpikedTensor(4, (2.0, 1.0))
    budget = typical_budget(tensor, 100, 0.01, 0.5) // 10
    result = TensorStudy(tensor, 100, 0.01, runs=16, samples=budget, seed=SEED).run()
    flows = [result.flow(k) for k in range(16)]
    first = np.array([f.escape_samples.min() for f in flows])
    seen = result.times.of("first")
    assert spearmanr(first, seen).statistic > 0.9
    assert np.median(seen / first) == pytest.approx(1, abs=0.1)


def test_elimination_vs_chain():
    """The start foretells the first pair nearly always where noise is weak, less where not, and better than the λ's do."""
    tensor = SpikedTensor(4, (4.0, 3.0, 2.5))
    weak, strong = (TensorStudy(tensor, 100, δ, runs=128, seed=SEED).run() for δ in (0.02, 0.5))
    shares = [result.score(result.foretold, first_only=True) for result in (weak, strong)]
    assert shares[0].value > 0.85
    assert shares[0].interval[0] > shares[1].interval[1]
    assert weak.score(weak.foretold, False).interval[0] > weak.score(weak.by_strength, False).interval[1]


@pytest.mark.parametrize(
    ("order", "snr", "dims"), [(3, (2.0, 1.0), (100, 1000, 10_000)), (4, (8.0, 6.0), (100, 300, 1000))]
)
def test_samples_of_chain_vs_law(order, snr, dims):
    """First and last spike cost N^{p-2} samples: the exponents, with errors of about 0.07, and not the next power."""
    results = run_arms([TensorArm(SpikedTensor(order, snr), 0.3, dims, runs=160, seed=SEED)])
    assert list(results) == ["first, δ_0 = 0.3", "last, δ_0 = 0.3"]
    for result in results.values():
        assert result.fit.exponent == pytest.approx(order - 2, abs=0.25)
        assert result.fit.interval[1] - result.fit.interval[0] < 0.5


def test_samples_of_order_two_are_logarithmic():
    (_, last) = run_arms(
        [TensorArm(SpikedTensor(2, (2.0, 1.0)), 0.02, (100, 1000, 10_000, 100_000), runs=200, seed=SEED)]
    ).values()
    assert last.fit.laws[0].law.name.startswith("A (log d + b)")
    assert last.fit.exponent < 0.2


def test_chain_vs_direct_simulation_in_a_study():
    """The engines of the scaling study time the same law."""
    tensor = SpikedTensor(3, (2.0, 1.0))
    arms = [
        TensorArm(tensor, 0.3, (30, 60), "last", engine, 0.6, runs=100, seed=SEED, keep_small=True)
        for engine in ("chain", "highd")
    ]
    for a, b in zip(
        run_arms(arms[:1])["last, δ_0 = 0.3"].points, run_arms(arms[1:])["last, δ_0 = 0.3"].points, strict=True
    ):
        low, high = sorted([a.interval, b.interval])
        assert high[0] < low[1] * 1.5


def test_recovery_times_of_spikes():
    """Spike i escapes with the first of its overlaps; first and last are those of the run."""
    tensor = SpikedTensor(3, (2.0, 1.0))
    result = TensorStudy(tensor, 200, 0.3, runs=8, seed=SEED).run()
    times = spike_times(tensor, result.ensemble.escapes)
    raw = result.ensemble.escapes.times
    assert times.spikes == ("1", "2", "first", "last")
    assert np.array_equal(times.of("2"), raw[:, 2:].min(axis=1))
    assert np.array_equal(times.of("last"), np.maximum(times.of("1"), times.of("2")))


@pytest.mark.parametrize(
    ("change", "word"),
    [({"strength": 0.0}, "lr"), ({"threshold": 1.0}, "threshold"), ({"runs": 0}, "runs"), ({"samples": 0}, "samples"),
     ({"seed": -1}, "seed"), ({"dim": 5}, "dim")],
)  # fmt: skip
def test_bad_studies(change, word):
    with pytest.raises(InputError, match=word):
        TensorStudy(**({"tensor": SpikedTensor(3, (2.0, 1.0)), "dim": 100, "strength": 0.3} | change))


def test_warnings_of_a_study():
    large = TensorStudy(SpikedTensor(2, (3.0,)), 50, 0.1)
    assert "does not describe" in large.warnings[0]
    assert "within chance" in large.warnings[1]
    assert not TensorStudy(SpikedTensor(3, (1.0,)), 1000, 0.3).warnings
