"use strict";
// What the solver's `predict --init typical` says, for the two spikes u and v: learning rate, order of the falls, statuses.
// The rules are those of theory/exponents.py and solvers/prediction.py; a test holds the words to theirs.

const SPIKES = ["u", "v"], MAX_HALVINGS = 6, SERIES_TOLERANCE = 1e-3;
const END_TOLERANCE = 0.01; // of the drift where a flow rests: a fixed point is known to about as much
const CAUTION = 10; // what the series misses falls like a power, not geometrically: up to so many times the estimate

// Printf's %g, in which the solver writes its numbers.
function general(x, digits = 6) {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf";
  if (x === 0) return "0";
  const power = Number(x.toExponential(digits - 1).split("e")[1]);
  if (power < -4 || power >= digits) {
    const [mantissa, exponent] = x.toExponential(digits - 1).split("e");
    const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
    return `${short}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  }
  const fixed = x.toFixed(Math.max(0, digits - 1 - power));
  return fixed.includes(".") ? fixed.replace(/\.?0+$/, "") : fixed;
}

function lawOf(leap) {
  return { 1: "d", 2: "d log^2 d" }[leap] || `d^${Math.max(leap - 1, 1)}`;
}

// Numbers in place of symbols: the model of one situation {p, role, beta_u, beta_v, corr}.
function makeModel({ p, role, beta_u, beta_v, corr }) {
  const learner = LEARNERS[MODEL.cases.findIndex((c) => c.p === p && c.role === role)], latent = MODEL.latents[p];
  const both = beta_u > 0 && beta_v > 0;
  const C = moments(beta_u, beta_v, both ? corr : 0, latent.kappa);
  const tablesFor = (c) => learner.polynomials.map((poly) => [poly.exponents, poly.coefficients(C, c)]);
  const tables = tablesFor(learner.c);
  const [phi, fu, fv, variance] = tables;
  const present = [0, 1].filter((a) => [beta_u, beta_v][a] > 0);
  const constant = variance[0].findIndex(([i, j]) => i + j === 0);
  const model = {
    p, role, beta_u, beta_v, corr: both ? corr : 0, learner, latent, C, tables, present,
    mask: [0, 1].map((a) => (present.includes(a) ? 1 : 0)),
    map: polynomialMap([fu, fv, variance]),
    noiseAtZero: variance[1][constant],
    terms: phi[0].map((index, n) => [index, phi[1][n]]).filter(([index, c]) => index[0] + index[1] && Math.abs(c) > MODEL.visible),
  };
  // The series without its last one and two terms: how far it is from being converged. A complete one has no such error.
  if (!learner.complete)
    model.shorter = [1, 2].map((n) => {
      const gone = learner.seen.slice(-n).map((k) => [`c_${k}`, 0]);
      return polynomialMap(tablesFor({ ...learner.c, ...Object.fromEntries(gone) }).slice(1, 4));
    });
  return model;
}

// --- Which spike is driven, and at which order (theory/exponents.py) ---

function degreeOf(model, k, learnt, unlearnt) {
  const present = new Set([...learnt, ...unlearnt]);
  const degrees = model.terms
    .filter(([index]) => index[k] && [0, 1].every((j) => !index[j] || present.has(j)))
    .map(([index]) => unlearnt.reduce((sum, j) => sum + index[j], 0));
  return degrees.length ? Math.min(...degrees) : null;
}

function lowestDegree(model, learnt, unlearnt) {
  const degrees = unlearnt.map((k) => degreeOf(model, k, learnt, unlearnt)).filter((d) => d !== null);
  return degrees.length ? Math.min(...degrees) : null;
}

// Top eigenvalue and unit vector of a symmetric matrix [[a, b], [b, d]].
function topOf(a, b, d) {
  const [top, low] = eigenvalues([[a, b], [b, d]]);
  if (top - low <= 1e-9 * Math.max(1, Math.abs(top))) return [top, [Math.SQRT1_2, Math.SQRT1_2]];
  const v = Math.abs(a - top) > Math.abs(d - top) ? [-b, a - top] : [d - top, -b];
  const norm = Math.hypot(...v);
  return [top, [v[0] / norm, v[1] / norm]];
}

// Maximum of the form of one degree in the given spikes on the unit sphere; above degree 2 only one spike can be left.
function formMaximum(model, degree, members) {
  const inside = model.terms.filter(([index]) => index[0] + index[1] === degree && [0, 1].every((j) => !index[j] || members.includes(j)));
  const of = (i, j) => inside.filter(([index]) => index[0] === i && index[1] === j).reduce((sum, [, c]) => sum + c, 0);
  const support = [0, 1].filter((k) => inside.some(([index]) => index[k]));
  if (degree === 2) {
    if (support.length === 1) return { support, maximum: support[0] ? of(0, 2) : of(2, 0) };
    return { support, maximum: topOf(of(2, 0), of(1, 1) / 2, of(0, 2))[0] };
  }
  const A = support[0] ? of(0, degree) : of(degree, 0);
  return { support, maximum: degree % 2 ? Math.abs(A) : A, sign: Math.sign(A) };
}

// The form that drives first from a random start; null if nothing does.
function firstForm(model) {
  let remaining = [...model.present];
  while (remaining.length) {
    const degree = lowestDegree(model, [], remaining);
    if (degree === null) return null;
    const form = formMaximum(model, degree, remaining);
    if (form.maximum > MODEL.visible) return { degree, maximum: form.maximum };
    remaining = remaining.filter((k) => !form.support.includes(k));
  }
  return null;
}

function criticalRate(model, dim) {
  const form = firstForm(model);
  return form && 2 * form.degree * form.maximum * dim ** (-(form.degree - 2) / 2) / model.noiseAtZero;
}

// |alpha_k| = d^-1/2 on every spike, with the signs that maximise Phi.
function bestSigns(model, dim) {
  const size = dim ** -0.5, odd = model.terms.filter(([[i, j]]) => i % 2 || j % 2);
  let best = null;
  for (const [su, sv] of [[1, 1], [1, -1], [-1, 1], [-1, -1]]) {
    if ((su < 0 && !model.mask[0]) || (sv < 0 && !model.mask[1])) continue;
    const value = odd.reduce((sum, [[i, j], c]) => sum + c * size ** (i + j) * su ** i * sv ** j, 0);
    if (!best || value > best.value + 1e-9 * Math.abs(best.value)) best = { value, start: [su * size * model.mask[0], sv * size * model.mask[1]] };
  }
  return best.start;
}

function settle(model, lr, start, mask = model.mask) {
  return follow(model.map, lr, start, { mask, rtol: 1e-7, dense: false }).end;
}

// Half the critical rate, halved while a smaller rate lets more spikes reach the threshold; 0.1/V(0) if nothing is driven.
// An escape counts where the series holds: beyond, smaller rates would seem to recover what they never do.
function automaticRate(model, dim, threshold) {
  const critical = criticalRate(model, dim);
  if (critical === null) return 0.1 / model.noiseAtZero;
  const start = bestSigns(model, dim);
  const recovered = (rate) => {
    const flow = follow(model.map, rate, start, { mask: model.mask, threshold, rtol: 1e-7 });
    return model.present.filter((k) => Math.abs(flow.end[k]) >= threshold && holds(model, flow, k)).length;
  };
  let rate = critical / 2, now = recovered(rate);
  if (now === model.present.length) return rate;
  const attainable = recovered(rate / 2 ** MAX_HALVINGS);
  for (let n = 0; n < MAX_HALVINGS && now < attainable; n++) { rate /= 2; now = recovered(rate); }
  return rate;
}

// --- The staircase ---

function drivingDirections(model, lr, branch, degree, remaining) {
  const rate = makeRate(model.map, lr), names = branch.learnt.map((k) => SPIKES[k]).join(", "), learnt = branch.learnt.length > 0;
  const unit = (u, v) => [u, v];
  if (degree === 1) {
    const drive = new Float64Array(2);
    rate(branch.alpha[0], branch.alpha[1], drive);
    const e = [0, 1].map((k) => (remaining.includes(k) ? drive[k] : 0)), norm = Math.hypot(...e);
    return [[unit(e[0] / norm, e[1] / norm)], null];
  }
  if (degree === 2) {
    const J = jacobian(rate, branch.alpha);
    let top, e;
    if (remaining.length === 2) [top, e] = topOf(J[0][0], (J[0][1] + J[1][0]) / 2, J[1][1]);
    else { const k = remaining[0]; top = J[k][k]; e = [1 - k, k]; }
    if (top > 0) {
      e = e.map((x) => (Math.abs(x) > 1e-7 ? x : 0));
      const largest = Math.abs(e[0]) >= Math.abs(e[1]) ? 0 : 1, norm = Math.sign(e[largest]) * Math.hypot(...e);
      return [[unit(e[0] / norm, e[1] / norm), unit(-e[0] / norm, -e[1] / norm)], null];
    }
    if (learnt) return [[], ["repelled", `repelled once ${names} is learnt: growth rate ${general(top, 3)} < 0 (in δ/d)`]];
  }
  if (learnt) return [[], ["repelled", `repelled once ${names} is learnt: an order-${degree} drive cannot beat a linear force`]];
  const form = formMaximum(model, degree, remaining);
  if (form.maximum <= MODEL.visible)
    return [[], ["wrong_sign", `its order-${degree} term has the repulsive sign: no number of samples helps`]];
  if (degree === 2) return [[], MODEL.fallsBack.false];
  const k = form.support[0], along = (s) => (k ? [0, s] : [s, 0]);
  return [degree % 2 ? [along(form.sign)] : [along(1), along(-1)], null];
}

function waitsFor(model, k, learnt, remaining) {
  const degree = degreeOf(model, k, learnt, remaining);
  return [0, 1].filter((j) => j !== k && (learnt.includes(j) || remaining.includes(j))).filter((j) => {
    const without = degreeOf(model, k, learnt.filter((x) => x !== j), remaining.filter((x) => x !== j));
    return without === null || degree === null || without > degree;
  });
}

function makeBranch(alpha, probability, falls, refused = {}) {
  const clean = alpha.map((x) => (Math.abs(x) > 1e-5 ? x : 0));
  return { alpha: clean, probability, falls, refused, learnt: [0, 1].filter((k) => clean[k] !== 0) };
}

function fall(model, lr, size, branch, degree, remaining, e) {
  const stage = 1 + Math.max(0, ...branch.falls.map((f) => f.stage));
  const leap = Math.max(degree, ...branch.falls.map((f) => f.leap));
  const fallen = remaining.filter((k) => Math.abs(e[k]) > 1e-7);
  const falls = fallen.map((k) => ({ spike: k, degree, stage, leap, waits: waitsFor(model, k, branch.learnt, remaining) }));
  const mask = [0, 1].map((k) => (branch.learnt.includes(k) || fallen.includes(k) ? 1 : 0)), s = Math.min(size, 0.9);
  const start = [0, 1].map((k) => branch.alpha[k] * Math.sqrt(1 - s * s) + s * e[k]);
  return makeBranch(settle(model, lr, start, mask), branch.probability, [...branch.falls, ...falls]);
}

function walk(model, lr, size, branch) {
  let remaining = model.present.filter((k) => !branch.learnt.includes(k));
  const refused = {};
  for (let degree; remaining.length && (degree = lowestDegree(model, branch.learnt, remaining)); ) {
    const members = remaining.filter((k) => degreeOf(model, k, branch.learnt, remaining) === degree);
    let [directions, refusal] = drivingDirections(model, lr, branch, degree, remaining);
    if (directions.length) {
      const children = directions.map((e) => fall(model, lr, size, branch, degree, remaining, e))
        .filter((c) => c.learnt.length && [0, 1].some((k) => Math.abs(c.alpha[k] - branch.alpha[k]) > 1e-8 + 1e-5 * Math.abs(branch.alpha[k])));
      if (children.length)
        return children.flatMap((c) => walk(model, lr, size, { ...c, probability: branch.probability / children.length }));
      refusal = MODEL.fallsBack[degree >= 3]; // its own drive does not carry it: it falls back, and noise takes it elsewhere
    }
    for (const k of members) refused[k] = [...refusal, degree];
    remaining = remaining.filter((k) => !members.includes(k));
  }
  for (const k of remaining) refused[k] = ["blind", "no term of the population loss contains it (all its coefficients vanish)", 0];
  return [{ ...branch, refused }];
}

function verdict(model, branches, k) {
  const visible = degreeOf(model, k, [], model.present);
  const fallen = branches.flatMap((b) => b.falls.filter((f) => f.spike === k).map((f) => [b, f]));
  if (fallen.length) {
    const [branch, f] = fallen.reduce((x, y) => (y[0].probability > x[0].probability || (y[0].probability === x[0].probability && y[0].alpha[k] > x[0].alpha[k]) ? y : x));
    const share = Math.min(1, fallen.reduce((sum, [b]) => sum + b.probability, 0));
    let words = `driven at order ${f.degree}` + (f.waits.length ? `, needs ${f.waits.map((j) => SPIKES[j]).join(", ")}` : "");
    if (f.degree >= 3 && f.degree % 2) words += "; starts on the wrong side fall back in the ODE, noise brings them later";
    if (share <= 0.99) words += `; in ${Math.round(100 * share)}% of the random starts`;
    return { spike: k, exponent: f.degree, fall: f, cause: "driven", reason: words, fixedPoint: branch.alpha[k] };
  }
  const branch = branches.reduce((x, y) => (y.probability > x.probability ? y : x));
  let [cause, reason, degree] = branch.refused[k] || ["repelled", "pushed back to zero by the spikes that fall", 0];
  const orders = MODEL.moments.filter((index, n) => index[k] && Math.abs(model.C[n] / 2) > MODEL.visible).map(([i, j]) => i + j);
  const shown = orders.length ? Math.min(...orders) : null;
  if (shown !== null && (visible === null || (visible > shown && cause === "wrong_sign"))) {
    cause = "blind";
    const seen = visible === null ? "" : `; the next order it sees, ${visible}, has the repulsive sign`;
    const needed = [...new Set([2, shown])].map((n) => `${n}=1`).join(",");
    reason = `the activation is blind to order ${shown} (c_${shown} = 0)${seen}; hermite:${needed} would see it`;
  }
  return { spike: k, exponent: degree || visible, fall: null, cause, reason, fixedPoint: 0 };
}

// Status and reason of one spike: what the staircase says, confronted with the flow from this start (solvers/prediction.py).
function direction(said, flow, unit, threshold) {
  const k = said.spike, escape = flow.escapes[k] * unit, end = flow.end[k];
  let status = said.cause, reason = said.reason;
  if (Number.isFinite(escape)) {
    status = "recovered";
    if (said.cause !== "driven") reason = `from zero: ${reason}; but this start lies beyond the barrier`;
    if (Math.abs(end) < threshold) reason += `; only in passing: the flow ends at ${end.toFixed(3)}`;
  } else if (said.cause === "driven" && Math.abs(end) > 1e-5 && Math.abs(end) < threshold) {
    status = "below_threshold";
    reason = `${reason}, but settles at ${end.toFixed(3)}, below the threshold ${general(threshold)}`;
  } else if (said.cause === "driven") {
    if (!flow.duration) [status, reason] = ["wrong_sign", `${reason}, but this start rests at a fixed point of the flow that noise would leave`];
    else if (Math.abs(said.fixedPoint) < threshold)
      [status, reason] = ["below_threshold", `${reason}, but its fixed point ${said.fixedPoint.toFixed(3)} is below the threshold`];
    else [status, reason] = ["wrong_sign", `${reason}, but this start lies on the side that is pushed back`];
  }
  let law = said.fall && lawOf(said.fall.leap);
  if (!law && ["noise_activated", "recovered"].includes(status) && said.exponent) law = lawOf(said.exponent);
  return { spike: SPIKES[k], index: k, exponent: said.exponent, status, reason, law, escape, end };
}

// Whether the series holds where the fate of spike k is decided: up to its escape, or else to where the flow rests.
function holds(model, flow, k) {
  const seen = Number.isFinite(flow.escapes[k]);
  return gapUntil(model, flow, flow.escapes[k]) < (seen ? SERIES_TOLERANCE : END_TOLERANCE);
}

// The time tau up to which the drift is known to END_TOLERANCE of its largest size so far; Infinity: all the way.
function limitOf(model, flow) {
  if (!model.shorter) return Infinity;
  let largest = 0;
  for (const step of flow.steps) {
    const { drift, missing } = truncation(model, step.u, step.v);
    largest = Math.max(largest, drift);
    if (missing > END_TOLERANCE * largest) return step.tau;
  }
  return Infinity;
}

// The series' gap on a flow's path up to the time tau, or to its end for Infinity.
function gapUntil(model, flow, tau) {
  const path = flow.steps.filter((step) => step.tau <= tau).map((step) => [step.u, step.v]);
  if (tau !== Infinity) return seriesGap(model, path);
  return flow.left ? Infinity : seriesGap(model, [...path, flow.end]);
}

// About the relative error of the truncated drift on a path [[u, v], ...], at 8 points evenly spaced along it.
function seriesGap(model, path) {
  if (!model.shorter) return 0;
  const lengths = path.map((p, n) => (n ? Math.hypot(p[0] - path[n - 1][0], p[1] - path[n - 1][1]) : 0));
  const total = lengths.reduce((sum, x) => sum + x, 0);
  let gap = 0, largest = 0, next = 0, length = 0;
  path.forEach((p, n) => {
    length += lengths[n];
    if (length < next * total / 7 - 1e-15) return;
    next++;
    const { drift, missing } = truncation(model, p[0], p[1]);
    gap = Math.max(gap, missing);
    largest = Math.max(largest, drift);
  });
  return gap / Math.max(largest, 1e-300);
}

// Size of the drift's series at one point, and of what it is estimated to miss: its terms fall like a geometric series,
// of one sign or alternating.
function truncation(model, a, b) {
  const full = new Float64Array(3), one = new Float64Array(3), two = new Float64Array(3);
  model.map(a, b, full);
  const drift = Math.max(Math.abs(full[0]), Math.abs(full[1]));
  if (!model.shorter) return { drift, missing: 0 };
  model.shorter[0](a, b, one); model.shorter[1](a, b, two);
  const last = [full[0] - one[0], full[1] - one[1]], before = [one[0] - two[0], one[1] - two[1]];
  const size = Math.max(Math.abs(last[0]), Math.abs(last[1])), ratio = Math.min(size / Math.max(Math.abs(before[0]), Math.abs(before[1]), 1e-300), 0.95);
  const alternating = last[0] * before[0] + last[1] * before[1] < 0;
  return { drift, missing: size * ratio / (alternating ? 1 + ratio : 1 - ratio) };
}

// v alone, at its own automatic rate: what the correlated case is compared with. Escape in samples; law null: never.
function aloneAt(solo, dim, threshold, options = {}) {
  const form = firstForm(solo);
  if (!form) return { law: null, lr: 0.1 / solo.noiseAtZero, escape: Infinity };
  const lr = automaticRate(solo, dim, threshold);
  const flow = follow(solo.map, lr, bestSigns(solo, dim), { mask: solo.mask, threshold, ...options });
  return { law: lawOf(form.degree), lr, escape: flow.escapes[1] * dim / lr, flow, unit: dim / lr };
}

// Everything the page shows of one situation. lr null: automatic.
function predict({ p, role, beta_u, beta_v, corr, dim, lr, threshold }) {
  const model = makeModel({ p, role, beta_u, beta_v, corr });
  const rate = lr === null ? automaticRate(model, dim, threshold) : lr, critical = criticalRate(model, dim);
  const start = bestSigns(model, dim), unit = dim / rate;
  const flow = follow(model.map, rate, start, { mask: model.mask, threshold });
  const branches = walk(model, rate, dim ** -0.5, makeBranch([0, 0], 1, []));
  const gap = gapUntil(model, flow, Infinity);
  const directions = model.present.map((k) => {
    const said = direction(verdict(model, branches, k), flow, unit, threshold);
    return holds(model, flow, k) ? { ...said, end: gap < END_TOLERANCE ? said.end : NaN } : { ...said, ...UNKNOWN };
  });
  const whole = gap < END_TOLERANCE && directions.every((d) => d.status !== UNKNOWN.status);
  const solo = beta_v > 0 ? makeModel({ p, role, beta_u: 0, beta_v, corr: 0 }) : null;
  const alone = solo && aloneAt(solo, dim, threshold);
  const result = { model, solo, dim, lr: rate, critical, threshold, start, unit, flow, directions, gap, alone, whole,
    limit: whole ? Infinity : limitOf(model, flow), converged: gap < SERIES_TOLERANCE };
  return { ...result, warnings: warningsOf(result) };
}

// What the page says of a spike whose fate its series cannot tell.
const UNKNOWN = { status: "unknown", reason: "the series is not converged where this is decided; python -m solvers.predict integrates instead", law: null, escape: NaN, end: NaN };

function warningsOf({ model, dim, threshold, lr, critical, flow, gap, whole, converged }) {
  const lines = [];
  if (!whole) lines.push("the series is not converged along the flow: curves end where it does; python -m solvers.predict uses quadrature here");
  else if (!converged)
    lines.push(`near its end the flow has a drift that is known to ${general(100 * Math.min(1, CAUTION * gap), 1)} %: the series is not converged there; what is said above holds`);
  if (!flow.settled && !flow.left) lines.push("the flow has not settled within the page's steps");
  if (threshold < 5 / Math.sqrt(dim))
    lines.push(`threshold ${general(threshold)} is below 5/sqrt(d) = ${general(5 / Math.sqrt(dim), 3)}: noise alone crosses it in simulations`);
  if (critical !== null && lr > critical)
    lines.push(`lr ${general(lr, 4)} is above the critical ${general(critical, 4)}: the ODE says never (order >= 3: noise may); lr auto would be ${general(automaticRate(model, dim, threshold), 4)}`);
  if (critical === null) lines.push("no spike is driven from a random start: lr auto is only a scale (0.1/V)");
  return lines;
}

// Task and learner in one line, as the solver describes them.
function describe({ p, beta_u, beta_v, corr }, model) {
  const betas = [beta_u > 0 && `β_u = ${general(beta_u)}`, beta_v > 0 && `β_v = ${general(beta_v)}`].filter(Boolean).join(", ");
  const latent = `; latent ${model.latent.name} of order p = ${p}, E[He_${p}(ν)] = ${general(model.latent.hermiteMoment, 4)}`;
  const coupling = beta_u > 0 && beta_v > 0 ? `; coupling copula, corr E[λν] = ${general(corr)}` : "";
  const name = beta_u > 0 ? "mixed-cumulant" : "spiked-cumulant";
  return `${name}: ${betas}${beta_v > 0 ? latent : ""}${coupling}; activation ${model.learner.name}, correlation loss`;
}
