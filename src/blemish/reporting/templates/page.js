// What every part of the page needs: the data, the state, small helpers.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const data = read("data"), files = read("files"), colourTables = read("colour-tables");
const $ = (id) => document.getElementById(id);
const OUTLINE_UNITS = 4096;

const state = { category: data.categories[0], method: data.methods[0] };
const chosen = new Map();  // part -> the threshold that was chosen for it
const listeners = { part: [], threshold: [] };

const partOf = (method, category) => data.parts.find((p) => p.method === method && p.category === category && p.images.length > 0);
const part = () => partOf(state.method, state.category);
const threshold = () => chosen.get(part()) ?? part().threshold.value;
const on = (event, listener) => listeners[event].push(listener);
const tell = (event) => listeners[event].forEach((listener) => listener());

function setThreshold(value) {
  if (!Number.isFinite(value)) return;
  chosen.set(part(), value);
  tell("threshold");
}

// A threshold of null, where the model is not calibrated and none was chosen, decides nothing.
const isDefect = (image) => threshold() !== null && image.score > threshold() && image.has_region !== false;
const OUTCOMES = data.labelled
  ? { found: "found", missed: "missed", false_alarms: "false alarm", passed: "passed" }
  : { defects: "defect", good: "good", undecided: "not decided" };
function outcome(image) {
  if (!data.labelled) return threshold() === null ? "undecided" : isDefect(image) ? "defects" : "good";
  if (image.label) return isDefect(image) ? "found" : "missed";
  return isDefect(image) ? "false_alarms" : "passed";
}
// What is to be seen first: a wrong decision or, where nobody knows which are wrong, a defect.
const isMarked = (image) => (data.labelled ? image.label !== isDefect(image) : isDefect(image));

function countsAt(images) {
  const counts = Object.fromEntries(Object.keys(OUTCOMES).map((name) => [name, 0]));
  for (const image of images) counts[outcome(image)] += 1;
  return counts;
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function fill(select, values, current) {
  select.replaceChildren(...values.map(([value, text]) => element("option", { value, selected: value === current }, text)));
}

// As many digits as tell one score from another, never more than are worth reading.
function number(value, digits = 4) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
}
const several = (count, one, more = `${one}s`) => `${count} ${count === 1 ? one : more}`;
const rate = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);

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
