// All images of one method on one category, sorted and filtered.
const shows = { outcome: "all", defect: "all" };
const FILTERS = data.labelled
  ? { all: "All", missed: "Missed", false_alarms: "False alarms", found: "Found", passed: "Passed" }
  : { all: "All", defects: "Defects", good: "Good" };
const PAGE = 300;
let room = PAGE;  // images that are laid out; a page of thousands would be slow to draw
let listed = [];  // the images as they are shown, in their order

for (const [name, title] of Object.entries(FILTERS)) {
  $("filters").append(element("button", { type: "button", "data-filter": name, onclick: () => { shows.outcome = name; room = PAGE; showGallery(); } }, title, element("b")));
}

function chosenImages() {
  const order = { high: (a, b) => b.score - a.score, low: (a, b) => a.score - b.score, path: (a, b) => a.path.localeCompare(b.path) }[$("sort").value];
  return part().images
    .filter((image) => shows.outcome === "all" || outcome(image) === shows.outcome)
    .filter((image) => shows.defect === "all" || image.defect === shows.defect)
    .sort((a, b) => order(a, b) || a.path.localeCompare(b.path));
}

const cards = new Map();  // image -> its card, made once
function cardOf(image) {
  if (!cards.has(image)) {
    const frame = element("span", { class: "frame" });
    if (image.picture != null) frame.append(element("img", { src: data.pictures[image.picture], alt: "", loading: "lazy", decoding: "async" }));
    const stem = element("span", { class: "stem", title: image.path }, element("bdi", {}, data.labelled ? image.path.split("/").at(-1) : image.path));
    const type = data.labelled ? [element("span", { class: "type" }, image.defect)] : [];
    const words = element("span", { class: "words" }, ...type, element("span", { class: "outcome" }), element("span", { class: "score" }, number(image.score)), stem);
    cards.set(image, element("li", {}, element("button", { type: "button", class: "card", onclick: () => openViewer(image) }, frame, words)));
  }
  return cards.get(image);
}

function showGallery() {
  $("gallery").hidden = !part();
  if (!part()) return;
  const counts = { all: part().images.length, ...countsAt(part().images) };
  for (const button of $("filters").children) {
    button.setAttribute("aria-pressed", String(button.dataset.filter === shows.outcome));
    button.lastChild.textContent = counts[button.dataset.filter];
  }
  listed = chosenImages();
  const items = listed.slice(0, room).map((image) => {
    const item = cardOf(image), card = item.firstChild, result = outcome(image);
    card.classList.toggle("is-wrong", isMarked(image));
    card.querySelector(".outcome").textContent = OUTCOMES[result];
    card.setAttribute("aria-label", `${data.labelled ? `${image.defect}, ` : ""}score ${number(image.score)}, ${OUTCOMES[result]}, ${image.path}`);
    showMapOn(item, image);
    return item;
  });
  $("cards").replaceChildren(...items);
  const left = listed.length - items.length;
  $("shown-count").textContent = `${listed.length} of ${several(part().images.length, "image")}`;
  $("more").hidden = left <= 0;
  $("more").textContent = `Show ${Math.min(left, PAGE)} more of ${left}`;
}

function showMapOn(item, image) {
  const frame = item.querySelector(".frame"), there = frame.querySelector("canvas");
  if (!$("gallery-maps").checked || image.map == null) return there?.remove();
  if (there) return;
  const canvas = element("canvas");
  frame.append(canvas);
  const own = part();
  mapOf(image, own).then((map) => { paint(canvas, map, own, "inferno"); canvas.style.opacity = 0.6; });
}

function showTypes() {
  shows.defect = "all";
  room = PAGE;
  if (part()) fill($("defect"), [["all", "all types"], ...typesOf(part().images).map((type) => [type, type])], "all");
}

$("defect").addEventListener("change", (event) => { shows.defect = event.target.value; room = PAGE; showGallery(); });
$("more").addEventListener("click", () => { room += PAGE; showGallery(); });
for (const name of ["sort", "gallery-maps"]) $(name).addEventListener("change", showGallery);
let waiting = 0;
on("part", () => { showTypes(); showGallery(); });
on("threshold", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(showGallery); });
