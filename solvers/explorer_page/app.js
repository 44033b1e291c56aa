"use strict";
// State, address, controls. One state object holds the situation; it is written to the address and read back from it.

const ROLES = { default: "chosen for p", relu: "ReLU", blind: "He₂ alone" };
const DEFAULTS = { p: 4, act: "default", corr: 0, bu: 0, bv: 10, d: 1000, lr: null, eta: 0.3, view: "overlaps", seed: 0, runs: 200, drop: [], theme: "auto", text: 1 };
// A preset is a state that differs from the defaults only in what it says here.
const PRESETS = [
  { name: "v alone", words: "A direction hidden in the 4th cumulant: SGD lingers on a plateau, and the plateau grows like d³ samples.", bu: 0 },
  { name: "+ u", words: "A spike u in the covariance is found in about d log² d samples; but with independent latents the neuron locks onto u, and v is repelled.", bu: 1, view: "flow", drop: [[0.03, 0.45], [-0.2, 0.6], [0.05, -0.4]] },
  { name: "corr 0.5", words: "Correlate the latents of u and v: α of v follows α of u down the stairs, and the plateau vanishes. Move corr and watch.", bu: 1, corr: 0.5 },
  { name: "fixed point", words: "With little correlation v is pulled along just as fast, but only as far as a fixed point that lies below the threshold.", bu: 1, corr: 0.25, view: "flow" },
  { name: "wrong sign", words: "p = 6 with ReLU: the cumulant pushes the neuron away from v, from wherever it starts; no number of samples helps.", p: 6, act: "relu", lr: 1e-4, view: "flow", drop: [[0, 0.7], [0, 0.45], [0, -0.6]] },
  { name: "noise", words: "SGD starts at random, where noise matters as much as drift: escape times have a law, not a value. Each line is one run.", bu: 1, corr: 0.5, view: "cloud" },
];
const DRAWERS = { overlaps: drawOverlaps, flow: drawFlow, threshold: drawThreshold, cloud: drawCloud };
const $ = (id) => document.getElementById(id);
const round = (x, digits) => Number(x.toPrecision(digits));

// The sliders: where a value sits on the slider (at) and the value of a position (from).
const plain = { at: (x) => x, from: (x) => round(x, 12) };
const logarithmic = (digits) => ({ at: Math.log10, from: (x) => round(10 ** x, digits) });
const SLIDERS = [
  { key: "corr", label: "corr = E[λν]", min: -1, max: 1, step: 0.01, ...plain, show: (x) => (Math.abs(x * 100 - Math.round(x * 100)) < 1e-9 ? x.toFixed(2) : x.toFixed(3)), note: () => (state.bu && state.bv ? `|corr| ≤ ${largestCorr().toFixed(3)} for this latent (p = ${state.p})` : "has a meaning beside both u and v") },
  { key: "bu", label: "βᵤ, covariance spike", min: 0, max: 3, step: 0.05, ...plain, show: (x) => general(x, 3) },
  { key: "bv", label: "βᵥ, cumulant spike", min: 0, max: 20, step: 0.25, ...plain, show: (x) => general(x, 4) },
  { key: "p", label: "p, order of the cumulant", min: Math.min(...Object.keys(MODEL.latents)), max: Math.max(...Object.keys(MODEL.latents)), step: 1, ...plain, show: String },
  { key: "d", label: "d, dimension", min: 1.5, max: 6, step: 0.05, ...logarithmic(2), show: String },
  { key: "lr", label: "lr δ (step δ/d)", min: -6, max: 1, step: 0.02, ...logarithmic(3), show: (x) => general(x, 3), note: () => (result && result.critical !== null ? `critical: ${general(result.critical, 3)}` : "no critical rate") },
  { key: "eta", label: "threshold of |α|", min: 0.05, max: 0.9, step: 0.01, ...plain, show: (x) => x.toFixed(2) },
];

let state = { ...DEFAULTS }, result = null, curves = null, cloud = null, cursor = null, moved = 0;
const timings = [];

const largestCorr = () => MODEL.latents[state.p].largestCorr;
const rolesOf = (p) => MODEL.cases.filter((c) => c.p === p).map((c) => c.role);

// --- the address ---

const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

// The nearest state that exists: what came from an address may be anything.
function tidy(s) {
  const number = (x, fallback) => (Number.isFinite(x) ? x : fallback);
  const limits = Object.fromEntries(SLIDERS.map((c) => [c.key, [c.from(c.min), c.from(c.max)]]));
  const out = { ...DEFAULTS };
  for (const key of ["bu", "bv", "p", "d", "eta"]) out[key] = clamp(number(s[key], DEFAULTS[key]), ...limits[key]);
  out.p = Math.round(out.p);
  const largest = MODEL.latents[out.p].largestCorr;
  out.corr = clamp(number(s.corr, 0), -largest, largest);
  out.lr = s.lr === null || !(s.lr > 0) ? null : clamp(s.lr, ...limits.lr);
  out.act = rolesOf(out.p).includes(s.act) ? s.act : "default";
  out.view = Object.hasOwn(NAMES, s.view) ? s.view : DEFAULTS.view;
  out.seed = clamp(Math.round(number(s.seed, 0)), 0, 999999);
  out.runs = clamp(Math.round(number(s.runs, 200)), 1, 1000);
  out.drop = (s.drop || []).filter(([a, b]) => Math.hypot(a, b) <= 1).slice(-12);
  out.theme = ["auto", "light", "dark"].includes(s.theme) ? s.theme : "auto";
  out.text = [0, 1, 2].includes(s.text) ? s.text : 1;
  return out;
}

function toHash(s) {
  const words = [];
  for (const key of Object.keys(DEFAULTS)) {
    if (JSON.stringify(s[key]) === JSON.stringify(DEFAULTS[key])) continue;
    words.push(`${key}=${key === "drop" ? s.drop.map((p) => p.join(",")).join(";") : s[key]}`);
  }
  return `#${words.join("&")}`;
}

function fromHash(hash) {
  const s = { ...DEFAULTS };
  for (const [key, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (!Object.hasOwn(DEFAULTS, key) || text.trim() === "") continue;
    if (key === "drop") s.drop = text.split(";").map((pair) => pair.split(",").map((x) => (x.trim() ? Number(x) : NaN))).filter((p) => p.length === 2 && p.every(Number.isFinite));
    else if (["act", "view", "theme"].includes(key)) s[key] = text;
    else s[key] = key === "lr" && text === "auto" ? null : Number(text);
  }
  return tidy(s);
}

let writing = 0;
function writeAddress() { // browsers allow some hundred changes of an address a minute, a dragged slider makes more
  clearTimeout(writing);
  writing = setTimeout(() => { if (location.hash !== toHash(state)) history.replaceState(null, "", toHash(state) === "#" ? location.pathname + location.search : toHash(state)); }, 120);
}

// --- computing and drawing ---

// What the solver refuses; null if the situation exists.
function refusal(s) {
  if (s.bu === 0 && s.bv === 0) return "βᵤ and βᵥ are both 0: there is nothing to learn. Raise one of them.";
  if (s.eta <= s.d ** -0.5) return `The threshold ${general(s.eta)} is not above d^(−1/2) = ${general(s.d ** -0.5, 3)}, where a start lies. Raise it, or d.`;
  return null;
}

const textShare = () => (state.view === "all" ? 0.82 : 1); // four pictures are small
const shown = () => (state.view === "all" ? Object.keys(DRAWERS) : [state.view]);

function compute() {
  result = curves = cloud = null;
  if (refusal(state)) return;
  result = predict({ p: state.p, role: state.act, beta_u: state.bu, beta_v: state.bv, corr: state.corr, dim: state.d, lr: state.lr, threshold: state.eta });
  if (shown().includes("threshold")) { curves = makeCurves(result, state.lr); curves.advance(10); }
  if (shown().includes("cloud") && result.whole) { cloud = makeCloud(result, { runs: state.runs, seed: state.seed }); cloud.advance(6); }
}

function draw() {
  for (const name of shown()) {
    const canvas = $(`canvas-${name}`);
    if (result) DRAWERS[name](canvas, { result, curves, cloud, drops: state.drop, share: textShare(), cursor: document.activeElement === canvas ? cursor : null });
    else {
      const colours = palette(), { ctx, w, h } = openCanvas(canvas, colours);
      notice(ctx, colours, { x: 0, y: 0, w, h }, refusal(state));
    }
    canvas.setAttribute("aria-label", `${NAMES[name]}: ${result ? result.directions.map((d) => `${d.spike} ${d.status}`).join(", ") : refusal(state)}`);
  }
}

// One frame at a time: what was asked for since the last one is computed and drawn together. Curves and clouds that need more
// than a frame go on in slices, so that the sliders stay quick.
let waiting = false;
function schedule(change) {
  if (change && !moved) moved = performance.now();
  if (change) { state = tidy({ ...state, ...change }); result = null; writeAddress(); }
  if (!waiting) requestAnimationFrame(frame);
  waiting = true;
}

function frame() {
  waiting = false;
  if (!result) { compute(); showControls(); showAnswer(); }
  else for (const work of [curves, cloud]) if (work) work.advance(14);
  draw();
  if (moved) { timings.push(performance.now() - moved); if (timings.length > 200) timings.shift(); moved = 0; tell(); }
  if ([curves, cloud].some((work) => work && !work.isDone())) schedule();
}

function tell() {
  const sorted = [...timings].sort((a, b) => a - b);
  $("timing").textContent = `slider to picture: ${sorted[sorted.length >> 1].toFixed(0)} ms (median of ${timings.length})`;
}

// --- words ---

function cell(text, name = "") {
  const td = document.createElement("td");
  td.textContent = text; td.className = name;
  return td;
}

function showAnswer() {
  const rows = result ? result.directions.map((d) => {
    const tr = document.createElement("tr");
    tr.append(cell(d.spike, `status ${d.spike}`), cell(d.status, "status"), cell(human(d.escape, 4)), cell(Number.isFinite(d.escape) ? human(d.escape / result.dim, 4) : ""),
      cell(d.law ? humanLaw(d.law) : "–"), cell(fixed(d.end)), cell(d.reason));
    return tr;
  }) : [];
  $("rows").replaceChildren(...rows);
  const alone = result && result.alone, v = result && result.directions.find((d) => d.index === 1);
  let words = "";
  if (alone && alone.law === null) words = "v alone: never driven";
  else if (alone && result.model.mask[0]) {
    words = `v alone: ${humanLaw(alone.law)} samples; at lr = ${general(alone.lr, 3)}: ${human(alone.escape)} samples`;
    if (Number.isFinite(alone.escape) && v && Number.isFinite(v.escape)) words += `, ${human(alone.escape / v.escape)} times more than here (flow from the typical start)`;
  }
  $("baseline").textContent = words;
  const lines = result ? [...result.warnings] : [refusal(state)];
  if (cloud && !cloud.smallSteps)
    lines.push(`lr ${general(result.lr, 4)} is above ${general(cloud.largestSmall, 4)}, where δ² V/d = 0.001: steps that long are no diffusion, the runs of the cloud come out too early`);
  $("warnings").replaceChildren(...lines.map((text) => { const li = document.createElement("li"); li.textContent = text; return li; }));
  const preset = presetOf(state);
  $("sentence").textContent = preset ? preset.words : result ? describe({ p: state.p, beta_u: state.bu, beta_v: state.bv, corr: state.corr }, result.model) : "";
  document.querySelectorAll("#presets button").forEach((b, n) => b.setAttribute("aria-pressed", String(PRESETS[n] === preset)));
  if (result) {
    const { learner, latent } = result.model;
    $("learner").textContent = `Activation: ${learner.name}, ` + learner.seen.slice(0, 4).map((k) => `c_${k} = ${general(learner.c[`c_${k}`], 4)}`).join(", ") + (learner.complete ? " (a polynomial: the series is exact)" : ", …") +
      `. Latent ν of order ${state.p}: values ${latent.nodes.map((x) => general(x, 4)).join(", ")} with probabilities ${latent.weights.map((x) => general(x, 4)).join(", ")}.`;
  }
}

function presetState(preset) {
  const { name, words, ...changes } = preset;
  return tidy({ ...DEFAULTS, ...changes });
}
function presetOf(s) {
  const bare = (x) => JSON.stringify({ ...x, theme: 0, text: 0, view: 0, drop: 0 });
  return PRESETS.filter((p) => bare(presetState(p)) === bare(s)).sort((p, q) => (presetState(q).view === s.view) - (presetState(p).view === s.view))[0];
}

// --- controls ---

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function buildControls() {
  for (const c of SLIDERS) {
    const input = element("input", { type: "range", id: c.key, min: c.min, max: c.max, step: c.step });
    input.addEventListener("input", () => schedule({ [c.key]: c.from(Number(input.value)) }));
    const box = element("div", { className: "control" }, element("label", { htmlFor: c.key, textContent: c.label }), element("output", { id: `${c.key}-value`, htmlFor: c.key }), input);
    if (c.note) { box.append(element("small", { id: `${c.key}-note` })); input.setAttribute("aria-describedby", `${c.key}-note`); }
    if (c.key === "lr") {
      const auto = element("input", { type: "checkbox", id: "auto" });
      auto.addEventListener("change", () => schedule({ lr: auto.checked ? null : round(result ? result.lr : 0.1, 3) }));
      box.insertBefore(element("label", { htmlFor: "auto" }, auto, element("span", { id: "auto-note" })), box.querySelector("small"));
    }
    $("controls").append(box);
    if (c.key === "p") {
      const select = element("select", { id: "act" });
      select.addEventListener("change", () => schedule({ act: select.value }));
      $("controls").append(element("div", { className: "control" }, element("label", { htmlFor: "act", textContent: "activation" }), select, element("small", { id: "act-note" })));
    }
  }
  const seed = element("input", { type: "number", id: "seed", min: 0, max: 999999, step: 1 }), runs = element("input", { type: "number", id: "runs", min: 1, max: 1000, step: 10 });
  seed.addEventListener("change", () => schedule({ seed: Number(seed.value) }));
  runs.addEventListener("change", () => schedule({ runs: Number(runs.value) }));
  $("controls").append(element("div", { className: "control row" }, element("label", {}, "runs ", runs), element("label", {}, "seed ", seed)));
  $("controls").addEventListener("submit", (event) => event.preventDefault());
}

function showControls() {
  for (const c of SLIDERS) {
    const input = $(c.key), value = c.key === "lr" && state.lr === null ? (result ? result.lr : 0.1) : state[c.key];
    if (c.key === "corr") { const most = Math.floor(largestCorr() * 100) / 100; input.min = -most; input.max = most; }
    input.value = c.at(value);
    const words = c.show(value);
    $(`${c.key}-value`).textContent = words;
    input.setAttribute("aria-valuetext", words);
    if (c.note) $(`${c.key}-note`).textContent = c.note();
  }
  $("auto").checked = state.lr === null;
  $("auto-note").textContent = " auto" + (state.lr === null && result && result.critical !== null ? `: critical / ${general(result.critical / result.lr, 3)}` : "");
  const roles = rolesOf(state.p), select = $("act");
  if (select.childElementCount !== roles.length || [...select.children].some((o, n) => o.value !== roles[n]))
    select.replaceChildren(...roles.map((role) => element("option", { value: role, textContent: ROLES[role] })));
  select.value = state.act;
  $("act-note").textContent = LEARNERS[MODEL.cases.findIndex((c) => c.p === state.p && c.role === state.act)].name;
  $("seed").value = state.seed; $("runs").value = state.runs;
  for (const radio of document.querySelectorAll("#views input")) radio.checked = radio.value === state.view;
  for (const name of Object.keys(DRAWERS)) $(`canvas-${name}`).hidden = !shown().includes(name);
  $("canvases").className = state.view === "all" ? "all" : "";
  showLooks();
}

function showLooks() {
  const root = document.documentElement;
  if (state.theme === "auto") delete root.dataset.theme; else root.dataset.theme = state.theme;
  root.dataset.text = state.text;
}

function build() {
  $("order").textContent = MODEL.order;
  PRESETS.forEach((preset, n) => {
    const button = element("button", { type: "button", textContent: `${n + 1} ${preset.name}`, title: preset.words });
    button.addEventListener("click", () => schedule({ ...presetState(preset), theme: state.theme, text: state.text }));
    $("presets").append(button);
  });
  for (const [name, title] of Object.entries(NAMES)) {
    const radio = element("input", { type: "radio", name: "view", value: name });
    radio.addEventListener("change", () => schedule({ view: name }));
    $("views").append(element("label", {}, radio, element("span", { textContent: title })));
    if (!(name in DRAWERS)) continue;
    const canvas = element("canvas", { id: `canvas-${name}` });
    canvas.setAttribute("role", name === "flow" ? "application" : "img");
    $("canvases").append(canvas);
  }
  buildControls();
  $("theme").addEventListener("click", () => {
    const dark = state.theme === "dark" || (state.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
    look({ theme: dark ? "light" : "dark" });
  });
  $("text").addEventListener("click", () => look({ text: (state.text + 1) % 3 }));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=number], select") || event.ctrlKey || event.metaKey || event.altKey;
    const preset = PRESETS[Number(event.key) - 1];
    if (preset && !typing) $("presets").children[Number(event.key) - 1].click();
  });
  buildDropping();
  new ResizeObserver(() => schedule()).observe($("canvases"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => schedule());
  window.addEventListener("hashchange", () => { const next = fromHash(location.hash); if (toHash(next) !== toHash(state)) { state = next; result = null; schedule(); } });
}

// Looks change the drawing and nothing that was computed.
function look(change) {
  state = tidy({ ...state, ...change });
  showLooks(); writeAddress(); schedule();
}

// Trajectories by mouse, touch and keys.
function buildDropping() {
  const canvas = $("canvas-flow");
  canvas.tabIndex = 0;
  const inside = (a, b) => { const size = Math.hypot(a, b); return (size > 0.999 ? [a / size * 0.999, b / size * 0.999] : [a, b]).map((x) => round(x, 3)); };
  const drops = (list) => { state = tidy({ ...state, drop: list }); writeAddress(); schedule(); };
  canvas.addEventListener("click", (event) => {
    const disc = discOf(canvas.clientWidth, canvas.clientHeight, palette(textShare()).size);
    const a = (event.offsetX - disc.x) / disc.reach, b = (disc.y - event.offsetY) / disc.reach;
    if (Math.hypot(a, b) < 1.05) drops([...state.drop, inside(a, b)]);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.01 : 0.05, [a, b] = cursor || [0.2, 0.2];
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) { cursor = inside(a + moves[event.key][0], b + moves[event.key][1]); schedule(); }
    else if (event.key === "Enter" || event.key === " ") drops([...state.drop, cursor]);
    else if (event.key === "Backspace") drops(state.drop.slice(0, -1));
    else if (event.key === "Delete") drops([]);
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("focus", () => { cursor = cursor || [0.2, 0.2]; schedule(); });
  canvas.addEventListener("blur", () => schedule());
}

build();
state = fromHash(location.hash);
schedule();
