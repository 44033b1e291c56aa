"use strict";
// The diffusion of the overlaps, drift and noise of online SGD in steps of many samples (solvers/_sde_kernels.py):
//   d(alpha) = [F - (lr/2) V alpha] d(tau) + sqrt(lr/d) D^(1/2) dB,   D = E[g^2 (xi - s alpha)(xi - s alpha)'] - F F'.
// Stochastic Heun steps no longer than `TOLERANCE` of the time on which drift or noise changes the overlaps.

const TOLERANCE = 0.1, SHELLS = 32, FAR = 30, SMALL_STEP = 1e-3;
const REST = 2000; // steps after the last escape: enough to settle, after which a run stays where it is
const MAX_RUN_STEPS = 2e5; // beyond, one spike relaxes so fast against the slowest escapes that following runs does not pay

// xoshiro128** (Blackman and Vigna), a stream for each (seed, run): run i is the same whatever runs beside it.
function makeRandom(seed, run) {
  let mixer = (Math.imul(seed >>> 0, 0x9e3779b1) ^ Math.imul((run + 1) >>> 0, 0x85ebca6b)) >>> 0;
  const state = new Uint32Array(4);
  for (let n = 0; n < 4; n++) { // splitmix32 fills the state
    mixer = (mixer + 0x9e3779b9) >>> 0;
    let z = mixer;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    state[n] = z ^ (z >>> 15);
  }
  const rotate = (x, n) => (x << n) | (x >>> (32 - n));
  function bits() {
    const out = Math.imul(rotate(Math.imul(state[1], 5), 7), 9) >>> 0, t = state[1] << 9;
    state[2] ^= state[0]; state[3] ^= state[1]; state[1] ^= state[2]; state[0] ^= state[3];
    state[2] ^= t; state[3] = rotate(state[3], 11);
    return out;
  }
  const uniform = () => ((bits() >>> 5) * 67108864 + (bits() >>> 6)) / 9007199254740992; // 53 bits, in [0, 1)
  let spare = null;
  function normal() { // Marsaglia's polar method gives two at a time
    if (spare !== null) { const x = spare; spare = null; return x; }
    for (;;) {
      const u = 2 * uniform() - 1, v = 2 * uniform() - 1, s = u * u + v * v;
      if (s >= 1 || s === 0) continue;
      const scale = Math.sqrt(-2 * Math.log(s) / s);
      spare = v * scale;
      return u * scale;
    }
  }
  function chiSquare(freedom) { // twice a gamma variable of shape freedom/2 >= 1 (Marsaglia and Tsang)
    const d = freedom / 2 - 1 / 3, c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = normal(), v = (1 + c * x) ** 3;
      if (v > 0 && Math.log(1 - uniform()) < x * x / 2 + d * (1 - v + Math.log(v))) return 2 * d * v;
    }
  }
  function inverseGaussian(mean, shape) { // Michael, Schucany and Haas
    const y = mean * normal() ** 2, x = mean + mean / (2 * shape) * (y - Math.sqrt(4 * shape * y + y * y));
    return uniform() <= mean / (mean + x) ? x : mean * mean / x;
  }
  return { uniform, normal, chiSquare, inverseGaussian };
}

// Overlaps of a uniform point of the sphere in R^dim with the present spikes.
function randomStart(random, dim, mask) {
  const z = mask.map((m) => (m ? random.normal() : 0)), rank = mask[0] + mask[1];
  const norm = Math.sqrt(z[0] ** 2 + z[1] ** 2 + random.chiSquare(dim - rank));
  return [z[0] / norm, z[1] / norm];
}

// Share of a step after which a Brownian bridge first gains `gap`, ending `gapEnd` below the level; -1: it does not.
function bridge(random, gap, gapEnd, variance) {
  if (gapEnd > 0 && (variance === 0 || random.uniform() >= Math.exp(-2 * gap * gapEnd / variance))) return -1;
  const beyond = Math.abs(gapEnd);
  if (variance < 1e-10 * gap * gap) return gap / (gap + beyond);
  const shape = gap * gap / variance;
  const odds = beyond < 1e-12 * gap ? shape / Math.max(random.normal() ** 2, 1e-300) : random.inverseGaussian(gap / beyond, shape);
  return odds / (1 + odds);
}

function firstShare(random, before, after, variance, threshold) {
  let first = -1;
  for (const sign of [1, -1]) {
    const gap = threshold - sign * before, gapEnd = threshold - sign * after;
    if (gapEnd > 0 && gap * gapEnd > FAR * variance) continue; // a crossing there has probability below exp(-2 FAR)
    const share = bridge(random, gap, gapEnd, variance);
    if (share >= 0 && (first < 0 || share < first)) first = share;
  }
  return first;
}

// Largest norm of the Jacobian of F on shells of the ball, evenly spaced in log |alpha| from d^-1/2 to 1.
function stiffnessShells(model, dim) {
  const radii = Array.from({ length: SHELLS + 1 }, (_, k) => dim ** (-0.5 * (1 - k / SHELLS)));
  const turns = model.present.length === 2 ? 16 : 2, offset = model.present[0] === 1 ? Math.PI / 2 : 0;
  const up = new Float64Array(3), down = new Float64Array(3);
  const largest = radii.map((radius) => {
    let top = 0;
    for (let n = 0; n < turns; n++) {
      const angle = offset + 2 * Math.PI * (n + (turns > 2 ? 0.37 : 0)) / turns, h = 1e-4 * radius;
      const a = radius * Math.cos(angle), b = radius * Math.sin(angle);
      let square = 0;
      for (const k of model.present) {
        const du = k === 0 ? h : 0, dv = k === 1 ? h : 0;
        model.map(a + du, b + dv, up); model.map(a - du, b - dv, down);
        for (const j of model.present) square += ((up[j] - down[j]) / (2 * h)) ** 2;
      }
      top = Math.max(top, Math.sqrt(square));
    }
    return top;
  });
  return Float64Array.from({ length: SHELLS }, (_, k) => Math.max(largest[k], largest[k + 1]));
}

// Lower triangle (uu, vu, vv) of D^(1/2) by Cholesky, from F, V and the second moments of a step. A pivot that rounding or a
// truncated series made negative is zero.
function noiseRoot([fu, fv, , muu, muv, mvv], mask, out) {
  out[0] = mask[0] ? Math.sqrt(Math.max(muu - fu * fu, 0)) : 0;
  out[1] = out[0] > 0 && mask[1] ? (muv - fu * fv) / out[0] : 0;
  out[2] = mask[1] ? Math.sqrt(Math.max(mvv - fv * fv - out[1] * out[1], 0)) : 0;
}

// The diffusion for one dimension and learning rate: a function that gives one trajectory.
function makeDiffusion(model, dim, lr) {
  const full = polynomialMap(model.tables.slice(1)), values = new Float64Array(6), ahead = new Float64Array(3), root = new Float64Array(3);
  const noise = Math.sqrt(lr / dim), floor = dim ** -0.5, stiffness = stiffnessShells(model, dim), logFloor = Math.log(floor);
  const [mu, mv] = model.mask;
  const stay = (x) => { const size = Math.hypot(x[0], x[1]); if (size > 1) { x[0] /= size; x[1] /= size; } };

  // record: times tau, sorted; overlaps[2 n + a] at record[n]. Returns the escapes in tau; null after too many steps.
  function run(random, start, end, threshold, record, overlaps) {
    const alpha = Float64Array.from(start), next = new Float64Array(2);
    const escapes = [0, 1].map((a) => (Math.abs(alpha[a]) >= threshold ? 0 : Infinity));
    let tau = 0, recorded = 0, steps = 0, rest = 0;
    for (;;) {
      while (recorded < record.length && record[recorded] <= tau) {
        overlaps[2 * recorded] = alpha[0]; overlaps[2 * recorded + 1] = alpha[1];
        recorded++;
      }
      if (tau >= end) return escapes;
      if (steps++ > MAX_RUN_STEPS) return null;
      if (model.present.every((a) => escapes[a] < Infinity) && rest++ > REST) { tau = end; continue; }
      full(alpha[0], alpha[1], values);
      const [fu, fv, V, muu, muv, mvv] = values;
      const size = Math.max(Math.hypot(alpha[0], alpha[1]), floor);
      const shell = Math.max(0, Math.min(Math.floor(SHELLS * (1 - Math.log(size) / logFloor)), SHELLS - 1));
      const rate = stiffness[shell] + 0.5 * lr * V + noise * noise * (mu * muu + mv * mvv) / (size * size);
      const limit = recorded < record.length ? record[recorded] : end;
      const finish = TOLERANCE / rate >= limit - tau, h = finish ? limit - tau : TOLERANCE / rate;
      noiseRoot(values, model.mask, root);
      const scale = noise * Math.sqrt(h), zu = mu ? random.normal() : 0, zv = mv ? random.normal() : 0;
      const ku = scale * root[0] * zu, kv = scale * (root[1] * zu + root[2] * zv);
      const su = mu * (fu - 0.5 * lr * V * alpha[0]), sv = mv * (fv - 0.5 * lr * V * alpha[1]);
      next[0] = alpha[0] + h * su + ku; next[1] = alpha[1] + h * sv + kv;
      stay(next);
      model.map(next[0], next[1], ahead);
      const tu = mu * (ahead[0] - 0.5 * lr * ahead[2] * next[0]), tv = mv * (ahead[1] - 0.5 * lr * ahead[2] * next[1]);
      next[0] = alpha[0] + 0.5 * h * (su + tu) + ku; next[1] = alpha[1] + 0.5 * h * (sv + tv) + kv;
      stay(next);
      for (let a = 0; a < 2; a++) {
        if (escapes[a] === Infinity && model.mask[a]) {
          const spread = noise * noise * h * Math.max(a ? mvv - fv * fv : muu - fu * fu, 0);
          const share = firstShare(random, alpha[a], next[a], spread, threshold);
          if (share >= 0) escapes[a] = tau + share * h;
        }
        alpha[a] = next[a];
      }
      tau = finish ? limit : tau + h;
    }
  }
  return run;
}

// Samples on which escape happens: the slowest of the flow; above order 2 also drift against noise, V d^(k-1)/A^2.
function naturalScale(result) {
  const { model, dim, lr, unit, flow } = result, form = firstForm(model);
  const slowest = Math.max(0, ...model.present.map((k) => flow.escapes[k] * unit).filter(Number.isFinite));
  if (form && form.degree >= 3)
    return Math.max(slowest, model.noiseAtZero * dim ** (form.degree - 1) / (form.degree * form.maximum) ** 2);
  return slowest || dim * Math.log(dim) ** 2 / lr;
}

// A cloud of runs that grows in slices of time: advance(milliseconds) until done. Times in samples, on a logarithmic grid.
function makeCloud(result, { runs, seed, points = 140 }) {
  const { model, dim, lr, unit, threshold } = result, end = 3 * naturalScale(result), run = makeDiffusion(model, dim, lr);
  const times = Array.from({ length: points }, (_, k) => end * 1e-4 ** (1 - k / (points - 1)));
  const record = times.map((t) => t / unit), last = record[points - 1], largestSmall = Math.sqrt(SMALL_STEP * dim / model.noiseAtZero);
  const cloud = { times, end, runs, overlaps: [], escapes: [], tooLong: false, largestSmall, smallSteps: lr <= largestSmall * (1 + 1e-9) };
  cloud.isDone = () => cloud.tooLong || cloud.escapes.length >= runs;
  cloud.advance = (milliseconds) => {
    const until = performance.now() + milliseconds;
    while (!cloud.isDone()) { // one run at least, however short the slice
      const random = makeRandom(seed, cloud.escapes.length), path = new Float64Array(2 * points);
      const escapes = run(random, randomStart(random, dim, model.mask), last, threshold, record, path);
      if (!escapes) { cloud.tooLong = true; break; }
      cloud.overlaps.push(path);
      cloud.escapes.push(escapes.map((x) => (x <= last ? x * unit : Infinity)));
      if (performance.now() > until) break;
    }
    return cloud.isDone();
  };
  return cloud;
}

// Distribution-free 95 % interval of the median from sorted numbers: order statistics n/2 ± 1.96 √n/2; an end may be 0 or Infinity.
function medianInterval(sorted) {
  const n = sorted.length, spread = 1.96 * Math.sqrt(n) / 2;
  return [sorted[Math.floor(n / 2 - spread) - 1] ?? 0, sorted[Math.ceil(n / 2 + spread)] ?? Infinity];
}

// Order statistic at share q of numbers that may be Infinity (censored): a linear interpolation, Infinity if it reaches there.
function quantile(sorted, q) {
  const at = q * (sorted.length - 1), low = Math.floor(at), high = Math.ceil(at);
  if (low === high || sorted[low] === sorted[high]) return sorted[low];
  return sorted[high] === Infinity ? Infinity : sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}
