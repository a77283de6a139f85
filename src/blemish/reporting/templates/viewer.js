// The viewer of one image: anomaly map, contour, mask, reconstruction, regions.
const decoded = new Map();  // index of a map -> promise of its raw values

// The values of an image's map, {width, height, values}, computed from the grey levels of its PNG.
function mapOf(image, own) {
  if (!decoded.has(image.map)) {
    const picture = new Image();
    picture.src = data.pictures[image.map];
    decoded.set(image.map, picture.decode().then(() => valuesOf(picture, own.map_range)));
  }
  return decoded.get(image.map);
}

const paint = (canvas, map, own, colours) => paintMap(canvas, map, own.display_range, colourTables[colours]);

const REGIONS = 5;
const levels = new Map();  // part -> the pixel threshold that the user chose
const level = () => levels.get(part()) ?? part().pixel_threshold.value;
let current = null, currentMap = null;

function openViewer(image) {
  current = image;
  if (!$("viewer").open) $("viewer").showModal();
  const [height, width] = image.size ?? [1, 1], own = part();
  $("viewer").style.setProperty("--ratio", width / height);
  for (const stage of document.querySelectorAll(".stage")) stage.style.aspectRatio = `${width} / ${height}`;
  $("viewer-title").textContent = data.labelled ? image.defect : image.path.split("/").at(-1);
  $("viewer-path").textContent = image.path;
  $("viewer-path").hidden = $("viewer-title").textContent === image.path;
  $("viewer-image").src = image.picture == null ? "data:," : data.pictures[image.picture];
  $("viewer-image").alt = `The image ${image.path}`;
  $("viewer-image").hidden = image.picture == null;
  $("no-picture").hidden = image.picture != null;
  for (const control of document.querySelectorAll(".of-map")) control.hidden = image.map == null;
  $("rebuilt").hidden = image.reconstruction == null;
  if (image.reconstruction != null) $("viewer-rebuilt").src = data.pictures[image.reconstruction];
  $("viewer-position").textContent = `${listed.indexOf(image) + 1} of ${listed.length}`;
  $("viewer-score").textContent = number(image.score, 5);
  $("viewer-threshold").textContent = threshold() === null ? "none" : number(threshold(), 5);
  $("viewer-outcome").textContent = OUTCOMES[outcome(image)];
  $("viewer-outcome").classList.toggle("is-wrong", isMarked(image));
  currentMap = null;
  showMarks();
  if (image.map == null) return;
  mapOf(image, own).then((map) => {
    if (current !== image) return;
    currentMap = map;
    showMap();
    showMarks();
  });
}

function showMap() {
  if (currentMap) paint($("viewer-map"), currentMap, part(), $("colours").value);
  $("viewer-map").hidden = !currentMap || !$("show-map").checked;
  $("viewer-map").style.opacity = $("opacity").value / 100;
}

function showMarks() {
  const [height, width] = current.size ?? [1, 1], unit = OUTLINE_UNITS / Math.max(height, width), [w, h] = [width * unit, height * unit];
  const marks = $("viewer-marks");
  marks.setAttribute("viewBox", `0 0 ${w} ${h}`);
  marks.setAttribute("preserveAspectRatio", "none");
  marks.replaceChildren();
  if ($("show-contour").checked && currentMap) {
    const d = contour(currentMap, level()).map(([[x1, y1], [x2, y2]]) => `M${x1 * w} ${y1 * h}L${x2 * w} ${y2 * h}`).join("");
    marks.append(svg("path", { d, class: "contour-line" }));
  }
  if (current.map == null) {
    const boxes = (current.regions ?? []).map(({ box: [x, y, across, down] }) => `M${x * unit} ${y * unit}h${across * unit}v${down * unit}h${-across * unit}Z`);
    marks.append(svg("path", { d: boxes.join(""), class: "contour-line" }));
  }
  if ($("show-truth").checked && current.outline?.length) {
    const d = current.outline.map((flat) => `M${flat.map((value, index) => (index % 2 ? `${value}` : `${index ? "L" : ""}${value} `)).join("")}Z`).join("");
    marks.append(svg("path", { d, class: "truth-back" }), svg("path", { d, class: "truth-line" }));
  }
  const [low, high] = part().map_range ?? [0, 1];
  $("level").value = (1000 * (level() - low)) / (high - low);
  $("level-value").textContent = number(level(), 3);
  showRegions(width, height);
}

// At the initial level the stored regions of the full-size map are shown; at others, regions of the map at display size.
function regionsShown(width, height) {
  if (current.regions && level() === part().pixel_threshold.value) {
    const rows = current.regions.map(({ box: [x, y, w, h], area, peak }) => ({ x, y, w, h, area, peak }));
    return { rows, count: current.num_regions, of: "from the full-size map" };
  }
  if (current.map == null) return { rows: [], count: 0, of: "unknown without a map" };
  const found = currentMap ? regionsOf(currentMap, level()) : [];
  const across = currentMap ? width / currentMap.width : 1, down = currentMap ? height / currentMap.height : 1;
  const rows = found.map((region) => ({
    x: Math.round(region.left * across), y: Math.round(region.top * down),
    w: Math.round((region.right - region.left + 1) * across), h: Math.round((region.bottom - region.top + 1) * down),
    area: Math.round(region.area * across * down), peak: region.peak,
  }));
  return { rows, count: found.length, of: "from the map at display size" };
}

function showRegions(width, height) {
  const { rows: found, count, of } = regionsShown(width, height);
  const cells = (values) => element("tr", {}, ...values.map((value) => element("td", {}, String(value))));
  const rows = found.slice(0, REGIONS).map(({ x, y, w, h, area, peak }, index) => cells([index + 1, `${x}, ${y}`, `${w} × ${h}`, area, number(peak, 3)]));
  if (!found.length) rows.push(element("tr", {}, element("td", { colspan: 5 }, "none")));
  if (count > REGIONS) rows.push(element("tr", {}, element("td", { colspan: 5 }, `and ${several(count - REGIONS, "smaller peak")}`)));
  $("regions").replaceChildren(...rows);
  $("regions-of").textContent = of;
}

function step(by) {
  const next = listed[listed.indexOf(current) + by];
  if (next) openViewer(next);
}

$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => $("viewer").close());
$("viewer").addEventListener("click", (event) => event.target === $("viewer") && $("viewer").close());
$("viewer").addEventListener("close", () => cards.get(current)?.firstChild.focus());
for (const name of ["show-map", "opacity", "colours"]) $(name).addEventListener("input", showMap);
for (const name of ["show-truth", "show-contour"]) $(name).addEventListener("change", showMarks);
$("level").addEventListener("input", (event) => {
  const [low, high] = part().map_range ?? [0, 1];
  levels.set(part(), low + (event.target.valueAsNumber / 1000) * (high - low));
  showMarks();
});
const KEYS = { m: "show-map", g: "show-truth", c: "show-contour" };
$("viewer").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const onSlider = event.target.matches("input[type=range], select");
  if (event.key === "ArrowLeft" && !onSlider) step(-1);
  else if (event.key === "ArrowRight" && !onSlider) step(1);
  else if (KEYS[event.key] && $(KEYS[event.key]).offsetParent) $(KEYS[event.key]).click();
  else return;
  event.preventDefault();
});

emit("part");
