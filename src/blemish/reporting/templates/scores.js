// The scores of one method on one category, and the threshold.
const GOOD = "good";
const logarithmic = new Map();  // part -> whether the user chose a logarithmic axis

const typesOf = (images) => [...new Set(images.map((image) => image.defect))].sort((a, b) => (b === GOOD) - (a === GOOD) || a.localeCompare(b));
// The axis includes all scores and the initial threshold.
function scoreScale() {
  const values = [...part().images.map((image) => image.score), ...part().held_out, part().threshold.value ?? part().images[0].score];
  return scaleOf(values, logarithmic.get(part()));
}

// The rows of the histogram: label, [score, colour] per image, summary, number of highlighted images.
const KINDS = ["right", "wrong"];
const kindOf = (isWrong) => KINDS[Number(isWrong)];
function labelledRows() {
  return typesOf(part().images).map((type) => {
    const own = part().images.filter((image) => image.defect === type), marked = own.filter(isMarked).length;
    const wrong = own[0].label ? `${marked} missed` : several(marked, "false alarm"), right = own[0].label ? "all found" : "no false alarm";
    return { words: `${own.length} ${type}`, scores: own.map((image) => [image.score, kindOf(isMarked(image))]), verdict: marked ? wrong : right, marked };
  });
}
function unlabelledRows() {
  const images = part().images, held = part().held_out.map((score) => [score, kindOf(threshold() !== null && score > threshold())]);
  const above = held.filter(([, kind]) => kind === "wrong").length, marked = images.filter(isMarked).length;
  const rows = [{ words: several(images.length, "image"), scores: images.map((image) => [image.score, kindOf(isMarked(image))]), verdict: threshold() === null ? "not decided" : several(marked, "defect"), marked }];
  if (held.length) rows.unshift({ words: `${held.length} held-out good`, scores: held, verdict: `${above} above`, marked: above });
  return rows;
}

let scale = null;
function histogram(width) {
  const rows = data.labelled ? labelledRows() : unlabelledRows(), axis = scoreScale(), label = data.labelled ? "Histogram of scores, a row for good images and for each type of defect" : "Histogram of scores, a row for held-out good images and one for the images that were inspected";
  const { chart, x, left, right, top, bottom, height } = scoreHistogram(width, rows, axis, KINDS, { label, score: "score", logarithmic: "score, logarithmic" }, data.labelled ? 0 : 34);
  scale = { ...axis, left, right, width };
  if (data.labelled) for (const score of part().held_out) chart.append(line(x(score), top - 6, x(score), top, "held"));
  const nominal = part().threshold;
  if (nominal.calibrated) {
    const label = nominal.rate === null ? "set by hand" : `calibrated, ${number(100 * nominal.rate, 2)} %`;
    const near = x(nominal.value) > width - 130;
    chart.append(line(x(nominal.value), top - 10, x(nominal.value), height - bottom, "nominal"));
    chart.append(text(x(nominal.value) + (near ? -6 : 6), 12, label, { class: "nominal-text", "text-anchor": near ? "end" : "start" }));
  }
  const at = threshold() === null ? width - right + 4 : Math.min(Math.max(x(threshold()), left - 4), width - right + 4);
  chart.append(handleAt(at, top, bottom, height));
  return chart;
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
