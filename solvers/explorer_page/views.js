"use strict";
// The four pictures. Each takes a canvas and what is known of the situation, and draws; none computes theory of its own.

const NAMES = { overlaps: "Overlaps", flow: "Flow", threshold: "Threshold", cloud: "Noise", all: "All four" };
const kind = (k, colours) => ({ colour: k ? colours.v : colours.u, dash: k ? "solid" : "dashed" });
const thresholdEntry = (colours, threshold) => ({ text: `threshold ${general(threshold)}`, colour: colours.faint, dash: "fine" });
const magnitude = (k) => `|α${k ? "ᵥ" : "ᵤ"}|`;

// --- 1: overlaps against samples ---

function drawOverlaps(canvas, { result, share }) {
  const colours = palette(share), { ctx, w, h } = openCanvas(canvas, colours), { flow, unit, directions, alone, model } = result;
  const times = directions.map((d) => d.escape).filter((t) => Number.isFinite(t) && t > 0), withAlone = alone && model.mask[0] && Number.isFinite(alone.escape);
  const every = withAlone ? [...times, alone.escape] : times, duration = Math.max(flow.duration * unit, 10);
  const last = every.length ? 2.5 * Math.max(...every) : duration, first = Math.max(1, Math.min(last / 1e4, ...every.map((t) => t / 30)));
  const entries = directions.map((d) => ({ ...kind(d.index, colours), text: `${magnitude(d.index)}  ${Number.isFinite(d.escape) ? `${human(d.escape)} samples` : d.status}` }));
  if (withAlone) entries.push({ text: `v alone  ${human(alone.escape)} samples`, colour: colours.alone, dash: "dotted" });
  entries.push(thresholdEntry(colours, result.threshold));
  const above = legend(ctx, colours, 3.4 * colours.size, 0, w - 3.4 * colours.size, entries, 16), below = h - above;
  const boxes = w > 1.25 * below
    ? [{ x: 0, y: above, w: w / 2, h: below }, { x: w / 2, y: above, w: w / 2, h: below }]
    : [{ x: 0, y: above, w, h: below / 2 }, { x: 0, y: above + below / 2, w, h: below / 2 }];
  const near = times.length ? 2.5 * Math.max(...times) : last;
  [true, false].forEach((log, n) => {
    const x = log ? { min: first, max: last, log, label: "samples t (log scale)" } : { min: 0, max: near, label: "samples t" };
    const axes = makeAxes(ctx, colours, boxes[n], x, { min: 0, max: 1.02, label: "overlap |α|" });
    horizontal(axes, result.threshold);
    const grid = Array.from({ length: 400 }, (_, i) => (log ? first * (last / first) ** (i / 399) : near * i / 399));
    if (withAlone) {
      const path = overlapsAt(alone.flow, grid.map((t) => t / alone.unit));
      curve(axes, grid, path.map((p) => Math.abs(p[1])), colours.alone, { dash: "dotted", width: 3 });
    }
    const path = overlapsAt(flow, grid.map((t) => t / unit)).map((p, n) => (grid[n] / unit > result.limit ? [NaN, NaN] : p));
    for (const k of model.present) {
      const { colour, dash } = kind(k, colours);
      curve(axes, grid, path.map((p) => Math.abs(p[k])), colour, { dash, width: 3.5 });
    }
    const marks = [...directions.map((d) => [d.escape, kind(d.index, colours).colour, d.index ? "circle" : "square"])];
    if (withAlone && log) marks.push([alone.escape, colours.alone, "circle"]);
    for (const [t, colour, shape] of marks)
      if (Number.isFinite(t) && t > 0 && t <= x.max) dot(ctx, axes.px(Math.max(t, first)), axes.py(result.threshold), 6.5, colour, colours.ground, shape);
  });
}

// --- 2: flow on the disc ---

// Zeros of the drift in the disc with their stability: Newton's method from rings of starts.
function fixedPoints(model, lr, known) {
  const rate = makeRate(model.map, lr), found = [], r = new Float64Array(2);
  const starts = [[0, 0], ...known];
  for (const radius of [0.15, 0.4, 0.65, 0.9]) for (let n = 0; n < 12; n++) starts.push([radius * Math.cos(n * Math.PI / 6 + 0.1), radius * Math.sin(n * Math.PI / 6 + 0.1)]);
  for (const s of starts) {
    const p = polish(rate, s, [1, 1], 0.6);
    if (!p || Math.hypot(...p) > 1 || [0, 1].some((k) => !model.mask[k] && Math.abs(p[k]) > 1e-6) || found.some((f) => Math.hypot(f.at[0] - p[0], f.at[1] - p[1]) < 1e-5)) continue;
    rate(p[0], p[1], r);
    const { drift, missing } = truncation(model, p[0], p[1]);
    if (Math.hypot(...r) > 1e-9 || missing > 0.02 * Math.max(drift, 0.01)) continue;
    const [top, low] = eigenvalues(jacobian(rate, p));
    found.push({ at: p, type: top < 0 ? "stable" : low < 0 ? "saddle" : "unstable" });
  }
  return found;
}

function discOf(w, h, em) {
  const side = w > h + 10 * em, reach = Math.max(40, Math.min(side ? h : h - 9.5 * em, side ? w - 17 * em : w) / 2 - 1.8 * em);
  return { x: side ? reach + 1.6 * em : w / 2, y: reach + 1.6 * em, reach, side };
}

function drawFlow(canvas, { result, drops, cursor, share }) {
  const colours = palette(share), { ctx, w, h } = openCanvas(canvas, colours), { model, lr, flow, threshold } = result, em = colours.size;
  const disc = discOf(w, h, em), px = (a) => disc.x + a * disc.reach, py = (b) => disc.y - b * disc.reach;
  ctx.strokeStyle = colours.faint; ctx.lineWidth = 1.5;
  ctx.beginPath(); ctx.arc(disc.x, disc.y, disc.reach, 0, 2 * Math.PI); ctx.stroke();
  ctx.strokeStyle = colours.grid; ctx.lineWidth = 1;
  line(ctx, [[px(-1), py(0)], [px(1), py(0)]]); line(ctx, [[px(0), py(-1)], [px(0), py(1)]]);
  ctx.setLineDash([2, 5]); ctx.lineWidth = 1.5;
  const chord = Math.sqrt(1 - threshold ** 2);
  for (const s of [threshold, -threshold]) {
    if (model.mask[0]) { ctx.strokeStyle = colours.u; line(ctx, [[px(s), py(-chord)], [px(s), py(chord)]]); }
    if (model.mask[1]) { ctx.strokeStyle = colours.v; line(ctx, [[px(-chord), py(s)], [px(chord), py(s)]]); }
  }
  ctx.setLineDash([]);
  const unknown = drawArrows(ctx, colours, disc, model, lr);
  const trail = (run, colour, width, dash) => {
    const points = [], limit = limitOf(model, run), whole = limit === Infinity && !run.left;
    for (const s of run.steps.filter((step) => step.tau < limit)) for (const share of [0, 0.25, 0.5, 0.75]) points.push([px(interpolate(s, share, 0)), py(interpolate(s, share, 1))]);
    ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.setLineDash(DASHES[dash]);
    line(ctx, whole ? [...points, [px(run.end[0]), py(run.end[1])]] : points);
  };
  drops.forEach(([a, b], n) => {
    const run = follow(model.map, lr, [a, b], { rtol: 1e-6 }), colour = colours.further[n % colours.further.length];
    trail(run, colour, 3, ["solid", "dashed", "dotted"][Math.floor(n / 3) % 3]);
    dot(ctx, px(a), py(b), 5, colour, colours.ground, "square");
  });
  trail(flow, colours.ink, 3.5, "solid");
  dot(ctx, px(result.start[0]), py(result.start[1]), 4.5, colours.ink, colours.ground);
  for (const { at, type } of fixedPoints(model, lr, result.whole && flow.settled ? [flow.end] : []))
    dot(ctx, px(at[0]), py(at[1]), 7, type === "stable" ? colours.ink : type === "saddle" ? colours.faint : colours.ground, type === "unstable" ? colours.ink : colours.ground);
  if (cursor) {
    ctx.strokeStyle = colours.ink; ctx.lineWidth = 2;
    const [x, y] = [px(cursor[0]), py(cursor[1])];
    line(ctx, [[x - 12, y], [x + 12, y]]); line(ctx, [[x, y - 12], [x, y + 12]]);
  }
  ctx.fillStyle = colours.u; ctx.textBaseline = "middle"; ctx.textAlign = "left"; ctx.fillText("αᵤ", px(1) + 0.3 * em, py(0));
  ctx.fillStyle = colours.v; ctx.textAlign = "center"; ctx.fillText("αᵥ", px(0), py(1) - 0.8 * em);
  const key = (type) => (x, y) => dot(ctx, x, y, 6, type === "stable" ? colours.ink : type === "saddle" ? colours.faint : colours.ground, type === "unstable" ? colours.ink : colours.ground);
  const entries = [
    { text: "flow from the typical start", colour: colours.ink },
    { text: result.whole ? `ends at ${model.present.map((k) => `${k ? "αᵥ" : "αᵤ"} ${fixed(flow.end[k])}`).join(", ")}` : "and ends where the series does" },
    { text: "stable fixed point", mark: key("stable") }, { text: "saddle", mark: key("saddle") }, { text: "unstable", mark: key("unstable") },
    ...model.present.map((k) => ({ text: `threshold of ${SPIKES[k]}: ±${general(threshold)}`, colour: k ? colours.v : colours.u, dash: "dotted" })),
    { text: drops.length ? `${drops.length} dropped` : "click: drop a start", colour: colours.further[0] },
  ];
  if (unknown) entries.push({ text: "no arrow: series not converged" });
  if (disc.side) legend(ctx, colours, disc.x + disc.reach + 2 * em, 0.8 * em, em, entries);
  else legend(ctx, colours, 0, disc.y + disc.reach + 0.8 * em, w, entries, 15);
}

// Directions of the drift, darker where it is faster; none where the series is off by more than a few percent.
function drawArrows(ctx, colours, disc, model, lr) {
  const rate = makeRate(model.map, lr), r = new Float64Array(2), n = 10, arrows = [];
  let unknown = 0;
  for (let i = -n; i <= n; i++) for (let j = -n; j <= n; j++) {
    const a = i / n * 0.97, b = j / n * 0.97;
    if (Math.hypot(a, b) > 0.99 || (!i && !j)) continue;
    const { drift, missing } = truncation(model, a, b);
    if (missing > 0.05 * drift) { unknown++; continue; }
    rate(a, b, r);
    arrows.push([a, b, r[0], r[1], Math.hypot(r[0], r[1])]);
  }
  const fastest = Math.max(1e-300, ...arrows.map((x) => x[4]));
  ctx.strokeStyle = colours.ink; ctx.lineWidth = 1.6;
  for (const [a, b, u, v, speed] of arrows) {
    if (speed < 1e-12 * fastest) continue;
    const x = disc.x + a * disc.reach, y = disc.y - b * disc.reach, length = 0.034 * disc.reach, dx = u / speed * length, dy = -v / speed * length;
    ctx.globalAlpha = 0.18 + 0.5 * (speed / fastest) ** 0.4;
    line(ctx, [[x - dx, y - dy], [x + dx, y + dy]]);
    line(ctx, [[x + 0.2 * dx - 0.6 * dy, y + 0.2 * dy + 0.6 * dx], [x + dx, y + dy], [x + 0.2 * dx + 0.6 * dy, y + 0.2 * dy - 0.6 * dx]]);
  }
  ctx.globalAlpha = 1;
  return unknown;
}

// --- 3: threshold against dimension ---

const CURVE_DIMS = Array.from({ length: 13 }, (_, n) => 10 ** (2 + n / 3));

// Escape times at every d of the curve, in slices: v alone, and u and v as they are. lr null: automatic at every d.
function makeCurves({ model, solo, threshold }, lr) {
  const rows = [];
  const curves = { rows, isDone: () => rows.length === CURVE_DIMS.length };
  curves.advance = (milliseconds) => {
    const until = performance.now() + milliseconds;
    while (!curves.isDone() && performance.now() < until) {
      const dim = CURVE_DIMS[rows.length], row = { dim, escapes: [NaN, NaN], alone: NaN };
      if (threshold > dim ** -0.5) {
        const rate = lr === null ? automaticRate(model, dim, threshold) : lr, options = { threshold, rtol: 1e-6 };
        const run = follow(model.map, rate, bestSigns(model, dim), { ...options, mask: model.mask, until: model.present });
        row.escapes = run.escapes.map((t, k) => (model.mask[k] && holds(model, run, k) ? t * dim / rate : NaN));
        row.alone = solo ? aloneAt(solo, dim, threshold, { ...options, dense: false, until: [1] }).escape : NaN;
      }
      rows.push(row);
    }
    return curves.isDone();
  };
  return curves;
}

// The law of the curve: the theorem's second logarithm is that of a rate that falls like 1/log d.
const lawAtConstantRate = (law) => (law === "d log^2 d" ? "d log d (constant lr; best: d log² d)" : humanLaw(law));

function drawThreshold(canvas, { result, curves, share }) {
  const colours = palette(share), { ctx, w, h } = openCanvas(canvas, colours), { model, directions, alone } = result, rows = curves.rows;
  const series = directions.map((d) => ({ ...kind(d.index, colours), name: `${SPIKES[d.index]}${model.present.length === 2 ? " here" : " alone"}`, law: d.law, status: d.status, mark: d.index ? "circle" : "square", ys: rows.map((r) => r.escapes[d.index]) }));
  if (model.mask[0] && alone) series.push({ colour: colours.alone, dash: "dotted", name: "v alone", law: alone.law, status: "never", mark: "circle", ys: rows.map((r) => r.alone) });
  const seen = series.flatMap((s) => s.ys).filter((y) => Number.isFinite(y) && y > 0);
  const low = seen.length ? Math.max(1, Math.min(...seen) / 4) : 1, high = Math.max(...seen, 1e3) * 8;
  const entries = series.map((s) => {
    const never = s.ys.length && !s.ys.some(Number.isFinite);
    return { text: never ? `${s.name}: ${s.status === "recovered" ? "never" : s.status}` : `${s.name}: ${s.law ? lawAtConstantRate(s.law) : "–"}`, colour: s.colour, dash: s.dash };
  });
  const above = legend(ctx, colours, 4.6 * colours.size, 0, w - 4.6 * colours.size, entries, 24), box = { x: 0, y: above, w, h: h - above };
  const axes = makeAxes(ctx, colours, box, { min: 80, max: 1.25e6, log: true, label: "input dimension d" }, { min: low, max: high, log: true, label: "n(d) [samples]" });
  axes.clip(() => {
    ctx.strokeStyle = colours.faint; ctx.lineWidth = 1.5; ctx.setLineDash([2, 5]);
    line(ctx, [[axes.px(result.dim), axes.top], [axes.px(result.dim), axes.bottom]]);
  });
  for (const s of series) {
    const dims = rows.map((r) => r.dim);
    curve(axes, dims, s.ys.map((y) => (Number.isFinite(y) ? y : NaN)), s.colour, { dash: s.dash, width: 3.5 });
    axes.clip(() => dims.forEach((d, n) => { if (Number.isFinite(s.ys[n]) && n % 3 === 0) dot(ctx, axes.px(d), axes.py(s.ys[n]), 5, s.colour, colours.ground, s.mark); }));
  }
  if (curves.isDone() && !seen.length) notice(ctx, colours, { x: axes.left, y: above, w: axes.right - axes.left, h: box.h }, "The flow carries no spike over the threshold at any d.");
}

// --- 4: cloud of stochastic runs ---

function cloudSummary(cloud, k) {
  const sorted = cloud.escapes.map((e) => e[k]).sort((x, y) => x - y);
  return { median: quantile(sorted, 0.5), interval: medianInterval(sorted), share: sorted.filter(Number.isFinite).length / Math.max(1, sorted.length) };
}

function cloudText(k, { median, interval, share }, end) {
  const often = share < 1 ? `; ${Math.round(100 * share)} % by ${human(end)}` : "";
  if (median === Infinity) return `${SPIKES[k]}: median beyond the picture${often}`;
  const [low, high] = interval.map((t) => (t === Infinity ? "…" : human(t)));
  return `${SPIKES[k]}: median ${human(median)} [${low}, ${high}]${often}`;
}

function drawCloud(canvas, { result, cloud, share }) {
  const colours = palette(share), { ctx, w, h } = openCanvas(canvas, colours), { model, flow, unit, threshold } = result;
  if (!cloud) return notice(ctx, colours, { x: 0, y: 0, w, h }, "The series is not converged where these runs would go: python -m sims.compare measures them.");
  if (cloud.tooLong) // before any run, or after some: a median of the quick ones alone would mislead
    return notice(ctx, colours, { x: 0, y: 0, w, h }, "The runs would take too many steps here: one spike relaxes that much faster than the slowest escapes. Try a smaller d or lr.");
  const n = cloud.overlaps.length, summaries = model.present.map((k) => cloudSummary(cloud, k));
  const entries = model.present.map((k, i) => ({ ...kind(k, colours), text: cloudText(k, summaries[i], cloud.end) }));
  entries.push(thresholdEntry(colours, threshold), { text: "ODE from the typical start", colour: colours.ink, dash: "dotted" }, { text: `${n} of ${cloud.runs} runs: median [95 %], 10–90 %` });
  const above = legend(ctx, colours, 3.4 * colours.size, 0, w - 3.4 * colours.size, entries, 26), box = { x: 0, y: above, w, h: h - above };
  const axes = makeAxes(ctx, colours, box, { min: cloud.times[0], max: cloud.end, log: true, label: "samples t (log scale)" }, { min: 0, max: 1.02, label: "overlap |α|" });
  horizontal(axes, threshold);
  const ode = overlapsAt(flow, cloud.times.map((t) => t / unit));
  model.present.forEach((k, which) => {
    const { colour, dash } = kind(k, colours);
    for (const path of cloud.overlaps.slice(0, 30))
      curve(axes, cloud.times, cloud.times.map((_, i) => Math.abs(path[2 * i + k])), colour, { width: 1, alpha: 0.28 });
    if (n >= 5) {
      const columns = cloud.times.map((_, i) => Float64Array.from(cloud.overlaps, (path) => Math.abs(path[2 * i + k])).sort());
      band(axes, cloud.times, columns.map((c) => quantile(c, 0.1)), columns.map((c) => quantile(c, 0.9)), colour);
      curve(axes, cloud.times, columns.map((c) => quantile(c, 0.5)), colour, { dash, width: 4 });
    }
    curve(axes, cloud.times, ode.map((p) => Math.abs(p[k])), colours.ink, { dash: "dotted", width: 2 });
    const { median } = summaries[which];
    if (n >= 5 && Number.isFinite(median)) dot(ctx, axes.px(median), axes.py(threshold), 7, colour, colours.ground, k ? "circle" : "square");
  });
}
