// The scores of one method on one category, and the threshold.
const BINS = 48, ROW = 46, GOOD = "good";
const LONG_TAIL = 8;  // ratio of the highest to the lowest score from which on the axis is logarithmic by default
const logarithmic = new Map();  // part -> whether the user chose a logarithmic axis

const typesOf = (images) => [...new Set(images.map((image) => image.defect))].sort((a, b) => (b === GOOD) - (a === GOOD) || a.localeCompare(b));
// Converts between scores and positions on the axis, 0 to 1. It includes all scores and the initial threshold.
function scoreScale() {
  const values = [...part().images.map((image) => image.score), ...part().held_out, part().threshold.value ?? part().images[0].score];
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

// The rows of the histogram: label, [score, whether highlighted] per image, summary, number of highlighted images.
function labelledRows() {
  return typesOf(part().images).map((type) => {
    const own = part().images.filter((image) => image.defect === type), marked = own.filter(isMarked).length;
    const wrong = own[0].label ? `${marked} missed` : several(marked, "false alarm"), right = own[0].label ? "all found" : "no false alarm";
    return { words: `${own.length} ${type}`, scores: own.map((image) => [image.score, isMarked(image)]), verdict: marked ? wrong : right, marked };
  });
}
function unlabelledRows() {
  const images = part().images, held = part().held_out.map((score) => [score, threshold() !== null && score > threshold()]);
  const above = held.filter(([, isAbove]) => isAbove).length, marked = images.filter(isMarked).length;
  const rows = [{ words: several(images.length, "image"), scores: images.map((image) => [image.score, isMarked(image)]), verdict: threshold() === null ? "not decided" : several(marked, "defect"), marked }];
  if (held.length) rows.unshift({ words: `${held.length} held-out good`, scores: held, verdict: `${above} above`, marked: above });
  return rows;
}

let scale = null;
function histogram(width) {
  const rows = data.labelled ? labelledRows() : unlabelledRows(), axis = scoreScale();
  const narrow = width < 520, left = narrow ? 18 : 128, right = narrow ? 18 : 92, top = 34, bottom = 34, few = data.labelled ? 0 : 34, row = (narrow ? ROW + 18 : ROW) + few;
  const height = top + rows.length * row + bottom;
  const x = (value) => left + axis.share(value) * (width - left - right);
  scale = { ...axis, left, right, width };
  const chart = canvasOf(width, height, data.labelled ? "Histogram of scores, a row for good images and for each type of defect" : "Histogram of scores, a row for held-out good images and one for the images that were inspected");
  for (const value of marksOf(axis, narrow ? 4 : 7)) {
    chart.append(line(x(value), top, x(value), height - bottom, "grid"), text(x(value), height - bottom + 16, number(value), { "text-anchor": "middle" }));
  }
  chart.append(text(left + (width - left - right) / 2, height - 3, axis.logs ? "score, logarithmic" : "score", { "text-anchor": "middle" }));
  rows.forEach(({ words, scores, verdict, marked }, index) => {
    const base = top + (index + 1) * row - 4, binned = bins(scores, axis);
    const unit = (ROW - 14 + few) / Math.max(...binned.map((bin) => bin.total), 2);
    chart.append(line(left, base, width - right, base, "axis"));
    const bar = (width - left - right) / BINS;
    binned.forEach((bin, at) => {
      for (const [kind, count, below] of [["right", bin.total - bin.wrong, 0], ["wrong", bin.wrong, bin.total - bin.wrong]]) {
        if (count) chart.append(svg("rect", { x: left + at * bar + 0.5, y: base - (below + count) * unit, width: bar - 1, height: count * unit, class: kind }));
      }
    });
    const short = words.length > 20 ? `${words.slice(0, 19)}…` : words;
    chart.append(narrow ? text(left - 10, base - ROW - few + 6, words, { class: "strong" }) : text(left - 10, base - 8, short, { class: "strong", "text-anchor": "end" }));
    // Not at the very edge: a scroll bar that appears later takes some of the width.
    const place = narrow ? { x: width - 18, y: base - ROW - few + 6, anchor: "end" } : { x: width - right + 10, y: base - 8, anchor: "start" };
    chart.append(text(place.x, place.y, verdict, { "text-anchor": place.anchor, class: marked ? "wrong-text" : "" }));
  });
  if (data.labelled) for (const score of part().held_out) chart.append(line(x(score), top - 6, x(score), top, "held"));
  const nominal = part().threshold;
  if (nominal.calibrated) {
    const label = nominal.rate === null ? "set by hand" : `calibrated, ${number(100 * nominal.rate, 2)} %`;
    const near = x(nominal.value) > width - 130;
    chart.append(line(x(nominal.value), top - 10, x(nominal.value), height - bottom, "nominal"));
    chart.append(text(x(nominal.value) + (near ? -6 : 6), 12, label, { class: "nominal-text", "text-anchor": near ? "end" : "start" }));
  }
  const at = threshold() === null ? width - right + 4 : Math.min(Math.max(x(threshold()), left - 4), width - right + 4);
  const handle = svg("g", { class: "handle" }, line(at, top - 14, at, height - bottom, "threshold"), svg("path", { d: `M${at - 6} ${top - 22}h12v8l-6 7l-6 -7z`, class: "grip" }), svg("rect", { x: at - 14, y: 0, width: 28, height, class: "reach" }));
  chart.append(handle);
  return chart;
}

function bins(scores, axis) {
  const found = Array.from({ length: BINS }, () => ({ total: 0, wrong: 0 }));
  for (const [score, isWrong] of scores) {
    const bin = found[Math.min(BINS - 1, Math.floor(axis.share(score) * BINS))];
    bin.total += 1;
    bin.wrong += isWrong;
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

function showControls() {
  const opens = part().threshold.value, moved = chosen.has(part()) && threshold() !== opens;
  if (document.activeElement !== $("threshold")) $("threshold").value = threshold() === null ? "" : number(threshold(), 6);
  $("threshold-slider").value = threshold() === null ? 1000 : 1000 * scoreScale().share(threshold());
  const { text: words } = part().threshold, before = opens === null ? `Initially: ${words}.` : `The initial threshold is ${number(opens, 5)}: ${words}.`;
  $("threshold-text").textContent = moved ? `Moved. ${before}` : `${words[0].toUpperCase()}${words.slice(1)}.`;
  $("reset").disabled = !moved;
}
$("threshold").addEventListener("input", (event) => event.target.value !== "" && setThreshold(event.target.valueAsNumber));
$("threshold").addEventListener("blur", () => part() && showControls());
$("threshold-slider").addEventListener("input", (event) => setThreshold(scoreScale().value(event.target.valueAsNumber / 1000)));
$("logarithmic").addEventListener("change", (event) => { logarithmic.set(part(), event.target.checked); emit("threshold"); });
$("reset").addEventListener("click", () => { chosen.delete(part()); emit("threshold"); });

const redrawHistogram = drawn($("histogram"), (width) => (part() ? histogram(width) : svg("svg", { width: 0, height: 0 })));

function showScale() {
  $("nothing").hidden = Boolean(part());
  $("inspected").hidden = !part();
  if (!part()) return;
  $("logarithmic").checked = scoreScale().logs;
  $("logarithmic").disabled = !scoreScale().possible;
}
function showThreshold() {
  if (!part()) return;
  showControls();
  redrawHistogram();
}
on("part", showScale);
on("part", showThreshold);
on("threshold", showThreshold);

for (const [name, values] of [["category", data.categories], ["method", data.methods]]) {
  fill($(name), values.map((value) => [value, value]), state[name]);
  $(name).addEventListener("change", (event) => { state[name] = event.target.value; emit("part"); });
}
