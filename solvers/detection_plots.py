"""The figure of detection: thresholds against d, and the critical ratio against β. Computes no theory of its own."""

import numpy as np
from matplotlib.figure import Figure

from solvers.detection_study import PRIORS, STATISTICAL, DetectionStudy
from solvers.plots import FURTHER, GREY
from theory.detection import Detection

STYLES = (("#0072B2", "o-"), ("#D55E00", "s--"), ("#009E73", "^-."), (FURTHER[0], "v:"), (FURTHER[2], "D-"))


def plot_detection(study: DetectionStudy) -> Figure:
    """n(d) of every norm on log axes, and γ_c(β) of both priors."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    dims = np.array(study.dims, dtype=float)
    for k, (name, values) in enumerate(study.thresholds.items()):
        colour, line = STYLES[k % len(STYLES)]
        what = "any test" if name == STATISTICAL else f"polynomials, ${name}$"
        left.loglog(dims, values, line, color=colour, label=f"{what}: $n \\sim d^{{{study.exponents(name)[-1]:.2f}}}$")
    left.set(xlabel="input dimension $d$", ylabel="samples $n$ at the threshold")
    left.legend(frameon=False, title="undetectable below, exponent at the last $d$", title_fontsize=9)
    betas = np.geomspace(0.5, 100, 60)
    for prior, (colour, line) in zip(PRIORS, STYLES, strict=False):
        ratios = [Detection(study.detection.latent, b, prior).critical_ratio for b in betas]
        at = study.critical_strength[prior.name]
        label = f"spike {prior.name}" + ("" if at is None else f": $\\gamma_c = 1$ at $\\beta$ = {at:.2f}")
        right.loglog(betas, ratios, line[1:], color=colour, label=label)
    right.axhline(1, color=GREY, lw=0.8, ls=":")
    right.plot([study.detection.beta], [study.critical[study.detection.prior.name]], "o", color="black", ms=7, zorder=5)
    right.annotate(
        f"$\\beta$ = {study.detection.beta:g}", (study.detection.beta, study.critical[study.detection.prior.name]),
        xytext=(8, 8), textcoords="offset points",
    )  # fmt: skip
    right.set_xlabel("strength of the spike $\\beta$")
    right.set_ylabel("critical ratio $\\gamma_c$: norm bounded for $n < \\gamma_c\\, d$")
    right.legend(frameon=False)
    latent = study.detection.latent
    figure.suptitle(
        f"Detection of a cumulant spike: latent {latent.name}, $p$ = {latent.order}, $\\beta$ = {study.detection.beta:g}, "
        f"spike {study.detection.prior.name}, squared norm = {study.level:g}", fontsize=10,
    )  # fmt: skip
    return figure
