// Charts saved as SVG or PNG.
const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "fill-opacity", "font-family", "font-size", "font-weight"];
// The chart as a standalone SVG file with the styles of the page.
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
