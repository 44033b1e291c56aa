"""Birth-death chains absorbed at both ends: their law in time, and their means in logarithms. Time has any unit here.

The chain is the finite-volume form of a diffusion dα = b dt + √(2a) dB whose fluxes are exponentially fitted (Scharfetter &
Gummel 1969): rates are positive, mass is conserved and detailed balance is exact, also where drift dominates a cell.
Means and splitting probabilities are sums of positive terms in logarithms, so that e^1000 is a number. In time:
L-stable steps until what remains has the quasi-stationary law, exponential beyond.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline
from scipy.linalg.lapack import dgtsv, zgtsv

Array = NDArray[np.float64]
STEP_ERROR, FLOOR, RELAXED = 1e-7, 1e-9, 1e-6
MAX_STEPS, HORIZON = 1000, 1e11  # the second in units of the fastest rate: steps beyond it would be rounding

# e^z ≈ (1 + 2z/5 + z²/20)/(1 - 3z/5 + 3z²/20 - z³/60) = sum_i w_i/(z_i - z): order 5, L-stable (Radau IIA)
_DENOMINATOR = np.poly1d([-1 / 60, 3 / 20, -3 / 5, 1])
_POLES = [z for z in _DENOMINATOR.roots if z.imag >= 0]
_WEIGHTS = [-np.polyval([1 / 20, 2 / 5, 1], z) / _DENOMINATOR.deriv()(z) * (1 if z.imag == 0 else 2) for z in _POLES]


@dataclass(frozen=True)
class Chain:
    """Birth-death chain on n + 2 nodes, absorbing at both ends, up_i = c_{i+½}/π_i, down_{i+1} = c_{i+½}/π_{i+1}.

    Rates ``up``, ``down`` (n + 2,) are zero at the ends; inside ``log_weight`` log π (n,), ``log_resistance`` -log c (n+1,).
    """

    up: Array
    down: Array
    log_weight: Array
    log_resistance: Array

    @classmethod
    def of(cls, alpha: Array, drift: Array, spread: Array) -> "Chain":
        """Exponential fitting of b, a at the nodes: the flux of q = a p is that of constant b/a within each cell."""
        step = np.diff(alpha)
        jump = (drift / spread)[:-1] / 2 * step + (drift / spread)[1:] / 2 * step  # of ψ = ∫ b/a across a cell
        half = np.maximum(np.abs(jump) / 2, 1e-9)
        log_fit = -half - np.log(-np.expm1(-2 * half) / (2 * half))  # log of (jump/2)/sinh(jump/2)
        centre = int(
            np.argmin(np.abs(alpha))
        )  # ψ may reach 1e13 at the ends: summed outwards, it is accurate where the mass is
        psi = np.concatenate([-np.cumsum(jump[:centre][::-1])[::-1], [0.0], np.cumsum(jump[centre:])])
        width = (step[1:] + step[:-1]) / 2
        up, down = np.zeros_like(alpha), np.zeros_like(alpha)
        up[1:-1] = spread[1:-1] / (width * step[1:]) * np.exp(log_fit[1:] + jump[1:] / 2)
        down[1:-1] = spread[1:-1] / (width * step[:-1]) * np.exp(log_fit[:-1] - jump[:-1] / 2)
        log_resistance = np.log(step) - log_fit - (psi[1:] + psi[:-1]) / 2
        return cls(up, down, np.log(width / spread[1:-1]) + psi[1:-1], log_resistance)

    def log_occupation(self, mass: Array) -> Array:
        """Log of the expected time spent at each interior node from the interior start ``mass`` (n,): positive terms only."""
        below = np.logaddexp.accumulate(self.log_resistance)
        above = np.logaddexp.accumulate(self.log_resistance[::-1])[::-1]
        larger = below if self.log_resistance[0] > self.log_resistance[-1] else above
        larger -= max(larger[0], larger[-1])  # logs of 1e10 would cost digits
        with np.errstate(divide="ignore"):
            log_mass = np.log(np.maximum(mass, 0.0))
        left = np.logaddexp.accumulate(below[:-1] + log_mass)
        right = np.logaddexp.accumulate((above[1:] + log_mass)[::-1])[::-1]
        right = np.append(right[1:], -np.inf)
        return self.log_weight + np.logaddexp(above[1:] + left, below[:-1] + right)

    def share_up(self, mass: Array) -> float:
        """Probability that the interior start ``mass`` is absorbed at the upper end, per unit of mass."""
        below = np.logaddexp.accumulate(self.log_resistance)
        return float(np.exp(below[:-1] - below[-1]) @ mass / mass.sum()) if mass.sum() > 0 else 0.0

    def step(self, mass: Array, time: float) -> Array:
        """Mass (n + 2,) after ``time`` by one step of order 5."""
        lower, main, upper = -time * self.up[:-1], time * (self.up + self.down), -time * self.down[1:]
        result = np.zeros_like(mass)
        for pole, weight in zip(_POLES, _WEIGHTS, strict=True):
            if pole.imag == 0:
                result += weight.real * dgtsv(lower, main + pole.real, upper, mass)[3]
            else:
                result += (weight * zgtsv(lower, main + pole, upper, mass)[3]).real
        return result

    def flux(self, mass: Array) -> tuple[float, float]:
        """Mass absorbed per unit time at the lower and the upper end."""
        return self.down[1] * mass[1], self.up[-2] * mass[-2]


@dataclass(frozen=True)
class Absorption:
    """Mass absorbed at the lower and upper end by a time: an interpolated history, then ``remaining`` mass exponentially."""

    history: CubicHermiteSpline
    remaining: float
    lifetime: float
    shares: Array

    @classmethod
    def of(cls, chain: Chain, mass: Array) -> "Absorption":
        """Run the chain from ``mass`` until little is left or what is left has the quasi-stationary law."""
        times, states = [0.0], [mass]
        for time, state in _steps(chain, mass):
            times.append(time)
            states.append(state)
        left = np.maximum(states[-1][1:-1], 0.0)
        share = chain.share_up(left)
        lifetime = times[-1]
        if left.any():
            with np.errstate(over="ignore"):
                lifetime = float(np.exp(np.logaddexp.reduce(chain.log_occupation(left)) - np.log(left.sum())))
        absorbed = np.array([[s[0], s[-1]] for s in states])
        history = CubicHermiteSpline(times, absorbed, [chain.flux(s) for s in states])
        remaining = max(0.0, 1 - float(absorbed[-1].sum()))
        return cls(history, remaining, lifetime, np.array([1 - share, share]))

    @property
    def end(self) -> float:
        """Where the exponential takes over."""
        return float(self.history.x[-1])

    def at(self, times: Array, derivative: int = 0) -> Array:
        """Absorbed mass (or, derivative 1, its rate) at either end, shape (m, 2); nothing before time 0."""
        late = np.maximum(times - self.end, 0.0)[:, None]
        values = np.asarray(self.history(np.clip(times, 0.0, self.end), derivative))
        fading = self.remaining * np.exp(-late / self.lifetime)
        tail = self.shares * (fading / self.lifetime if derivative else self.remaining - fading)
        values = np.where(late > 0, tail, values) if derivative else values + tail
        return np.where(times[:, None] < 0, 0.0, np.maximum(values, 0.0))


def _steps(chain: Chain, mass: Array) -> Iterator[tuple[float, Array]]:
    """Pairs of equal steps whose sum, done in one, differs by STEP_ERROR of the surviving mass.

    They end when little survives or its law is quasi-stationary: proportional to the time that it will spend at each node.
    Where several wells empty at different rates beyond HORIZON, the exponential that follows has only their common mean.
    """
    time, fastest = 0.0, float((chain.up + chain.down).max())
    step = 1 / fastest
    for _ in range(MAX_STEPS):
        middle = chain.step(mass, step)
        end = chain.step(middle, step)
        alive = max(float(end[1:-1].sum()), FLOOR**2)
        error = float(np.abs(end - chain.step(mass, 2 * step))[1:-1].sum()) / alive
        if error <= STEP_ERROR:
            yield time + step, middle
            yield time + 2 * step, end
            time, mass = time + 2 * step, end
            if alive <= FLOOR or time * fastest > HORIZON:
                return
            occupation = chain.log_occupation(mass[1:-1])
            if np.abs(np.exp(occupation - np.logaddexp.reduce(occupation)) - mass[1:-1] / alive).sum() < RELAXED:
                return
        step *= min(5.0, max(0.2, 0.9 * (STEP_ERROR / max(error, 1e-300)) ** (1 / 6)))
