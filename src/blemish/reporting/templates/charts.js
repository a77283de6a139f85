// Charts as SVG, drawn at the width they have, and saved as SVG or PNG.
const SVG = "http://www.w3.org/2000/svg";
function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
const text = (x, y, content, attributes = {}) => svg("text", { x, y, ...attributes }, content);
const line = (x1, y1, x2, y2, kind) => svg("line", { x1, y1, x2, y2, class: kind });
const path = (points, kind) => svg("path", { d: points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join(""), class: kind });
const canvasOf = (width, height, label) => svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });

// Round values that divide a range, about `count` of them.
function ticks(low, high, count = 5) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return found;
}

const redraws = [];
function drawn(holder, draw) {
  const redraw = () => holder.clientWidth && holder.replaceChildren(draw(holder.clientWidth));
  redraws.push(redraw);
  return redraw;
}
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  requestAnimationFrame(() => redraws.forEach((redraw) => redraw()));
});

const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "fill-opacity", "font-family", "font-size", "font-weight"];
// The chart as a file of its own: the page's style is written into it.
function standalone(chart) {
  const copy = chart.cloneNode(true), originals = chart.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((node, index) => {
    const style = getComputedStyle(originals[index]);
    for (const name of STYLES) node.style.setProperty(name, style.getPropertyValue(name));
  });
  copy.querySelectorAll(".reach").forEach((node) => node.remove());
  const ground = getComputedStyle(document.documentElement).getPropertyValue("--panel");
  copy.prepend(svg("rect", { width: "100%", height: "100%", fill: ground }));
  copy.setAttribute("xmlns", SVG);
  return new XMLSerializer().serializeToString(copy);
}

function savePng(chart, name) {
  const image = new Image(), scale = 3, { width: w, height: h } = chart.getBoundingClientRect();
  image.onload = () => {
    const canvas = element("canvas", { width: w * scale, height: h * scale });
    canvas.getContext("2d").drawImage(image, 0, 0, w * scale, h * scale);
    canvas.toBlob((blob) => save(`${name}.png`, blob));
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(chart))}`;
}

function saveButtons(holder, chartOf, name) {
  holder.replaceChildren(
    element("button", { type: "button", class: "link", "aria-label": "Save this figure as SVG", onclick: () => save(`${name()}.svg`, standalone(chartOf()), "image/svg+xml") }, "SVG"),
    " ",
    element("button", { type: "button", class: "link", "aria-label": "Save this figure as PNG", onclick: () => savePng(chartOf(), name()) }, "PNG"),
  );
}
for (const figure of document.querySelectorAll("figure.panel")) {
  const holder = figure.querySelector(".chart");
  saveButtons(figure.querySelector(".save"), () => holder.querySelector("svg"), () => `${holder.id}-${state.category}-${state.method}`);
}
