// The decisions on labelled images: confusion matrix, curves.
function showDecision() {
  const counts = countsAt(part().images);
  for (const name of Object.keys(OUTCOMES)) $(name).textContent = counts[name];
  const share = (some, all) => (all ? `${some} of ${all} (${rate(some / all)})` : "no images");
  $("miss-rate").textContent = share(counts.missed, counts.missed + counts.found);
  $("alarm-rate").textContent = share(counts.false_alarms, counts.false_alarms + counts.passed);
  const positives = counts.found + counts.false_alarms, defects = counts.found + counts.missed;
  $("precision").textContent = rate(positives ? counts.found / positives : null);
  $("recall").textContent = rate(defects ? counts.found / defects : null);
}

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
  const recall = counts.found / (counts.found + counts.missed), positives = counts.found + counts.false_alarms;
  if (name === "images: ROC") return [counts.false_alarms / (counts.false_alarms + counts.passed), recall];
  if (name === "images: precision") return [recall, positives ? counts.found / positives : 1];
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

function showCounts() {
  if (!part()) return;
  showDecision();
  redrawCurves.slice(0, 2).forEach((redraw) => redraw());
}

function showPart() {
  if (!part()) return;
  $("held").hidden = part().held_out.length === 0;
  $("pixel-level").textContent = number(part().pixel_threshold.value);
  $("pixel-text").textContent = part().pixel_threshold.text;
  showCounts();
  redrawCurves.slice(2).forEach((redraw) => redraw());
}

on("part", showPart);
on("threshold", showCounts);
