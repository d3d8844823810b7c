"use strict";
// The explorer of a report. Its data lie in the page; it asks for nothing, and draws text as text.
const data = JSON.parse(document.getElementById("data").textContent);
const NS = "http://www.w3.org/2000/svg";
const PALETTE = ["#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#999933", "#882255", "#44AA99", "#777777"];
const byId = (id) => document.getElementById(id);

function element(parent, name, attributes, text) {
  const made = name === "option" || name === "div" || name === "label" || name === "select"
    ? document.createElement(name) : document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function chooser(parent, title, names, onChange) {
  const label = element(parent, "label", {}, `${title} `);
  const select = element(label, "select");
  names.forEach((name, number) => element(select, "option", { value: number }, name));
  select.addEventListener("change", onChange);
  return select;
}

function errorExplorer(points) {
  const controls = byId("point-controls"), canvas = byId("points"), tip = byId("tip"), status = byId("point-status");
  const context = canvas.getContext("2d"), factors = points.factors;
  const top = 120, margin = { left: 44, right: 10, top: 10, bottom: 38 };
  let shown = [], marked = -1;
  const colour = chooser(controls, "Colour by", factors.map((factor) => factor.title), draw);
  colour.value = Math.min(1, factors.length - 1);
  const filters = factors.map((factor) => chooser(controls, factor.title, ["all", ...factor.names], draw));
  const least = chooser(controls, "Age error", ["any", "over 5 years", "over 10 years", "over 20 years"], draw);
  const colours = factors.map((factor) => factor.names.map((_, code) => factor.colours[code] || PALETTE[code % 8]));
  const across = (x) => margin.left + x / top * (canvas.clientWidth - margin.left - margin.right);
  const up = (y) => canvas.clientHeight - margin.bottom - y / top * (canvas.clientHeight - margin.top - margin.bottom);
  const spread = (k) => ((k * 2654435761) % 1000) / 1000 - 0.5; // whole years would hide each other

  function draw() {
    const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    const style = getComputedStyle(document.body), ink = style.color, soft = getComputedStyle(status).color;
    canvas.width = width * scale;
    canvas.height = height * scale;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = "12px system-ui, sans-serif";
    context.lineWidth = 1;
    for (let age = 0; age <= top; age += 20) {
      context.globalAlpha = 0.2;
      context.strokeStyle = soft;
      context.strokeRect(across(age), up(top), 0, up(0) - up(top));
      context.strokeRect(across(0), up(age), across(top) - across(0), 0);
      context.globalAlpha = 1;
      context.fillStyle = soft;
      context.fillText(age, across(age) - 7, up(0) + 15);
      context.fillText(age, 20, up(age) + 4);
    }
    context.fillStyle = ink;
    context.fillText("Age label (years)", across(top / 2) - 45, height - 6);
    context.save();
    context.translate(12, up(top / 2) + 55);
    context.rotate(-Math.PI / 2);
    context.fillText("Predicted age (years)", 0, 0);
    context.restore();
    context.strokeStyle = soft;
    context.beginPath();
    context.moveTo(across(0), up(0));
    context.lineTo(across(top), up(top));
    context.stroke();
    const enough = [-1, 5, 10, 20][least.value], by = factors[colour.value];
    shown = points.x.map((_, k) => k).filter((k) => Math.abs(points.y[k] - points.x[k]) > enough
      && filters.every((filter, f) => filter.value === "0" || factors[f].codes[k] === filter.value - 1));
    context.globalAlpha = 0.6;
    for (const k of shown) {
      context.fillStyle = colours[colour.value][by.codes[k]] || "#999999";
      context.beginPath();
      context.arc(across(points.x[k] + spread(k)), up(points.y[k] + spread(k + 7)), 2.6, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    if (marked >= 0) {
      context.strokeStyle = ink;
      context.lineWidth = 2;
      const x = across(points.x[marked] + spread(marked));
      if (points.low[marked] !== null)
        context.strokeRect(x, up(points.high[marked]), 0, up(points.low[marked]) - up(points.high[marked]));
      context.beginPath();
      context.arc(x, up(points.y[marked] + spread(marked + 7)), 6, 0, 7);
      context.stroke();
    }
    const error = shown.reduce((sum, k) => sum + Math.abs(points.y[k] - points.x[k]), 0) / shown.length;
    status.textContent = `${shown.length.toLocaleString("en")} of ${points.x.length.toLocaleString("en")} faces`
      + (shown.length ? `, mean absolute error ${error.toFixed(2)} years` : "");
    const legend = byId("legend");
    legend.replaceChildren();
    by.names.forEach((name, code) => {
      element(legend, "div", { style: `--mark: ${colours[colour.value][code]}` }, name);
    });
  }

  function tell(k) {
    marked = k;
    tip.replaceChildren();
    draw();
    if (k < 0) return;
    const interval = points.low[k] === null ? "" : ` (90 % interval ${points.low[k]} to ${points.high[k]})`;
    const lines = [points.image[k], `Age: label ${points.x[k]}, predicted ${points.y[k]}${interval}`];
    for (const row of points.classes) {
      const label = row.label[k] === null ? "unknown" : row.names[row.label[k]];
      lines.push(`${row.title}: label ${label}, predicted ${row.names[row.predicted[k]]} (${row.p[k]})`);
    }
    for (const factor of factors)
      if (["Quality", "Error cluster", "Split"].includes(factor.title) && factor.codes[k] >= 0)
        lines.push(`${factor.title}: ${factor.names[factor.codes[k]]}`);
    const faces = points.faces;
    if (faces && faces.places[k] >= 0) {
      const face = element(tip, "div", { class: "face" }), place = faces.places[k];
      face.style.cssText = `width: ${faces.px}px; height: ${faces.px}px; background-image: url(${faces.sheet});`
        + `background-position: -${place % faces.columns * faces.px}px -${Math.floor(place / faces.columns) * faces.px}px`;
    }
    for (const line of lines) element(tip, "div", {}, line);
  }

  canvas.addEventListener("pointermove", (event) => {
    let best = -1, nearest = 144;
    for (const k of shown) {
      const x = across(points.x[k] + spread(k)) - event.offsetX, y = up(points.y[k] + spread(k + 7)) - event.offsetY;
      if (x * x + y * y < nearest) [nearest, best] = [x * x + y * y, k];
    }
    if (best >= 0 && best !== marked) tell(best);
  });
  canvas.addEventListener("keydown", (event) => { // by keyboard: through the shown faces, the largest error first
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || !shown.length) return;
    event.preventDefault();
    const order = [...shown].sort((a, b) => Math.abs(points.y[b] - points.x[b]) - Math.abs(points.y[a] - points.x[a]));
    const at = order.indexOf(marked);
    tell(order[at < 0 ? 0 : (at + step + order.length) % order.length]);
  });
  window.addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}

function groupChart(groups) {
  const controls = byId("group-controls"), svg = byId("groups");
  const metric = chooser(controls, "Metric", groups.metrics.map((row) => row.title), draw);
  const table = chooser(controls, "Groups", groups.tables.map((row) => row.title), draw);

  function draw() {
    const { key, percent, unit } = groups.metrics[metric.value], rows = groups.tables[table.value];
    const scale = percent ? 100 : 1, values = rows.values[key];
    const known = values.flat().filter((value) => value !== null && value !== undefined).map((value) => value * scale);
    const low = Math.min(0, ...known), high = percent ? 100 : Math.max(...known, 1), left = 210, right = 640;
    const across = (value) => left + (value - low) / (high - low || 1) * (right - left);
    const height = 26 * rows.names.length + 46;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 700 ${height}`);
    const step = [0.5, 1, 2, 5, 10, 20, 50].find((each) => (high - low) / each <= 8) || 100;
    for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) {
      element(svg, "line", { x1: across(tick), x2: across(tick), y1: 0, y2: height - 40, class: "grid" });
      element(svg, "text", { x: across(tick), y: height - 24, "text-anchor": "middle" }, tick);
    }
    element(svg, "text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" },
      `${groups.metrics[metric.value].title} (${percent ? "%" : unit}), 95 % interval`);
    rows.names.forEach((name, number) => {
      const y = 26 * number + 14, [value, from, to] = values[number].map((each) => each === null ? null : each * scale);
      element(svg, "text", { x: left - 8, y: y + 4, "text-anchor": "end" }, `${name} (n = ${rows.n[number]})`);
      if (value === null || Number.isNaN(value)) {
        element(svg, "text", { x: left + 6, y: y + 4, class: "soft" }, "too few faces");
        return;
      }
      if (from !== null && to !== null)
        element(svg, "line", { x1: across(from), x2: across(to), y1: y, y2: y, class: "interval" });
      const dot = element(svg, "circle", { cx: across(value), cy: y, r: 4.5, class: "dot" });
      const ends = from === null ? "" : ` (${from.toFixed(1)} to ${to.toFixed(1)})`;
      element(dot, "title", {}, `${name}: ${value.toFixed(percent ? 1 : 2)}${ends}, n = ${rows.n[number]}`);
      element(svg, "text", { x: right + 8, y: y + 4 }, value.toFixed(percent ? 1 : 2));
    });
  }
  draw();
}

for (const plain of document.querySelectorAll(".plain")) plain.hidden = true;
for (const active of document.querySelectorAll(".active")) active.hidden = false;
if (data.points) errorExplorer(data.points);
if (data.groups) groupChart(data.groups);
