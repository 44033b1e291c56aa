"use strict";
// Polynomials in the two overlaps, and the population flow by Dormand-Prince 5(4) with dense output and threshold events.
// Clock: tau = lr t/d, t in samples. Overlaps are a pair (alpha_u, alpha_v); an absent spike stays at 0.

const RTOL = 1e-9, ATOL = 1e-12; // the solver's ODE has 1e-8, 1e-12
const GROWTH = 4; // a part ends where |alpha| has grown by this factor: a blow-up at t = 10^40 needs a clock that starts again
const LEFT = 1.02; // the size of overlaps that only an inaccurate series reaches
const MAX_PARTS = 200, MAX_STEPS = 20000, RESOLUTION = 1e-100;

// Several polynomials on shared monomials: table[k] = [exponents [[i, j], ...], coefficients]. Returns evaluate(a, b, out).
function polynomialMap(tables) {
  const seen = new Map();
  for (const [exponents, coefficients] of tables)
    exponents.forEach(([i, j], n) => { if (coefficients[n] !== 0 && !seen.has(i * 64 + j)) seen.set(i * 64 + j, seen.size); });
  const keys = [...seen.keys()];
  const us = Uint8Array.from(keys, (k) => k >> 6), vs = Uint8Array.from(keys, (k) => k & 63);
  const sparse = tables.map(([exponents, coefficients]) => {
    const kept = exponents.map((e, n) => [seen.get(e[0] * 64 + e[1]), coefficients[n]]).filter(([, c]) => c !== 0);
    return { at: Uint16Array.from(kept, (k) => k[0]), c: Float64Array.from(kept, (k) => k[1]) };
  });
  const pu = new Float64Array(64), pv = new Float64Array(64), monomials = new Float64Array(keys.length);
  const top = Math.max(0, ...us, ...vs);
  pu[0] = pv[0] = 1;
  return (a, b, out) => {
    for (let k = 1; k <= top; k++) { pu[k] = pu[k - 1] * a; pv[k] = pv[k - 1] * b; }
    for (let m = 0; m < monomials.length; m++) monomials[m] = pu[us[m]] * pv[vs[m]];
    for (let q = 0; q < sparse.length; q++) {
      const { at, c } = sparse[q];
      let total = 0;
      for (let n = 0; n < c.length; n++) total += c[n] * monomials[at[n]];
      out[q] = total;
    }
  };
}

// d(alpha)/d(tau) = F - (lr/2) V alpha, from a map (F_u, F_v, V); components with mask 0 are held.
function makeRate(map, lr, mask = [1, 1]) {
  const values = new Float64Array(3);
  return (a, b, out) => {
    map(a, b, values);
    out[0] = mask[0] * (values[0] - 0.5 * lr * values[2] * a);
    out[1] = mask[1] * (values[1] - 0.5 * lr * values[2] * b);
  };
}

// One Runge-Kutta step of length h from y; k is 7 stages of 2, k[0] already the rate at y. Returns the scaled error.
function dormandPrince(rate, y, h, k, next, rtol) {
  const { A, B, E } = TABLEAU;
  const at = dormandPrince.at;
  for (let s = 1; s < 6; s++) {
    at[0] = y[0]; at[1] = y[1];
    for (let m = 0; m < s; m++) { const w = h * A[s][m]; at[0] += w * k[m][0]; at[1] += w * k[m][1]; }
    rate(at[0], at[1], k[s]);
  }
  next[0] = y[0]; next[1] = y[1];
  for (let m = 0; m < 6; m++) { next[0] += h * B[m] * k[m][0]; next[1] += h * B[m] * k[m][1]; }
  rate(next[0], next[1], k[6]);
  let norm = 0;
  for (let a = 0; a < 2; a++) {
    let error = 0;
    for (let m = 0; m < 7; m++) error += E[m] * k[m][a];
    norm += (h * error / (ATOL + rtol * Math.max(Math.abs(y[a]), Math.abs(next[a])))) ** 2;
  }
  return Math.sqrt(norm / 2);
}
dormandPrince.at = new Float64Array(2);
const stages = () => Array.from({ length: 7 }, () => new Float64Array(2));

// An accepted step: begins at tau, lasts h, from y; q (2 x 4) are the coefficients of its quartic interpolant.
function interpolant(tau, h, y, k) {
  const q = new Float64Array(8);
  for (let a = 0; a < 2; a++)
    for (let n = 0; n < 4; n++) {
      let total = 0;
      for (let m = 0; m < 7; m++) total += k[m][a] * TABLEAU.P[m][n];
      q[4 * a + n] = h * total;
    }
  return { tau, h, u: y[0], v: y[1], q };
}
function interpolate(step, share, a) {
  const q = step.q, n = 4 * a;
  return (a ? step.v : step.u) + share * (q[n] + share * (q[n + 1] + share * (q[n + 2] + share * q[n + 3])));
}

// Time within a step at which |alpha_a| reaches the threshold, by bisection on the interpolant.
function crossing(step, a, threshold) {
  let low = 0, high = 1;
  for (let n = 0; n < 50; n++) {
    const middle = (low + high) / 2;
    if (Math.abs(interpolate(step, middle, a)) < threshold) low = middle; else high = middle;
  }
  return high * step.h;
}

function jacobian(rate, y) {
  const up = new Float64Array(2), down = new Float64Array(2), h = 1e-5;
  const column = (a) => {
    rate(y[0] + (a ? 0 : h), y[1] + (a ? h : 0), up);
    rate(y[0] - (a ? 0 : h), y[1] - (a ? h : 0), down);
    return [(up[0] - down[0]) / (2 * h), (up[1] - down[1]) / (2 * h)];
  };
  const u = column(0), v = column(1);
  return [[u[0], v[0]], [u[1], v[1]]];
}

// Real parts of the eigenvalues of a 2 x 2 matrix, the larger first.
function eigenvalues([[a, b], [c, d]]) {
  const half = (a + d) / 2, gap = ((a - d) / 2) ** 2 + b * c, root = gap > 0 ? Math.sqrt(gap) : 0;
  return [half + root, half - root];
}

// Newton's method for a zero of the rate near y, among the components with mask 1; null if it leaves the neighbourhood.
function polish(rate, y, mask, reach = 1e-2) {
  const p = [y[0], y[1]], r = new Float64Array(2);
  for (let n = 0; n < 20; n++) {
    const J = jacobian(rate, p);
    for (let a = 0; a < 2; a++) if (!mask[a]) { J[a] = [0, 0]; J[0][a] = 0; J[1][a] = 0; J[a][a] = 1; }
    rate(p[0], p[1], r);
    const det = J[0][0] * J[1][1] - J[0][1] * J[1][0];
    const du = (r[1] * J[0][1] - r[0] * J[1][1]) / det, dv = (r[0] * J[1][0] - r[1] * J[0][0]) / det;
    p[0] += mask[0] * du; p[1] += mask[1] * dv;
    if (!(Math.hypot(p[0] - y[0], p[1] - y[1]) < reach)) return null;
    if (Math.hypot(du, dv) < 1e-13) return p;
  }
  return null;
}

// The flow from `start` until it rests at a point that is not unstable, or until every spike of `until` has escaped.
// Returns steps (dense output, if asked for), escapes in tau (Infinity: never), end, settled, left (the unit ball).
function follow(map, lr, start, { mask = [1, 1], threshold = 2, until = null, rtol = RTOL, dense = true } = {}) {
  const rate = makeRate(map, lr, mask), k = stages(), steps = [];
  let y = new Float64Array(start), next = new Float64Array(2), begin = 0, horizon = 0, h = 0, taken = 0;
  const escapes = [0, 1].map((a) => (Math.abs(y[a]) >= threshold ? 0 : Infinity));
  const waiting = () => !until || until.some((a) => escapes[a] === Infinity);
  const result = (settled, left = false) => ({ steps, escapes, end: [y[0], y[1]], settled, left, duration: begin, rate });
  for (let part = 0; part < MAX_PARTS && waiting(); part++) {
    rate(y[0], y[1], k[0]);
    const speed = Math.hypot(k[0][0], k[0][1]), size = Math.hypot(y[0], y[1]);
    if (!horizon && speed < RESOLUTION) return result(true);
    if (!horizon) { horizon = 10 * Math.max(size, 1e-300) / speed; h = Math.min(h || Infinity, horizon / 1000); }
    const from = [y[0], y[1]], limit = Math.min(GROWTH * size, 2);
    let clock = 0, grown = false;
    while (clock < horizon && !grown && waiting()) {
      if (++taken > MAX_STEPS) return result(false);
      const last = h >= horizon - clock, length = last ? horizon - clock : h;
      const error = dormandPrince(rate, y, length, k, next, rtol);
      const factor = error > 0 ? 0.9 * error ** -0.2 : 10;
      if (!(error <= 1)) { h = length * Math.max(0.2, factor || 0.2); rate(y[0], y[1], k[0]); continue; }
      const step = dense || threshold < 1 ? interpolant(begin + clock, length, y, k) : null;
      if (dense) steps.push(step);
      for (let a = 0; a < 2; a++)
        if (escapes[a] === Infinity && Math.abs(next[a]) >= threshold)
          escapes[a] = begin + clock + crossing(step, a, threshold);
      [y, next] = [next, y];
      clock = last ? horizon : clock + length;
      if (!last || factor < 1) h = length * Math.min(10, Math.max(0.2, factor));
      k[0][0] = k[6][0]; k[0][1] = k[6][1];
      const reached = Math.hypot(y[0], y[1]);
      if (reached > LEFT) { begin += clock; return result(false, true); }
      grown = reached >= limit;
    }
    begin += clock;
    const change = Math.max(Math.abs(y[0] - from[0]), Math.abs(y[1] - from[1]));
    if (!grown && change < 1e-4) {
      // So near a stable fixed point Newton finds it; only a threshold that lies between must still be crossed in time.
      const p = polish(rate, y, mask);
      const between = p && [0, 1].some((a) => escapes[a] === Infinity && Math.abs(p[a]) >= threshold);
      if (p && !between && eigenvalues(jacobian(rate, p))[0] < 1e-6) { y = new Float64Array(p); return result(true); }
    }
    horizon = grown ? 0 : 2 * horizon;
  }
  return result(false);
}

// alpha at increasing times tau, from the dense output of `follow`; beyond the end the fixed point.
function overlapsAt(flow, taus) {
  let n = 0;
  return taus.map((tau) => {
    while (n < flow.steps.length && tau > flow.steps[n].tau + flow.steps[n].h) n++;
    if (n === flow.steps.length) return flow.end;
    const share = Math.max(0, (tau - flow.steps[n].tau) / flow.steps[n].h);
    return [interpolate(flow.steps[n], share, 0), interpolate(flow.steps[n], share, 1)];
  });
}
