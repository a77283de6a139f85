// The overview: which metric is shown, the bars, and the accuracy beside the cost.
const metric = () => data.metrics.find((m) => m.name === $("metric").value);
const average = (name) => data.overview[name].at(-1).cells.map((cell) => cell.value);

function bars(width) {
  const rows = data.overview[metric().name].slice(0, -1), means = average(metric().name);
  const values = [...means, ...rows.flatMap((row) => row.cells.map((cell) => cell.value))].filter((v) => v !== null);
  const low = Math.max(0, Math.floor(Math.min(...values, 0.5) * 10 - 0.5) / 10);
  const left = 34, top = 24, height = 240, step = (width - left) / data.methods.length, wide = Math.min(72, step * 0.6);
  const crowded = step < 7 * Math.max(...data.methods.map((method) => method.length)), bottom = crowded ? 40 : 26;
  const y = (value) => height - bottom - ((value - low) / (1 - low)) * (height - top - bottom);
  const chart = canvasOf(width, height, `${metric().title} per method: average and categories`);
  for (const value of ticks(low, 1, 5)) {
    chart.append(line(left, y(value), width, y(value), "grid"), text(left - 6, y(value) + 4, value.toFixed(1), { "text-anchor": "end" }));
  }
  data.methods.forEach((method, index) => {
    const centre = left + step * (index + 0.5), mean = means[index];
    chart.append(text(centre, height - (crowded && index % 2 === 0 ? 22 : 8), method, { "text-anchor": "middle", class: "strong" }));
    if (mean === null) return chart.append(text(centre, y((1 + low) / 2), "n/a", { "text-anchor": "middle" }));
    chart.append(svg("rect", { x: centre - wide / 2, y: y(mean), width: wide, height: Math.max(0, y(low) - y(mean)), rx: 2, style: `fill: var(--m${index % 8}); fill-opacity: .8` }));
    chart.append(text(centre, 14, mean.toFixed(3), { "text-anchor": "middle", class: "strong bold" }));
    const own = rows.map((row) => [row.category, row.cells[index].value]).filter(([, value]) => value !== null);
    own.forEach(([category, value], at) => {
      const x = centre + (own.length > 1 ? (at / (own.length - 1) - 0.5) * wide * 0.7 : 0);
      chart.append(svg("circle", { cx: x, cy: y(value), r: 3, class: "point" }, svg("title", {}, document.createTextNode(`${category}: ${value.toFixed(3)}`))));
    });
  });
  return chart;
}

if (data.metrics.length) {
  const redrawBars = drawn($("bars"), bars);
  const showMetric = () => {
    for (const table of document.querySelectorAll("[data-metric]")) table.hidden = table.dataset.metric !== metric().name;
    $("bars-title").textContent = metric().title;
    $("cost-metric").textContent = metric().title;
    average(metric().name).forEach((value, index) => { document.querySelector(`[data-cost="${index}"]`).textContent = value === null ? "n/a" : value.toFixed(3); });
    redrawBars();
  };
  $("metric").addEventListener("change", showMetric);
  $("latex").addEventListener("click", () => save(`${metric().name}.tex`, files[`${metric().name}.tex`], "text/plain"));
  showMetric();
}
