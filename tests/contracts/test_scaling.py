"""``python -m sims.scaling``: the fits on synthetic times whose law is known, the JSON contract, interruption, bad input.

Would be falsified by: an exponent that censoring biases, an interval that does not cover, an information criterion that takes
a logarithm for a power. False alarms: every comparison at FALSE_ALARM (z below Z_ALARM), the coverage within the binomial
error at that z. The claims about SGD itself: tests/ladder/test_scaling_vs_theory.py.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from sims import network_scaling, threshold_scaling
from sims.escape_runs import run_study
from sims.scaling import main
from sims.scaling_engines import ENGINES, Subject, negated
from sims.threshold_scaling import Study, rates
from tests.conftest import FALSE_ALARM, SEED, Z_ALARM, model_of
from theory.activations import hermite_mixture, relu
from theory.errors import InputError
from theory.latents import gauss, radau
from theory.scaling_laws import fit_scaling, ratio_of_medians, resampled_medians
from theory.tasks import MixedCumulant, spiked_cumulant

DECADES = np.geomspace(1e3, 1e7, 9)
NETWORK = (
    "--hidden", "4", "--beta-m", "1", "--beta-u", "5", "--corr", "0.7", "--dims", "16,24,32", "--samples", "1e4", "--runs",
    "6", "--quiet",
)  # fmt: skip
P3 = ("--task", "spiked-cumulant", "--p", "3", "--engine", "sde", "--quiet")


def escape_times(medians, runs, rng, budget=np.inf):
    """Log-normal times about the medians; those beyond ``budget`` medians are censored."""
    factors = np.exp(0.8 * rng.standard_normal((len(medians), runs)))
    return [np.where(f <= budget, m * f, np.inf) for m, f in zip(medians, factors, strict=True)]


def cubic_subject():
    return Subject(model_of(spiked_cumulant(radau(3)), hermite_mixture({3: np.sqrt(2)})), "v")


def study(**settings):
    subject, dims = cubic_subject(), (1000, 4000)
    fixed = {"subject": subject, "engine": "sde", "dims": dims, "runs": 20, "seed": SEED}
    return Study(**fixed | {"lrs": tuple(rates(subject, dims, "critical", None, 2.0))} | settings)


def test_exact_powers_come_back():
    """One run for each d, as from the ODE: no interval, the exponent to rounding."""
    fit = fit_scaling(DECADES, [np.array([3.0 * d**2]) for d in DECADES])
    np.testing.assert_allclose([fit.exponent, fit.laws[0].parameters["A"]], [2, 3], rtol=1e-9)
    assert fit.laws[0].law.name == "A d^2"
    assert np.isinf(fit.interval).all()


@pytest.mark.parametrize("budget", [np.inf, 1.7])
def test_exponent_of_noisy_times_censored_or_not(budget, rng):
    """A budget of 1.7 medians censors a quarter of the runs and moves no median; the error is 1.25 · 0.8 of 1/√runs."""
    times = escape_times(DECADES**1.5, 400, rng, budget)
    fit = fit_scaling(DECADES, times, SEED)
    error = 1.2533 * 0.8 / np.sqrt(400) / np.sqrt(np.sum((np.log(DECADES) - np.log(DECADES).mean()) ** 2))
    assert abs(fit.exponent - 1.5) < Z_ALARM * error
    width = fit.interval[1] - fit.interval[0]
    assert 0.5 < width / (2 * 1.96 * error) < 1.6


def test_a_median_beyond_the_budget_does_not_enter(rng):
    times = escape_times(DECADES**2, 50, rng)
    longer, dims = [*times, np.full(50, np.inf)], np.append(DECADES, 1e8)
    assert fit_scaling(dims, longer, SEED).exponent == fit_scaling(DECADES, times, SEED).exponent
    assert fit_scaling(dims[-2:], longer[-2:], SEED) is None


def test_a_nearly_censored_point_opens_the_interval(rng):
    """Half of the last runs censored: resamples whose median is beyond the budget allow any larger exponent."""
    times = escape_times(DECADES**2, 51, rng)
    times[-1] = np.sort(times[-1])
    times[-1][27:] = np.inf
    low, high = fit_scaling(DECADES, times, SEED).interval
    assert 1.5 < low < 2.1
    assert high == np.inf


def test_coverage_of_the_bootstrap_interval(rng):
    """95 % within the binomial error of 300 repetitions at FALSE_ALARM, ± 4.9 %."""
    dims, n = np.geomspace(1e2, 1e4, 4), 300
    fits = [fit_scaling(dims, escape_times(dims**2, 64, rng), i, resamples=300) for i in range(n)]
    covered = np.mean([f.interval[0] <= 2 <= f.interval[1] for f in fits])
    assert abs(covered - 0.95) < Z_ALARM * np.sqrt(0.95 * 0.05 / n)


def test_resampled_medians_vs_order_statistics(rng):
    """Medians of explicit resamples, for odd and even numbers of runs: Kolmogorov-Smirnov on jittered values."""
    from scipy.stats import ks_2samp

    for runs in (2, 7, 30):
        times = rng.standard_normal(runs)
        explicit = np.median(rng.choice(times, (20_000, runs)), axis=1)
        jitter = 1e-6 * rng.random((2, 20_000))  # no ties
        fast = resampled_medians(times, rng, 20_000)
        assert ks_2samp(explicit + jitter[0], fast + jitter[1]).pvalue > FALSE_ALARM


def test_ratio_of_medians_covers(rng):
    """Log-normal runs: the ratio is 6, its error 1.25 · 0.8 √(2/n) in the logarithm; the interval covers as it says."""
    n, covered, values = 200, 0, []
    for i in range(n):
        above, below = escape_times([6e4, 1e4], 64, rng)
        value, (low, high) = ratio_of_medians(above, below, (np.inf, np.inf), i, 300)
        values.append(value)
        covered += low <= 6 <= high
    error = 1.2533 * 0.8 * np.sqrt(2 / 64)
    assert abs(np.mean(np.log(values)) - np.log(6)) < Z_ALARM * error / np.sqrt(n)
    assert abs(covered / n - 0.95) < Z_ALARM * np.sqrt(0.95 * 0.05 / n)


def test_ratio_of_censored_medians_is_a_bound(rng):
    (times,), never = escape_times([100.0], 60, rng), np.full(60, np.inf)
    value, (low, high) = ratio_of_medians(never, times, (1e4, 1e4), SEED)
    assert value == high == np.inf
    assert low == pytest.approx(1e4 / np.quantile(resampled_medians(times, rng), 0.975), rel=0.1)
    value, (low, high) = ratio_of_medians(times, never, (1e4, 1e4), SEED)
    assert value == low == 0
    assert 0 < high < 0.05
    value, (low, high) = ratio_of_medians(never, never, (1e4, 1e4), SEED)
    assert np.isnan(value)
    assert (low, high) == (0, np.inf)


@pytest.mark.parametrize(("medians", "law"), [
    (2 * DECADES * (np.log(DECADES) + 1), "A d (log d + b)"), (DECADES * (np.log(DECADES) - 2) ** 2, "A d (log d + b)^2"),
    (0.1 * DECADES**3, "A d^3"), (DECADES**1.4, "A d^k"),
])  # fmt: skip
def test_the_right_law_is_preferred(medians, law, rng):
    fit = fit_scaling(DECADES, escape_times(medians, 4000, rng), SEED)
    assert fit.laws[0].law.name == law
    np.testing.assert_allclose(fit.laws[0].at(DECADES), medians, rtol=0.1)


def test_d_log_d_looks_like_a_power_of_1_1(rng):
    """The exponent alone would mislead: a power fits d log d over four decades with k = 1.09, but much worse."""
    fit = fit_scaling(DECADES, escape_times(DECADES * np.log(DECADES), 4000, rng), SEED)
    assert 1.05 < fit.exponent < 1.15
    best = {f.law.name: f.aic for f in fit.laws}
    assert min(aic for name, aic in best.items() if "log" not in name) - best["A d (log d + b)"] > 6


def test_the_correction_removes_a_finite_size_bias(rng):
    times = escape_times(DECADES**2 * np.exp(-20 / np.sqrt(DECADES)), 4000, rng)
    plain, corrected = fit_scaling(DECADES, times, SEED), fit_scaling(DECADES, times, SEED, correction=0.5)
    assert plain.interval[0] > 2.01
    assert corrected.interval[0] < 2 < corrected.interval[1]
    assert corrected.laws[0].law.name == "A d^2 exp(c d^-0.5)"
    assert abs(corrected.laws[0].parameters["c"] + 20) < 2


def test_rates():
    cubic = cubic_subject()
    np.testing.assert_allclose(np.diff(np.log(rates(cubic, (100, 10_000), "critical", None, 3.0))), np.log(100) * -0.5)
    assert rates(cubic, (100, 1000), "constant", 0.2, None) == [0.2, 0.2]
    np.testing.assert_allclose(rates(cubic, (100, 10_000), "log", 0.2, None), [0.2, 0.1])
    correlated = Subject(model_of(MixedCumulant(corr=0.5)), "v")
    assert (
        len(set(rates(correlated, (300, 10_000), "critical", None, None))) == 1
    )  # order 2: δ_crit does not depend on d


def test_controls_are_as_noisy_and_not_driven():
    for task, activation, kinds in [
        (spiked_cumulant(gauss(4)), relu(), {"blind", "wrong-sign"}),
        (spiked_cumulant(radau(3)), hermite_mixture({2: 0.7, 3: 1.0}), {"blind"}),
        (MixedCumulant(corr=0.5), relu(), {"blind"}),
    ]:
        subject = Subject(model_of(task, activation), "v")
        assert set(subject.controls) == kinds
        for control in subject.controls.values():
            assert control.form is None
            np.testing.assert_allclose(control.noise, subject.noise, rtol=1e-9)


def test_the_opposite_activation_is_minus_sigma():
    coefficients, opposite = relu().coefficients(8), negated(relu()).coefficients(8)
    np.testing.assert_array_equal(opposite, -coefficients)
    np.testing.assert_allclose(
        negated(relu()).function.normalized_coefficients(3), -relu().normalized_coefficients(3), atol=1e-12
    )


def test_points_are_independent_and_can_be_run_alone():
    """Equal seeds at different d would be the same noise, rescaled; a study of other d gives the same point."""
    both, (job, _) = run_study(study(controls=False)), study(dims=(4000, 9000)).jobs[0]
    alone = replace(job, lr=both.points[1].job.lr, samples=both.points[1].job.samples)
    again = ENGINES["sde"].measure(cubic_subject(), alone).escapes.of("v")
    np.testing.assert_array_equal(again, both.points[1].times)
    ratio = both.points[1].times / both.points[0].times
    assert np.std(np.log(ratio)) > 0.3


def test_json_contract(capsys):
    assert main([*P3, "--dims", "1000,4000,16000", "--runs", "40", "--seed", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {
        "schema", "exponent", "ci95", "law", "laws", "points", "minibatch", "controls", "model", "engine", "target", "runs",
        "seed", "threshold", "warnings", "interrupted",
    }  # fmt: skip
    assert (result["schema"], result["engine"], result["runs"], result["seed"]) == (1, "sde", 40, 3)
    assert result["law"] == min(result["laws"], key=lambda name: result["laws"][name]["aic"])
    assert result["ci95"][0] < result["exponent"] < result["ci95"][1]
    for point in result["points"]:
        assert point["ci95"][0] <= point["median"] <= point["ci95"][1]
        assert (point["censored"], point["fitted"]) == (0, True)
    assert result["controls"]["blind"]["false_alarm_rate"] == 0
    assert len(result["controls"]["blind"]["points"]) == 3


def test_table_figure_and_small_dimensions(capsys, tmp_path):
    words = [*P3, "--dims", "100,1000,4000", "--runs", "20", "--plot", str(tmp_path / "a.png")]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "below 5/sqrt(d) at d = 100: noise alone crosses it; not fitted" in out
    assert "false alarms 0/40 where fitted" in out
    assert (tmp_path / "a.png").stat().st_size > 20_000
    assert main([*words, "--keep-small"]) == 0
    assert "kept in the fit" in capsys.readouterr().out


@pytest.mark.parametrize("engine", ["chain", "highd", "ode"])
def test_every_engine_answers(engine, capsys):
    words = f"--p 4 --corr 0.7 --dims 20,40 --keep-small --runs 8 --budget 2 --engine {engine}".split()
    assert main([*words, "--lr-scaling", "log", "--quiet", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [p["dim"] for p in result["points"]] == [20, 40]
    assert all(p["median"] is None or p["median"] >= 0 for p in result["points"])


def test_minibatches(capsys, tmp_path):
    words = ["--task", "spiked-cumulant", "--p", "3", "--dims", "20,40", "--threshold", "0.7", "--runs", "10"]
    assert (
        main(
            [
                *words,
                "--batch",
                "1,8",
                "--kappa",
                "2",
                "--keep-small",
                "--json",
                "--quiet",
                "--plot",
                str(tmp_path / "b.svg"),
            ]
        )
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert [(p["dim"], p["batch"]) for p in result["minibatch"]] == [(20, 8), (40, 8)]
    assert all(p["median"] % 8 == 0 or p["median"] % 4 == 0 for p in result["minibatch"])


def test_nothing_recovered_is_a_lower_bound(capsys):
    """v beside an independent u is repelled: all runs are censored, there is nothing to fit."""
    words = "--p 4 --activation hermite:2=1,4=-2 --dims 1000,2000 --engine sde --runs 8 --budget 1 --quiet"
    assert main(words.split()) == 0
    out = capsys.readouterr().out
    assert out.count("8/8") == 2
    assert "no fit" in out


def test_ctrl_c_keeps_the_finished_points(monkeypatch):
    measured = ENGINES["sde"]
    calls = []

    def measure(subject, job):
        calls.append(job)
        if len(calls) > 1:
            return replace(measured.measure(subject, job), interrupted=True)
        return measured.measure(subject, job)

    monkeypatch.setitem(threshold_scaling.ENGINES, "sde", replace(measured, measure=measure))
    result = run_study(study(controls=False))
    assert result.interrupted
    assert [p.job.dim for p in result.points] == [1000]
    assert result.fit is None
    with pytest.raises(KeyboardInterrupt):
        run_study(study(controls=False))


def test_network_json_table_and_figure(capsys, tmp_path):
    """Two arms beside each other; the ratio at every d that both measured; the same numbers in both outputs."""
    words = [*NETWORK, "--keep-small"]
    assert main([*words, "--json", "--plot", str(tmp_path / "a.png")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (set(result), result["schema"]) == ({"schema", "arms", "ratios"}, 1)
    assert list(result["arms"]) == ["independent", "correlated"]
    independent, correlated = result["arms"].values()
    assert (independent["model"]["corr"], correlated["model"]["corr"]) == (0, 0.7)
    assert (correlated["model"]["hidden"], correlated["model"]["rates"]["output"], correlated["runs"]) == (4, 0.15, 6)
    assert all(p["predicted"] is None and p["lr"] == 0.5 for p in correlated["points"])
    both = {p["dim"] for p in independent["points"]} & {p["dim"] for p in correlated["points"]}
    assert {r["dim"] for r in result["ratios"]} == both
    assert set(correlated["controls"]) == {"no v"}
    assert (tmp_path / "a.png").stat().st_size > 20_000
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "medians, independent / correlated" in out
    assert "predicted" not in out
    assert f"{correlated['points'][0]['median']:.4g}" in out


def test_network_alone_gives_up_after_a_median_beyond_its_samples(capsys):
    """Without --corr one arm; its larger d are not run once half of the runs are censored, and said to be."""
    words = "--hidden 4 --dims 32,40,64 --samples 2e3 --runs 4 --threshold 0.8 --quiet --no-controls --json"
    assert main(words.split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ratios"] == []
    (arm,) = result["arms"].values()
    assert [(p["dim"], p["median"], p["censored"]) for p in arm["points"]] == [(32, None, 4)]
    assert "d = 40, 64 not run" in arm["warnings"][-1]
    assert arm["controls"] == {}


def test_network_threshold_that_starts_exceed_is_not_fitted(capsys):
    words = "--hidden 16 --dims 40,300 --samples 100 --runs 2 --threshold 0.3 --quiet --no-controls"
    assert main(words.split()) == 0
    out = capsys.readouterr().out
    assert "below what one random start in 1000 exceeds (0.58 at d = 40): not fitted" in out


def test_network_minibatches_and_sgd(capsys):
    """SGD in R^d answers below d = spikes + neurons + 1 too, and both batch sizes."""
    words = "--hidden 16 --dims 12,16 --samples 400 --runs 3 --batch 1,4 --engine highd --threshold 0.99 --keep-small --json"
    assert main([*words.split(), "--quiet"]) == 0
    (arm,) = json.loads(capsys.readouterr().out)["arms"].values()
    assert (arm["engine"], arm["points"][0]["budget"]) == ("highd", 400)


def test_ctrl_c_keeps_the_first_arm(monkeypatch, capsys):
    run = network_scaling.run_study

    def interrupted(arm, quiet, store):
        if arm.model.task.corr:
            raise KeyboardInterrupt
        return run(arm, quiet, store)

    monkeypatch.setattr(network_scaling, "run_study", interrupted)
    assert main([*NETWORK, "--json"]) == 0
    (arm,) = json.loads(capsys.readouterr().out)["arms"].values()
    assert arm["interrupted"]


@pytest.mark.parametrize(("words", "message"), [
    ("--engine sde", "chain, highd"), ("--engine ode", "chain, highd"), ("--lr-scaling critical", "constant with --hidden"),
    ("--kappa 1", "nothing with --hidden"), ("--budget 3", "nothing with --hidden"), ("--lr auto", "a number with --hidden"),
    ("--correction", "nothing with --hidden"), ("--samples 0", "samples"), ("--samples inf", "samples"),
    ("--hidden 0", "hidden"), ("--hidden 14", "take fewer neurons"), ("--threshold 1", "threshold"), ("--runs 1", "runs"),
    ("--target w", "target"), ("--lr -1", "rate first"), ("--lr-bias -1", "rate bias"), ("--samples 1e12", "hours of work"),
    ("--lr 1e4 --lr-output 1e4", "not finite after"), ("--corr 0.9", "corr"), ("--activation nothing", "activation"),
    ("--samples many", "samples"),
])  # fmt: skip
def test_bad_input_for_a_network_is_one_line_and_code_2(capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main([*NETWORK, *words.split()])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_options_of_networks_mean_nothing_to_a_neuron(capsys):
    for words in ("--lr-second 0.1", "--lr-output 0.1", "--samples 1e6"):
        with pytest.raises(SystemExit):
            main([*P3, "--dims", "1000,2000", *words.split()])
        assert "nothing with a single neuron" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "message"), [
    ("--engine magic", "engine"), ("--dims 1000", "two or more"), ("--dims 1000,1000", "different"), ("--dims 1e3,x", "dim"),
    ("--runs 1", "runs"), ("--lr-scaling cubic", "lr-scaling"), ("--plot /nowhere/x.png", "directory"),
    ("--threshold 1.5", "threshold"), ("--budget 0", "budget"), ("--batch 1,10", "take chain or highd"),
    ("--target w", "target"), ("--batch few", "batch"),
    ("--lr 0.3", "--kappa"), ("--lr-scaling constant --kappa 2", "--lr"), ("--lr-scaling log --lr -1", "lr"),
    ("--kappa 0", "kappa"), ("--seed -1", "seed"), ("--activation relu", "driven from a random start"),
])  # fmt: skip
def test_bad_input_is_one_line_and_code_2(capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main([*P3, "--dims", "1000,2000", *words.split()])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_unknown_engine_of_a_study():
    with pytest.raises(InputError, match="chain, sde, highd, ode"):
        study(engine="magic")


def test_work_of_weeks_is_refused_before_it_starts(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--task", "spiked-cumulant", "--dims", "300,1000", "--engine", "chain", "--quiet"])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "hours of work" in err
