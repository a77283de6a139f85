// The data and state of the page, and helpers that all its parts use.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const data = read("data"), files = read("files"), colourTables = read("colour-tables");
const OUTLINE_UNITS = 4096;

const state = { category: data.categories[0], method: data.methods[0] };
const chosen = new Map();  // part -> the threshold that the user chose
const listeners = { part: [], threshold: [] };

const partOf = (method, category) => data.parts.find((p) => p.method === method && p.category === category && p.images.length > 0);
const part = () => partOf(state.method, state.category);
const threshold = () => chosen.get(part()) ?? part().threshold.value;
const on = (event, listener) => listeners[event].push(listener);
const emit = (event) => listeners[event].forEach((listener) => listener());

function setThreshold(value) {
  if (!Number.isFinite(value)) return;
  chosen.set(part(), value);
  emit("threshold");
}

// The threshold is null if the model is not calibrated and the user chose none; then no image is a defect.
const isDefect = (image) => threshold() !== null && image.score > threshold() && image.has_region !== false;
const OUTCOMES = data.labelled
  ? { found: "found", missed: "missed", false_alarms: "false alarm", passed: "passed" }
  : { defects: "defect", good: "good", undecided: "not decided" };
function outcome(image) {
  if (!data.labelled) return threshold() === null ? "undecided" : isDefect(image) ? "defects" : "good";
  if (image.label) return isDefect(image) ? "found" : "missed";
  return isDefect(image) ? "false_alarms" : "passed";
}
// Whether to highlight an image: a wrong decision or, without labels, a defect.
const isMarked = (image) => (data.labelled ? image.label !== isDefect(image) : isDefect(image));

function countsAt(images) {
  const counts = Object.fromEntries(Object.keys(OUTCOMES).map((name) => [name, 0]));
  for (const image of images) counts[outcome(image)] += 1;
  return counts;
}

function save(name, content, type) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
});

for (const button of document.querySelectorAll("[data-file]")) {
  button.addEventListener("click", () => save(button.dataset.file, files[button.dataset.file], "text/plain"));
}
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", () => {
    const code = button.parentElement.querySelector("code");
    getSelection().selectAllChildren(code);
    navigator.clipboard?.writeText(code.textContent).then(() => { button.textContent = "Copied"; }, () => {});
  });
}
