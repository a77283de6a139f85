// One image large: map, contour, true mask, reconstruction, regions.
const decoded = new Map();  // index of a map -> promise of its raw values

// The raw values of an image's map, {width, height, values}: grey levels on the page, scaled back.
function mapOf(image, own) {
  if (!decoded.has(image.map)) {
    const picture = new Image();
    picture.src = data.pictures[image.map];
    decoded.set(image.map, picture.decode().then(() => {
      const canvas = element("canvas", { width: picture.naturalWidth, height: picture.naturalHeight });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(picture, 0, 0);
      const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data, [low, high] = own.map_range;
      const values = Float64Array.from({ length: canvas.width * canvas.height }, (_, index) => low + (pixels[4 * index] / 255) * (high - low));
      return { width: canvas.width, height: canvas.height, values };
    }));
  }
  return decoded.get(image.map);
}

// Colours from dark to bright over what good images seldom exceed to what few pixels reach.
function paint(canvas, map, own, colours) {
  canvas.width = map.width;
  canvas.height = map.height;
  const context = canvas.getContext("2d"), picture = context.createImageData(map.width, map.height);
  const [dark, bright] = own.display_range, table = colourTables[colours];
  map.values.forEach((value, index) => {
    const share = Math.min(1, Math.max(0, (value - dark) / (bright - dark)));
    picture.data.set(table[Math.round(share * (table.length - 1))], 4 * index);
    picture.data[4 * index + 3] = 255;
  });
  context.putImageData(picture, 0, 0);
}

// The line along which the map crosses the level, by marching squares, in shares of the map's sides.
function contour(map, level) {
  const { width, height, values } = map, parts = [];
  const value = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? -Infinity : values[y * width + x]) - level;
  const between = (a, b) => (Number.isFinite(a) && Number.isFinite(b) ? a / (a - b) : 0.5);
  for (let y = -1; y < height; y += 1) {
    for (let x = -1; x < width; x += 1) {
      const [a, b, c, d] = [value(x, y), value(x + 1, y), value(x + 1, y + 1), value(x, y + 1)];
      const crossings = [];
      if (a > 0 !== b > 0) crossings.push([x + between(a, b), y]);
      if (b > 0 !== c > 0) crossings.push([x + 1, y + between(b, c)]);
      if (c > 0 !== d > 0) crossings.push([x + between(d, c), y + 1]);
      if (d > 0 !== a > 0) crossings.push([x, y + between(a, d)]);
      for (let i = 0; i + 1 < crossings.length; i += 2) parts.push([crossings[i], crossings[i + 1]]);
    }
  }
  const clip = (share) => Math.min(1, Math.max(0, share));
  return parts.map((ends) => ends.map(([x, y]) => [clip((x + 0.5) / width), clip((y + 0.5) / height)]));
}

// The 8-connected parts of the map above the level, the highest peak first.
function regionsOf(map, level) {
  const { width, height, values } = map, seen = new Uint8Array(values.length), found = [];
  for (let start = 0; start < values.length; start += 1) {
    if (seen[start] || values[start] <= level) continue;
    const region = { left: width, top: height, right: 0, bottom: 0, area: 0, peak: -Infinity }, queue = [start];
    seen[start] = 1;
    while (queue.length) {
      const at = queue.pop(), x = at % width, y = (at - x) / width;
      region.left = Math.min(region.left, x); region.right = Math.max(region.right, x);
      region.top = Math.min(region.top, y); region.bottom = Math.max(region.bottom, y);
      region.area += 1; region.peak = Math.max(region.peak, values[at]);
      for (let ny = Math.max(0, y - 1); ny <= Math.min(height - 1, y + 1); ny += 1) {
        for (let nx = Math.max(0, x - 1); nx <= Math.min(width - 1, x + 1); nx += 1) {
          const next = ny * width + nx;
          if (!seen[next] && values[next] > level) { seen[next] = 1; queue.push(next); }
        }
      }
    }
    found.push(region);
  }
  return found.sort((a, b) => b.peak - a.peak);
}

const REGIONS = 5;
const levels = new Map();  // part -> the level that was chosen for its maps
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

// The regions at the level that the page opens with are those of the whole map; at any other, of the map as it is shown.
function regionsShown(width, height) {
  if (current.regions && level() === part().pixel_threshold.value) {
    const rows = current.regions.map(({ box: [x, y, w, h], area, peak }) => ({ x, y, w, h, area, peak }));
    return { rows, count: current.num_regions, of: "of the whole map" };
  }
  if (current.map == null) return { rows: [], count: 0, of: "not known here" };
  const found = currentMap ? regionsOf(currentMap, level()) : [];
  const across = currentMap ? width / currentMap.width : 1, down = currentMap ? height / currentMap.height : 1;
  const rows = found.map((region) => ({
    x: Math.round(region.left * across), y: Math.round(region.top * down),
    w: Math.round((region.right - region.left + 1) * across), h: Math.round((region.bottom - region.top + 1) * down),
    area: Math.round(region.area * across * down), peak: region.peak,
  }));
  return { rows, count: found.length, of: "measured on the map at display size" };
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

tell("part");
