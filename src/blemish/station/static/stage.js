// The stage: an image with its map, and the contour of its regions.
import { $, contour, paintMap, svg, valuesOf } from "./shared.js";
import { colours, key } from "./station.js";

let shown = null;  // {map, level, boxes, size, isMarked}

// Shows an image: addresses of picture and map, its size, the level of the contour, and whether regions are marked.
export async function show({ picture, map, width, height, level, isMarked, alt, range }) {
  const mine = (shown = { map: null, level, isMarked, range });
  $("stage").style.aspectRatio = `${width} / ${height}`;
  $("stage").style.setProperty("--ratio", width / height);
  const image = $("stage-image");
  image.alt = alt;
  image.src = picture ?? "data:,";
  image.hidden = !picture;
  draw();
  if (!map) return;
  try {
    const answer = await fetch(map);
    if (!answer.ok) return;
    const limits = [Number(answer.headers.get("X-Map-Low")), Number(answer.headers.get("X-Map-High"))];
    const grey = new Image(), address = URL.createObjectURL(await answer.blob());
    grey.src = address;
    await grey.decode();
    URL.revokeObjectURL(address);
    mine.map = valuesOf(grey, limits);
  } catch {
    return;  // the page was left meanwhile
  }
  if (shown === mine) draw();
}

function draw() {
  const canvas = $("stage-map"), marks = $("stage-marks"), map = shown?.map;
  canvas.hidden = !map || !$("show-map").checked;
  marks.replaceChildren();
  if (!map) return;
  const sorted = Float64Array.from(map.values).sort(), middle = sorted[Math.floor(sorted.length / 2)];
  // Dark up to the middle of this map, bright from above the level on: a good image stays dark.
  const bright = Math.max(sorted.at(-1), shown.level + 0.5 * Math.abs(shown.level - middle), middle + 1e-9);
  paintMap(canvas, map, [middle, bright], colours[$("map-colours").value], true);
  canvas.style.opacity = $("opacity").value / 100;
  if (!shown.isMarked || !$("show-regions").checked) return;
  marks.setAttribute("viewBox", "0 0 1000 1000");
  marks.setAttribute("preserveAspectRatio", "none");
  const d = contour(map, shown.level).map(([[x1, y1], [x2, y2]]) => `M${1000 * x1} ${1000 * y1}L${1000 * x2} ${1000 * y2}`).join("");
  marks.append(svg("path", { d, class: "contour-back" }), svg("path", { d, class: "contour-line" }));
}

for (const id of ["show-map", "show-regions", "opacity", "map-colours"]) $(id)?.addEventListener("input", draw);
addEventListener("keydown", (event) => {
  if (key(event, "m")) $("show-map")?.click();
  if (key(event, "c")) $("show-regions")?.click();
});
