"""The first-passage law against closed forms, textbook integrals, dense linear algebra, and a ten-line Monte Carlo.

Would falsify: that solvers/fokker_planck.py solves the diffusion it states (Itô, noise that varies with α, both ends
absorbing), at any d, from e^-5 to e^1000 samples; the table of medians of theory §4; noise-activated escape above the
critical rate at orders >= 3 against none at order 2; wrong-way starts of odd p that recover a constant factor later.
The Monte Carlo makes 5 comparisons for each of 3 cases, each with false-alarm rate FALSE_ALARM.
"""

from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import stdtr

from solvers import fokker_planck
from solvers.birth_death import Chain
from solvers.fields import SeriesField, exact_field
from solvers.fokker_planck import FirstPassage, Interval, best_rate
from tests.conftest import SEED, Z_ALARM, model_of
from theory.activations import hermite_mixture, relu
from theory.errors import InputError
from theory.exponents import critical_rate, first_form
from theory.latents import gauss, radau
from theory.population import Population
from theory.results import replica_seed
from theory.tasks import spiked_cumulant


@dataclass(frozen=True)
class Power:
    """Flow A α^(k-1) + square α² - cubic α³, V constant, D = 1 + tilt α: every regime in one-line formulas."""

    order: int = 2
    amplitude: float = 1.0
    variance: float = 1.0
    square: float = 0.0
    cubic: float = 0.0
    tilt: float = 0.0
    resolution: float = 0.0

    def flow(self, a):
        return self.amplitude * a ** (self.order - 1) + self.square * a**2 - self.cubic * a**3

    def __call__(self, alpha):
        return self.flow(alpha), self.variance

    def diffusion(self, alpha):
        return np.array([1 + self.tilt * alpha])

    def velocity(self, a, dim, lr):
        """Drift and half variance, from the theory note once more."""
        return lr / dim * self.flow(a) - lr**2 / (2 * dim) * self.variance * a, (lr / dim) ** 2 / 2 * (
            1 + self.tilt * a
        )


BROWNIAN = Power(amplitude=0.0, variance=0.0)


def scaled(order, kappa, dim=1e8):
    """The law of theory §4 and its unit of time: δ = κ δ_crit with A = V = D = 1, samples = s d^(k-1)/2."""
    return FirstPassage.of(Power(order), dim, kappa * 2 * dim ** (-(order - 2) / 2)), dim ** (order - 1) / 2


def mean_by_double_integral(field, dim, lr, start=0.0, eta=0.3):
    """T = ∫ s ∫ speed, textbook form for two absorbing ends, with ψ = ∫ b/a by Simpson's rule on a fine grid."""
    x = np.linspace(-eta, eta, 40001)
    b, a = field.velocity(x, dim, lr)
    h = x[1] - x[0]
    psi = np.concatenate([[0], np.cumsum((b / a)[1:] + (b / a)[:-1])]) * h / 2
    speed = np.exp(psi) / a
    inner = np.concatenate([[0], np.cumsum(speed[1:] + speed[:-1])]) * h / 2

    def integral(f):
        return np.concatenate([[0], np.cumsum(f[1:] + f[:-1])]) * h / 2

    scale, outer = integral(np.exp(-psi)), integral(np.exp(-psi) * inner)
    return float(np.interp(start, x, scale * outer[-1] / scale[-1] - outer))


@pytest.mark.parametrize("start", [0.0, 0.1, -0.25])
def test_brownian_motion_vs_sine_series(start):
    law = FirstPassage.of(BROWNIAN, 100, 0.5, start=start, cells=128)
    a, width = (0.5 / 100) ** 2 / 2, 0.6
    n = np.arange(1, 400, 2)[:, None] if start == 0 else np.arange(1, 400)[:, None]
    times = np.array([0.02, 0.1, 0.3, 1.0, 3.0]) * 0.09 / a
    modes = 2 * (1 - np.cos(n * np.pi)) / (n * np.pi) * np.sin(n * np.pi * (start + 0.3) / width)
    decay = np.exp(-a * (n * np.pi / width) ** 2 * times)
    np.testing.assert_allclose(law.survival(times), (modes * decay).sum(axis=0), atol=2e-5)
    expected = (modes * a * (n * np.pi / width) ** 2 * decay).sum(axis=0)
    np.testing.assert_allclose(law.density(times), expected, atol=1e-3 * expected.max())
    assert law.mean == pytest.approx((0.09 - start**2) / (2 * a), rel=1e-4)
    assert law.final_sides[1] == pytest.approx((start + 0.3) / 0.6, rel=1e-4)


@pytest.mark.parametrize("dim", [100, 1e3, 1e4, 1e5])
def test_mean_escape_of_the_cloud_vs_hypergeometric_function(dim):
    """Ornstein-Uhlenbeck from 0: T = η²/2a 2F2(1, 1; 3/2, 2; θη²/2a), up to e^4500 samples: relative error of log T."""
    lr = 4.0  # twice the critical rate of A = V = 1
    a, theta = (lr / dim) ** 2 / 2, lr**2 / (2 * dim) - lr / dim
    exact = mpmath.log(0.09 / (2 * a) * mpmath.hyp2f2(1, 1, 1.5, 2, theta * 0.09 / (2 * a)))
    law = FirstPassage.of(Power(2), dim, lr, start=0.0)
    assert law.log_mean == pytest.approx(float(exact), abs=2e-3 * max(1, dim / 1e3))
    assert (law.mean == np.inf) == (dim >= 1e5)


@pytest.mark.parametrize(
    ("field", "dim", "lr", "start"),
    [
        (Power(4, tilt=2.0), 100, 0.03, 0.0),
        (Power(3, tilt=-2.0), 200, 0.3, -0.1),
        (Power(2, 0.06, cubic=1.0), 400, 0.02, 0.05),  # settles at 0.22, below the threshold: escape by noise alone
    ],
)
def test_mean_vs_double_integral(field, dim, lr, start):
    law = FirstPassage.of(field, dim, lr, start=start, cells=512)
    assert law.mean == pytest.approx(mean_by_double_integral(field, dim, lr, start), rel=1e-3)


@pytest.mark.parametrize(("order", "kappa"), [(2, 0.5), (2, 2.0), (3, 1.0), (3, 6.0), (4, 0.5), (4, 4.0)])
def test_integral_of_survival_vs_direct_mean(order, kappa):
    dim = 400.0
    law, _ = scaled(order, kappa, dim)
    times = np.concatenate([[0], np.geomspace(1e-5, 60, 4000) * law.mean])
    assert np.trapezoid(law.survival(times), times) == pytest.approx(law.mean, rel=1e-3)
    assert np.trapezoid(law.density(times), times) == pytest.approx(1 - stdtr_outside(dim, 0.3), rel=1e-3)


def stdtr_outside(dim, eta):
    """P(|α_0| >= η) of a uniform random w."""
    return 2 * stdtr(dim - 1, -eta * np.sqrt((dim - 1) / (1 - eta**2)))


@pytest.mark.parametrize("dim", [3, 10, 1000])
def test_start_law_vs_integrated_density(dim):
    mass = Interval(Power(), dim).start_mass(None)
    density = lambda a: (1 - a**2) ** ((dim - 3) / 2)  # noqa: E731
    outside = quad(density, 0.3, 1)[0] / quad(density, 0, 1)[0]
    assert mass.sum() == pytest.approx(1, abs=1e-12)
    assert mass[0] + mass[-1] == pytest.approx(outside, rel=1e-6, abs=1e-14)
    assert FirstPassage.of(Power(), dim, 0.1).recovery_probability(0) == pytest.approx(outside, rel=1e-6, abs=1e-14)


@pytest.mark.parametrize(
    ("field", "dim", "lr", "start"),
    [
        (Power(2, tilt=2.0), 100, 1.0, 0.05),
        (Power(3, tilt=-2.0), 150, 0.25, None),
        (Power(4, tilt=2.0), 60, 0.12, None),  # above the critical rate
    ],
)
def test_law_vs_monte_carlo(field, dim, lr, start):
    """Euler-Maruyama with Brownian bridges: shares escaped by the predicted quantiles, binomial z-scores."""
    law, runs = FirstPassage.of(field, dim, lr, start=start, cells=128), 4000
    shares = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    budgets = np.array([law.quantile(q) for q in shares])
    rng, step, time = np.random.default_rng(replica_seed(SEED, dim)), law.quantile(0.5) / 1500, 0.0
    w = rng.standard_normal((runs, dim))
    alpha = w[:, 0] / np.linalg.norm(w, axis=1) if start is None else np.full(runs, start)
    escapes = np.where(np.abs(alpha) >= 0.3, 0.0, np.inf)
    while time < budgets[-1]:
        b, a = field.velocity(alpha, dim, lr)
        end = alpha + b * step + np.sqrt(2 * a * step) * rng.standard_normal(runs)
        with np.errstate(over="ignore"):
            bridges = [np.exp(-(0.3 - s * alpha) * (0.3 - s * end) / (a * step)) for s in (1, -1)]
        crossed = (np.abs(end) >= 0.3) | (rng.random(runs) < bridges[0]) | (rng.random(runs) < bridges[1])
        escapes[crossed & np.isinf(escapes)] = time + step / 2
        alpha, time = np.where(np.isinf(escapes), end, 0.0), time + step
    seen = (escapes[:, None] <= budgets).mean(axis=0)
    assert np.abs((seen - shares) / np.sqrt(shares * (1 - shares) / runs)).max() < Z_ALARM


@pytest.mark.parametrize(("order", "medians"), [(3, (6.5, 3.3, 2.2, 4.5, 52)), (4, (1.87, 0.89, 0.45, 0.26, 0.21))])
def test_dimensionless_medians_vs_table_of_the_theory(order, medians):
    for kappa, median in zip((0.5, 1, 2, 4, 6), medians, strict=True):
        law, unit = scaled(order, kappa)
        assert law.quantile(0.5) / unit == pytest.approx(median, rel=0.02)


def test_odd_order_wrong_way_starts_recover_a_constant_factor_later():
    """p = 3 from -1/√d and from +1/√d: at any d both always, at +η, the former 1.5 to 3 times later in median."""
    ratios = []
    for dim in (1e4, 1e6, 1e8):
        right, wrong = (FirstPassage.of(Power(3), dim, 2 * dim**-0.5, start=s * dim**-0.5) for s in (1, -1))
        assert wrong.final_sides[1] == pytest.approx(1, abs=1e-9)
        ratios.append(wrong.quantile(0.5) / right.quantile(0.5))
        budget = right.quantile(0.5)
        assert wrong.recovery_probability(budget) < right.recovery_probability(budget)
    assert min(ratios) > 1.5
    assert max(ratios) < 3
    assert np.ptp(ratios) < 0.05


def test_above_the_critical_rate_only_orders_from_three_escape():
    """κ = 4, d = 10^4: order 4 within its usual d³ samples; order 2 keeps a Gaussian cloud for more than e^1000."""
    law, unit = scaled(4, 4.0, 1e4)
    assert law.recovery_probability(unit) > 0.9
    still, _ = scaled(2, 4.0, 1e5)
    assert still.recovery_probability(1e30) < 1e-12
    assert still.quantile(0.5) == np.inf
    assert still.log_mean > 1000
    cloud = still.cloud
    weight = cloud.density * np.gradient(cloud.alpha)
    variance = (weight * cloud.alpha**2).sum()
    assert weight.sum() == pytest.approx(1, rel=1e-3)
    assert variance * 1e5 == pytest.approx(4 / 3, rel=1e-3)  # a/θ = (δ²/2d²)/(δ²/2d - δ/d) with δ = 8


def test_late_hazard_vs_lifetime_of_the_cloud():
    """What remains fades exponentially: -d log S/dt from the time steps, 1/lifetime by inverse iteration."""
    for order, kappa, dim in ((2, 2.0, 100.0), (3, 6.0, 1e4), (4, 0.5, 400.0)):
        law, _ = scaled(order, kappa, dim)
        late = law.quantile(0.999)
        assert law.density(late)[0] / law.survival(late)[0] * law.cloud.lifetime == pytest.approx(1, rel=1e-3)


def test_two_wells_of_unequal_depth():
    """Fixed points below the threshold, α* = 0.28 and -0.22: the law is a mixture of two exponentials a hundredfold apart."""
    law = FirstPassage.of(Power(2, 0.06, square=0.02, cubic=1.0), 400, 0.02)
    times = np.concatenate([[0], np.geomspace(1e-6, 100, 4000) * law.mean])
    assert np.trapezoid(law.survival(times), times) == pytest.approx(law.mean, rel=1e-3)
    assert law.quantile(0.75) > 100 * law.quantile(0.25)
    assert law.final_sides[0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("order", "kappa"), [(3, 2.0), (4, 1.0), (6, 8.0)])
def test_medians_at_fixed_kappa_scale_as_a_pure_power_of_d(order, kappa):
    """In units d^(k-1)/2 they are one number, at d = 10^6 and at d = 10^12, where ψ = ∫b/a reaches 1e22 at the ends."""
    medians = [law.quantile(0.5) / unit for law, unit in (scaled(order, kappa, dim) for dim in (1e6, 1e12))]
    assert medians[0] == pytest.approx(medians[1], rel=2e-3)


def test_deterministic_leg_vs_noise_all_the_way(monkeypatch):
    """Order 2 at d = 10^4: 0.1, 0.5 and 0.9 quantiles and mean with and without the shortcut through the drift."""
    law, _ = scaled(2, 0.5, 1e4)
    short = [law.mean, *(law.quantile(q) for q in (0.1, 0.5, 0.9))]
    monkeypatch.setattr(fokker_planck, "BALLISTIC", np.inf)
    law = FirstPassage.of(Power(2), 1e4, law.lr, cells=512)
    np.testing.assert_allclose(short, [law.mean, *(law.quantile(q) for q in (0.1, 0.5, 0.9))], rtol=2e-3)


def test_start_inside_the_drift_vs_integrated_inverse_drift():
    """From α = 0.1 at d = 10^8 the ODE is right: ∫ dα/b."""
    field, dim, lr = Power(4), 1e8, 1e-8
    expected = quad(lambda a: 1 / field.velocity(a, dim, lr)[0], 0.1, 0.3, epsrel=1e-10)[0]
    for sign in (1, -1):
        law = FirstPassage.of(field, dim, lr, start=sign * 0.1)
        assert law.mean == pytest.approx(expected, rel=1e-3)
        assert law.quantile(0.5) == pytest.approx(expected, rel=1e-2)
        assert law.final_sides[sign > 0] == pytest.approx(1)


def test_chain_vs_dense_linear_algebra():
    """Rates, detailed balance, occupation times, splitting, and one step against the matrix of the generator."""
    from scipy.linalg import expm

    alpha = np.sinh(np.linspace(-2, 2, 41)) / 10
    b, a = Power(3, tilt=-2.0).velocity(alpha, 100, 0.3)
    chain = Chain.of(alpha, b, a)
    generator = np.diag(chain.up[:-1], -1) + np.diag(chain.down[1:], 1) - np.diag(chain.up + chain.down)
    assert chain.up.min() >= 0
    assert chain.down.min() >= 0
    np.testing.assert_allclose(generator.sum(axis=0), 0, atol=1e-12 * np.abs(generator).max())
    weight = np.exp(chain.log_weight)
    np.testing.assert_allclose(weight[:-1] * chain.up[1:-2], weight[1:] * chain.down[2:-1], rtol=1e-12)
    mass = Interval(Power(), 100).start_mass(None)[1:40]
    mass /= mass.sum()
    inside = generator[1:-1, 1:-1]
    np.testing.assert_allclose(np.exp(chain.log_occupation(mass)), np.linalg.solve(-inside, mass), rtol=1e-9)
    assert chain.share_up(mass) == pytest.approx(chain.up[-2] * np.linalg.solve(-inside, mass)[-1], rel=1e-9)
    time, full = 0.2 / np.abs(generator).max(), np.concatenate([[0], mass, [0]])
    stepped = chain.step(full, time)
    np.testing.assert_allclose(stepped, expm(generator * time) @ full, atol=1e-7)
    assert stepped.sum() == pytest.approx(1, abs=1e-14)


def test_survival_falls_and_quantiles_invert_it():
    for order, kappa in ((2, 0.5), (3, 2.0), (4, 6.0)):
        law, unit = scaled(order, kappa, 1e5)
        survival = law.survival(np.concatenate([[0], np.geomspace(1e-9, 1e3, 2000) * unit]))
        assert np.diff(survival).max() < 1e-7
        assert law.density(np.geomspace(1e-9, 1e3, 2000) * unit).min() >= 0
        for q in (0.01, 0.3, 0.99, 0.999999):
            assert law.recovery_probability(law.quantile(q)) == pytest.approx(q, rel=1e-6)


@pytest.mark.parametrize(("p", "latent"), [(3, radau(3)), (4, gauss(4))])
def test_series_vs_quadrature_law_and_critical_rate(p, latent):
    """The same law from both fields; the critical rate of the mesh is that of the theory; medians scale as d^(p-1)."""
    model = model_of(spiked_cumulant(latent), relu() if p == 4 else hermite_mixture({2: 1.0, 3: 1.0}))
    population = Population(model, 20)
    series = Interval(SeriesField(population), 1000)
    laws = [FirstPassage(series, 1e-3), FirstPassage.of(exact_field(model), 1000, 1e-3)]
    np.testing.assert_allclose(*[[law.mean, law.quantile(0.5)] for law in laws], rtol=1e-6)
    assert series.critical_rate == pytest.approx(
        critical_rate(population, *first_form(population), 1000, 0.3), rel=0.03
    )
    medians = []
    for dim in (1e5, 1e8):
        interval = Interval(SeriesField(population), dim)
        medians.append(FirstPassage(interval, 2 * interval.critical_rate).quantile(0.5))
    assert np.log10(medians[1] / medians[0]) / 3 == pytest.approx(p - 1, abs=0.01)


def test_best_rate_vs_scan():
    """The minimum over a grid; twice critical at p = 3, seven times at p = 4, near half at order 2."""
    for order, expected in ((2, 0.54), (3, 2.15), (4, 7.4)):
        rate, median = best_rate(Power(order), 1e4)
        critical = 2 * 1e4 ** (-(order - 2) / 2)
        assert rate / critical == pytest.approx(expected, rel=0.05)
        scan = [FirstPassage.of(Power(order), 1e4, rate * f).quantile(0.5) for f in (0.5, 0.8, 1, 1.25, 2)]
        assert np.argmin(scan) == 2
        assert median == pytest.approx(scan[2], rel=1e-6)


def test_starts_beyond_the_threshold_budgets_of_zero_and_tiny_dimensions():
    for start in (0.3, -0.5):
        law = FirstPassage.of(Power(3), 1000, 0.01, start=start)
        assert law.survival([0, 1e9]).tolist() == [0, 0]
        assert law.quantile(0.9) == 0 == law.mean
        assert law.final_sides[start > 0] == 1
    small = FirstPassage.of(Power(4), 10, 0.5)
    assert 0.3 < small.recovery_probability(0) < 0.5
    assert small.quantile(0.3) == 0 < small.quantile(0.9) < np.inf
    assert scaled(4, 1.0)[0].recovery_probability(0) == 0


def test_bad_input_is_refused():
    for arguments in (
        (2, 0.1, 0.3),
        (100, 0, 0.3),
        (100, np.nan, 0.3),
        (100, 0.1, 1.0),
        (100, 0.1, 0.0),
        (np.inf, 0.1, 0.3),
    ):
        with pytest.raises(InputError):
            FirstPassage.of(Power(), *arguments)
    law = FirstPassage.of(Power(), 100, 0.1)
    for call in (lambda: law.quantile(1), lambda: law.survival([-1.0]), lambda: FirstPassage(law.interval, 0.1, 1.5)):
        with pytest.raises(InputError):
            call()
    with pytest.raises(InputError, match="noise is positive"):
        FirstPassage.of(Power(tilt=5.0), 100, 0.1).survival(1)
    with pytest.raises(InputError, match="no drift leads"):
        best_rate(Power(4, amplitude=-1.0), 1000)
