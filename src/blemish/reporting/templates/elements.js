// Elements of the page and numbers in words; the station uses them, too.
const $ = (id) => document.getElementById(id);

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

// The number with few significant digits, in exponential notation if very large or small; with the page's decimal point.
const POINT = new Intl.NumberFormat(document.documentElement.lang || "en").format(0.5)[1];
function number(value, digits = 4) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return (size >= 1e5 || size < 1e-3 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)))).replace(".", POINT);
}
const several = (count, one, more = `${one}s`) => `${count} ${count === 1 ? one : more}`;
const rate = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);
