// The decisions of one method on one category: scores, threshold, confusion matrix, curves.
const BINS = 48, ROW = 46, GOOD = "good";
const LONG_TAIL = 8;  // the highest score over the lowest, from which on the axis is logarithmic unless one says otherwise
const logarithmic = new Map();  // part -> whether its axis was made so

const typesOf = (images) => [...new Set(images.map((image) => image.defect))].sort((a, b) => (b === GOOD) - (a === GOOD) || a.localeCompare(b));
// Between scores and shares of the axis, 0 to 1; it holds all scores, and the threshold that the page opens with.
function scoreScale() {
  const values = [...part().images.map((image) => image.score), ...part().held_out, part().threshold.value];
  const lowest = Math.min(...values), highest = Math.max(...values);
  const logs = lowest > 0 && (logarithmic.get(part()) ?? highest / lowest > LONG_TAIL);
  const [into, back] = logs ? [Math.log, Math.exp] : [(value) => value, (value) => value];
  const margin = (into(highest) - into(lowest) || 1) * 0.04, low = into(lowest) - margin, high = into(highest) + margin;
  return { possible: lowest > 0, logs, low: back(low), high: back(high), share: (value) => (logs && value <= 0 ? -1 : (into(value) - low) / (high - low)), value: (share) => back(low + share * (high - low)) };
}
const marksOf = ({ logs, low, high }, count) => {
  const round = logs ? [1, 2, 5].flatMap((m) => Array.from({ length: 40 }, (_, k) => m * 10 ** (k - 20))).filter((v) => v >= low && v <= high) : [];
  return round.length > 2 ? round : ticks(low, high, count);
};

let scale = null;
function histogram(width) {
  const images = part().images, types = typesOf(images), axis = scoreScale();
  const narrow = width < 520, left = narrow ? 18 : 128, right = narrow ? 18 : 92, top = 34, bottom = 34, row = narrow ? ROW + 18 : ROW;
  const height = top + types.length * row + bottom;
  const x = (value) => left + axis.share(value) * (width - left - right);
  scale = { ...axis, left, right, width };
  const chart = canvasOf(width, height, "Histogram of scores, a row for good images and for each type of defect");
  for (const value of marksOf(axis, narrow ? 4 : 7)) {
    chart.append(line(x(value), top, x(value), height - bottom, "grid"), text(x(value), height - bottom + 16, number(value), { "text-anchor": "middle" }));
  }
  chart.append(text(left + (width - left - right) / 2, height - 3, axis.logs ? "score, logarithmic" : "score", { "text-anchor": "middle" }));
  const binned = types.map((type) => bins(images.filter((image) => image.defect === type), axis));
  types.forEach((type, index) => {
    const own = images.filter((image) => image.defect === type), base = top + (index + 1) * row - 4;
    const most = Math.max(...binned[index].map((bin) => bin.total)), unit = (ROW - 14) / Math.max(most, 2);
    chart.append(line(left, base, width - right, base, "axis"));
    const bar = (width - left - right) / BINS;
    binned[index].forEach((bin, at) => {
      for (const [kind, count, below] of [["right", bin.total - bin.wrong, 0], ["wrong", bin.wrong, bin.total - bin.wrong]]) {
        if (count) chart.append(svg("rect", { x: left + at * bar + 0.5, y: base - (below + count) * unit, width: bar - 1, height: count * unit, class: kind }));
      }
    });
    const wrong = own.filter(isWrong).length, what = own[0].label ? "missed" : "false alarms";
    const words = `${own.length} ${type}`, short = words.length > 20 ? `${words.slice(0, 19)}…` : words;
    chart.append(narrow ? text(left - 10, base - ROW + 6, words, { class: "strong" }) : text(left - 10, base - 8, short, { class: "strong", "text-anchor": "end" }));
    chart.append(text(width, narrow ? base - ROW + 6 : base - 8, wrong ? `${wrong} ${what}` : what === "missed" ? "all found" : "none wrong", { "text-anchor": "end", class: wrong ? "wrong-text" : "" }));
  });
  for (const score of part().held_out) chart.append(line(x(score), top - 6, x(score), top, "held"));
  const nominal = part().threshold;
  if (nominal.calibrated) {
    const label = nominal.rate === null ? "set by hand" : `calibrated, ${number(100 * nominal.rate, 2)} %`;
    const near = x(nominal.value) > width - 130;
    chart.append(line(x(nominal.value), top - 10, x(nominal.value), height - bottom, "nominal"));
    chart.append(text(x(nominal.value) + (near ? -6 : 6), 12, label, { class: "nominal-text", "text-anchor": near ? "end" : "start" }));
  }
  const at = Math.min(Math.max(x(threshold()), left - 4), width - right + 4);
  const handle = svg("g", { class: "handle" }, line(at, top - 14, at, height - bottom, "threshold"), svg("path", { d: `M${at - 6} ${top - 22}h12v8l-6 7l-6 -7z`, class: "grip" }), svg("rect", { x: at - 14, y: 0, width: 28, height, class: "reach" }));
  chart.append(handle);
  return chart;
}

function bins(images, axis) {
  const found = Array.from({ length: BINS }, () => ({ total: 0, wrong: 0 }));
  for (const image of images) {
    const bin = found[Math.min(BINS - 1, Math.floor(axis.share(image.score) * BINS))];
    bin.total += 1;
    bin.wrong += isWrong(image);
  }
  return found;
}

let dragging = false;
const dragTo = (event) => {
  const box = $("histogram").getBoundingClientRect(), inner = scale.width - scale.left - scale.right;
  const share = Math.min(1, Math.max(0, (event.clientX - box.left - scale.left) / inner));
  setThreshold(scale.value(share));
};
$("histogram").addEventListener("pointerdown", (event) => {
  dragging = true;
  $("histogram").setPointerCapture(event.pointerId);
  dragTo(event);
});
$("histogram").addEventListener("pointermove", (event) => dragging && dragTo(event));
for (const end of ["pointerup", "pointercancel"]) $("histogram").addEventListener(end, () => { dragging = false; });

function showDecision() {
  const counts = countsAt(part().images);
  for (const name of Object.keys(OUTCOMES)) $(name).textContent = counts[name];
  const share = (some, all) => (all ? `${some} of ${all} (${rate(some / all)})` : "no such images");
  $("miss-rate").textContent = share(counts.missed, counts.missed + counts.found);
  $("alarm-rate").textContent = share(counts.false_alarms, counts.false_alarms + counts.passed);
  const called = counts.found + counts.false_alarms, defects = counts.found + counts.missed;
  $("precision").textContent = rate(called ? counts.found / called : null);
  $("recall").textContent = rate(defects ? counts.found / defects : null);
  if (document.activeElement !== $("threshold")) $("threshold").value = number(threshold(), 6);
  $("threshold-slider").value = 1000 * scoreScale().share(threshold());
  const { text: words } = part().threshold, moved = chosen.has(part()) && threshold() !== part().threshold.value;
  $("threshold-text").textContent = moved ? `Moved. The page opens at ${number(part().threshold.value, 5)}, ${words}.` : `${words[0].toUpperCase()}${words.slice(1)}.`;
  $("reset").disabled = !moved;
}
$("threshold").addEventListener("input", (event) => event.target.value !== "" && setThreshold(event.target.valueAsNumber));
$("threshold").addEventListener("blur", showPartDecision);
$("threshold-slider").addEventListener("input", (event) => setThreshold(scoreScale().value(event.target.valueAsNumber / 1000)));
$("logarithmic").addEventListener("change", (event) => { logarithmic.set(part(), event.target.checked); tell("threshold"); });
$("reset").addEventListener("click", () => { chosen.delete(part()); tell("threshold"); });
function showPartDecision() { if (part()) showDecision(); }

// ROC and precision over recall of the images, at every distinct score.
function imageCurves(images) {
  const ordered = [...images].sort((a, b) => b.score - a.score), defects = images.filter((image) => image.label).length, good = images.length - defects;
  if (!defects || !good) return null;
  const roc = [[0, 0]], pr = [];
  let found = 0, alarms = 0;
  ordered.forEach((image, index) => {
    image.label ? (found += 1) : (alarms += 1);
    if (index + 1 < ordered.length && ordered[index + 1].score === image.score) return;
    roc.push([alarms / good, found / defects]);
    pr.push([found / defects, found / (found + alarms)]);
  });
  return { roc, pr: [[0, pr[0][1]], ...pr] };
}

const zipped = (xs, ys) => xs.map((x, index) => [x, ys[index]]);
function curvesOf(some) {
  const images = imageCurves(some.images), pixels = some.points;
  return {
    "images: ROC": images && { points: images.roc, x: "false-positive rate", y: "recall", chance: true },
    "images: precision": images && { points: images.pr, x: "recall", y: "precision" },
    "pixels: ROC": pixels && { points: [[0, 0], ...zipped(pixels.fpr, pixels.recall), [1, 1]], x: "false-positive rate", y: "recall", chance: true },
    "pixels: precision": pixels && { points: zipped(pixels.recall, pixels.precision), x: "recall", y: "precision" },
    "pixels: PRO": pixels && { points: [[0, 0], ...zipped(pixels.fpr, pixels.overlap), [1, 1]], x: "false-positive rate", y: "region overlap", chance: true },
  };
}

function operatingPoint(name) {
  const counts = countsAt(part().images), pixels = part().points;
  const recall = counts.found / (counts.found + counts.missed), called = counts.found + counts.false_alarms;
  if (name === "images: ROC") return [counts.false_alarms / (counts.false_alarms + counts.passed), recall];
  if (name === "images: precision") return [recall, called ? counts.found / called : 1];
  const level = part().pixel_threshold.value, after = pixels.threshold.findIndex((value) => value <= level);
  const at = after < 0 ? pixels.threshold.length - 1 : after;
  if (name === "pixels: ROC") return [pixels.fpr[at], pixels.recall[at]];
  if (name === "pixels: precision") return [pixels.recall[at], pixels.precision[at]];
  return [pixels.fpr[at], pixels.overlap[at]];
}

function curve(name, width) {
  const own = curvesOf(part())[name], left = 40, bottom = 34, top = 8, right = 8, side = Math.min(width, 260), height = side;
  const x = (value) => left + value * (side - left - right), y = (value) => height - bottom - value * (height - bottom - top);
  const chart = canvasOf(side, height, name);
  if (!own) {
    chart.append(text(side / 2, height / 2, "not applicable", { "text-anchor": "middle" }));
    return chart;
  }
  for (const value of [0, 0.5, 1]) {
    chart.append(line(x(0), y(value), x(1), y(value), "grid"), line(x(value), y(0), x(value), y(1), "grid"));
    chart.append(text(left - 6, y(value) + 4, String(value), { "text-anchor": "end" }), text(x(value), height - bottom + 15, String(value), { "text-anchor": "middle" }));
  }
  chart.append(text(x(0.5), height - 4, own.x, { "text-anchor": "middle" }), text(0, 0, own.y, { transform: `translate(12 ${y(0.5)}) rotate(-90)`, "text-anchor": "middle" }));
  if (own.chance) chart.append(line(x(0), y(0), x(1), y(1), "chance"));
  const placed = (points) => points.map(([a, b]) => [x(a), y(b)]);
  for (const method of data.methods) {
    const other = method !== state.method && partOf(method, state.category), its = other && curvesOf(other)[name];
    if (its) chart.append(path(placed(its.points), "other"));
  }
  chart.append(path(placed(own.points), "curve"));
  const [a, b] = operatingPoint(name);
  if (Number.isFinite(a) && Number.isFinite(b)) chart.append(svg("circle", { cx: x(a), cy: y(b), r: 5, class: "dot" }));
  return chart;
}

const redrawCurves = ["images: ROC", "images: precision", "pixels: ROC", "pixels: precision", "pixels: PRO"].map((name) => {
  const holder = element("div", { class: "chart" }), buttons = element("span", { class: "save" });
  $("curves").append(element("figure", {}, element("figcaption", {}, element("span", {}, name), buttons), holder));
  saveButtons(buttons, () => holder.querySelector("svg"), () => `${name.replace(": ", "-")}-${state.category}-${state.method}`);
  return drawn(holder, (width) => (part() ? curve(name, width) : svg("svg", { width: 0, height: 0 })));
});
const redrawHistogram = drawn($("histogram"), (width) => (part() ? histogram(width) : svg("svg", { width: 0, height: 0 })));

function showThreshold() {
  if (!part()) return;
  showDecision();
  redrawHistogram();
  redrawCurves.slice(0, 2).forEach((redraw) => redraw());
}

function showPart() {
  $("nothing").hidden = Boolean(part());
  $("inspected").hidden = !part();
  if (!part()) return;
  $("logarithmic").checked = scoreScale().logs;
  $("logarithmic").disabled = !scoreScale().possible;
  document.querySelector(".held").hidden = part().held_out.length === 0;
  $("pixel-level").textContent = number(part().pixel_threshold.value);
  $("pixel-text").textContent = part().pixel_threshold.text;
  showThreshold();
  redrawCurves.slice(2).forEach((redraw) => redraw());
}

fill($("category"), data.categories.map((name) => [name, name]), state.category);
fill($("method"), data.methods.map((name) => [name, name]), state.method);
for (const name of ["category", "method"]) {
  $(name).addEventListener("change", (event) => { state[name] = event.target.value; tell("part"); });
}
on("part", showPart);
on("threshold", showThreshold);
