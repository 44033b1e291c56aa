"use strict";
// Axes on a canvas: ticks, labels, lines, bands, dots. Colours come from the style sheet, so that light and dark share this code.

function palette(share = 1) {
  const style = getComputedStyle(document.documentElement), of = (name) => style.getPropertyValue(`--${name}`).trim();
  return { u: of("u"), v: of("v"), ink: of("ink"), faint: of("faint"), grid: of("grid"), ground: of("ground"), alone: of("alone"),
    further: [of("further-1"), of("further-2"), of("further-3")], size: parseFloat(style.fontSize) * 0.86 * share };
}

// The canvas at the screen's own resolution; draws in CSS pixels.
function openCanvas(canvas, colours) {
  const ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio);
  }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, w, h);
  ctx.font = `${colours.size}px system-ui, sans-serif`;
  ctx.lineJoin = ctx.lineCap = "round";
  return { ctx, w, h };
}

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const raised = (n) => [...String(n)].map((c) => SUPERSCRIPTS[c]).join("");
const powerOfTen = (n) => (n === 0 ? "1" : n === 1 ? "10" : `10${raised(n)}`);

// A number for people: 45 070 samples are 4.51·10⁴.
function human(x, digits = 3) {
  if (x === Infinity) return "never";
  if (Number.isNaN(x)) return "?";
  if (x === 0 || (Math.abs(x) >= 1e-3 && Math.abs(x) < 1e4)) return String(Number(x.toPrecision(digits)));
  const [mantissa, exponent] = x.toExponential(digits - 1).split("e");
  return `${mantissa}·10${raised(Number(exponent))}`;
}
const fixed = (x) => (Number.isNaN(x) ? "?" : (Math.round(1000 * x) / 1000 + 0).toFixed(3)); // no -0.000
const humanLaw = (law) => law.replace("log^2", "log²").replace(/\^(\d)/, (_, n) => raised(n));

function linearTicks(min, max, wanted) {
  const raw = (max - min) / wanted, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let n = Math.ceil(min / step - 1e-9); n * step <= max * (1 + 1e-12); n++) ticks.push(n * step);
  return ticks;
}
function logTicks(min, max, wanted) {
  const low = Math.ceil(Math.log10(min) - 1e-9), high = Math.floor(Math.log10(max) + 1e-9), skip = Math.max(1, Math.ceil((high - low + 1) / wanted));
  const ticks = [];
  for (let n = Math.ceil(low / skip) * skip; n <= high; n += skip) ticks.push(10 ** n);
  return ticks;
}

// A frame in the box {x, y, w, h} (its outside, labels included); x and y axes {min, max, log, label}.
function makeAxes(ctx, colours, box, xAxis, yAxis, title = "") {
  const em = colours.size, left = box.x + (yAxis.log ? 4.6 : 3.4) * em, right = box.x + box.w - 0.9 * em;
  const top = box.y + (title ? 1.9 : 0.8) * em, bottom = box.y + box.h - 3 * em;
  const scale = (axis, from, to) => {
    const f = axis.log ? Math.log : (x) => x, low = f(axis.min), span = f(axis.max) - low;
    return (x) => from + (f(x) - low) / span * (to - from);
  };
  const px = scale(xAxis, left, right), py = scale(yAxis, bottom, top);
  const exponent = !xAxis.log && xAxis.max >= 1e4 ? Math.floor(Math.log10(xAxis.max)) : 0;
  ctx.save();
  ctx.strokeStyle = colours.grid; ctx.fillStyle = colours.ink; ctx.lineWidth = 1;
  ctx.textAlign = "center"; ctx.textBaseline = "top";
  const many = Math.max(2, Math.floor((right - left) / (4.5 * em)));
  for (const x of xAxis.log ? logTicks(xAxis.min, xAxis.max, many) : linearTicks(xAxis.min, xAxis.max, Math.min(many, 6))) {
    line(ctx, [[px(x), top], [px(x), bottom]]);
    ctx.fillText(xAxis.log ? powerOfTen(Math.round(Math.log10(x))) : general(x / 10 ** exponent, 4), px(x), bottom + 0.35 * em);
  }
  ctx.textAlign = "right"; ctx.textBaseline = "middle";
  const rows = Math.max(2, Math.floor((bottom - top) / (2.2 * em)));
  for (const y of yAxis.log ? logTicks(yAxis.min, yAxis.max, rows) : linearTicks(yAxis.min, yAxis.max, Math.min(rows, 5))) {
    line(ctx, [[left, py(y)], [right, py(y)]]);
    ctx.fillText(yAxis.log ? powerOfTen(Math.round(Math.log10(y))) : general(y, 3), left - 0.4 * em, py(y));
  }
  ctx.strokeStyle = colours.faint;
  ctx.strokeRect(left, top, right - left, bottom - top);
  ctx.textAlign = "center"; ctx.textBaseline = "bottom";
  ctx.fillText(xAxis.label + (exponent ? ` [10${raised(exponent)}]` : ""), (left + right) / 2, box.y + box.h - 0.1 * em);
  if (title) { ctx.textBaseline = "top"; ctx.fillText(title, (left + right) / 2, box.y + 0.3 * em); }
  ctx.translate(box.x + 0.2 * em, (top + bottom) / 2); ctx.rotate(-Math.PI / 2);
  ctx.textBaseline = "top"; ctx.fillText(yAxis.label, 0, 0);
  ctx.restore();
  const clip = (draw) => { ctx.save(); ctx.beginPath(); ctx.rect(left, top, right - left, bottom - top); ctx.clip(); draw(); ctx.restore(); };
  return { ctx, colours, px, py, left, right, top, bottom, em, clip };
}

function line(ctx, points) {
  ctx.beginPath();
  let pen = false;
  for (const [x, y] of points) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) { pen = false; continue; }
    if (pen) ctx.lineTo(x, y); else ctx.moveTo(x, y);
    pen = true;
  }
  ctx.stroke();
}

// A curve of the two spikes' kind: v solid, u dashed, so that no one needs the colour.
const DASHES = { solid: [], dashed: [9, 7], dotted: [2, 6], fine: [2, 4] };
function curve(axes, xs, ys, colour, { dash = "solid", width = 3, alpha = 1 } = {}) {
  const { ctx } = axes;
  axes.clip(() => {
    ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.globalAlpha = alpha; ctx.setLineDash(DASHES[dash]);
    line(ctx, xs.map((x, n) => [axes.px(x), axes.py(ys[n])]));
  });
}

function band(axes, xs, low, high, colour) {
  const { ctx } = axes;
  axes.clip(() => {
    ctx.fillStyle = colour; ctx.globalAlpha = 0.22;
    ctx.beginPath();
    xs.forEach((x, n) => ctx.lineTo(axes.px(x), axes.py(high[n])));
    [...xs].reverse().forEach((x, n) => ctx.lineTo(axes.px(x), axes.py(low[xs.length - 1 - n])));
    ctx.fill();
  });
}

function dot(ctx, x, y, radius, fill, edge, shape = "circle") {
  ctx.beginPath();
  if (shape === "square") ctx.rect(x - radius, y - radius, 2 * radius, 2 * radius); else ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.fillStyle = fill; ctx.strokeStyle = edge; ctx.lineWidth = 2; ctx.setLineDash([]);
  ctx.fill(); ctx.stroke();
}

function horizontal(axes, y) {
  const { ctx, colours } = axes;
  ctx.save();
  ctx.strokeStyle = colours.faint; ctx.lineWidth = 1.5; ctx.setLineDash(DASHES.fine);
  line(ctx, [[axes.left, axes.py(y)], [axes.right, axes.py(y)]]);
  ctx.restore();
}

// A legend [{text, colour, dash, mark}] in columns of one width, so that it does not jump with its numbers; returns its height.
function legend(ctx, colours, x, y, width, entries, column = 19) {
  const em = colours.size, columns = Math.max(1, Math.min(entries.length, Math.floor(width / (column * em))));
  ctx.save();
  ctx.textAlign = "left"; ctx.textBaseline = "middle";
  entries.forEach((e, n) => {
    const left = x + (n % columns) * Math.min(width / columns, 1.25 * column * em), row = y + 1.45 * em * (Math.floor(n / columns) + 0.5);
    ctx.strokeStyle = e.colour; ctx.lineWidth = e.dash === "fine" ? 1.5 : 3; ctx.setLineDash(DASHES[e.dash || "solid"]);
    if (e.mark) e.mark(left + 1.2 * em, row); else if (e.colour) line(ctx, [[left + 0.3 * em, row], [left + 2.1 * em, row]]);
    ctx.fillStyle = colours.ink; ctx.fillText(e.text, left + (e.colour || e.mark ? 2.6 : 0.3) * em, row);
  });
  ctx.restore();
  return 1.45 * em * Math.ceil(entries.length / columns) + 0.4 * em;
}

// A sentence in the middle of a picture that has nothing else to show.
function notice(ctx, colours, box, text) {
  const em = colours.size, words = text.split(" "), rows = [""];
  for (const word of words) {
    const longer = `${rows[rows.length - 1]} ${word}`.trim();
    if (ctx.measureText(longer).width > box.w - 4 * em) rows.push(word); else rows[rows.length - 1] = longer;
  }
  ctx.save();
  ctx.fillStyle = colours.ink; ctx.textAlign = "center"; ctx.textBaseline = "middle";
  rows.forEach((row, n) => ctx.fillText(row, box.x + box.w / 2, box.y + box.h / 2 + 1.4 * em * (n - (rows.length - 1) / 2)));
  ctx.restore();
}
