import { $, canvasOf, drawn, element, line, number, svg, text, ticks } from "./shared.js";
import { api, attempt, calmly, count, facts, language, listen, percent, product, t } from "./station.js";

const KINDS = [["good", "right"], ["review", "review"], ["defect", "wrong"]];
let report = null;

function chart(width) {
  const rows = report?.rows ?? [], left = 48, right = 8, top = 12, bottom = 30, height = 240;
  const found = canvasOf(width, height, t("verdicts_over_time"));
  const highest = Math.max(1, ...rows.map((row) => row.inspected)), y = (value) => height - bottom - (value / highest) * (height - top - bottom);
  for (const value of ticks(0, highest, 4).filter(Number.isInteger)) found.append(line(left, y(value), width - right, y(value), "grid"), text(left - 6, y(value) + 4, count(value), { "text-anchor": "end" }));
  if (!rows.length) found.append(text(width / 2, height / 2, t("no_inspections"), { "text-anchor": "middle" }));
  const step = (width - left - right) / Math.max(rows.length, 1), wide = Math.min(48, step * 0.8), every = Math.ceil(90 / step);
  rows.forEach((row, index) => {
    const centre = left + step * (index + 0.5);
    let below = 0;
    for (const [name, kind] of KINDS) {
      const bar = svg("rect", { x: centre - wide / 2, y: y(below + row[name]), width: wide, height: y(below) - y(below + row[name]), class: kind }, svg("title", {}, `${row.label}: ${count(row[name])} ${t(`verdict_${name}`)}`));
      if (row[name]) found.append(bar);
      below += row[name];
    }
    if (index % every === 0) found.append(text(centre, height - 10, row.label, { "text-anchor": "middle" }));
  });
  return found;
}
const redraw = drawn($("chart"), chart);

function showTable() {
  const titles = ["when", "inspected", "yield", "rejects", "reviews", "false_rejects", "latency"];
  const cells = (row) => [row.label, count(row.inspected), percent(row.inspected ? row.good / row.inspected : null), count(row.defect), count(row.review), row.reviewed_rejects ? `${count(row.false_rejects)} ${t("of")} ${count(row.reviewed_rejects)}` : "–", row.p95 == null ? "–" : `${count(Math.round(1000 * row.p95))}\u00a0ms`];
  const head = element("tr", {}, ...titles.map((name) => element("th", { scope: "col" }, t(name))));
  $("table").replaceChildren(element("thead", {}, head), element("tbody", {}, ...report.rows.toReversed().map((row) => element("tr", {}, ...cells(row).map((value, index) => element(index ? "td" : "th", {}, value))))));
}
async function refresh() {
  const day = $("until").valueAsDate, end = day && new Date(day.getUTCFullYear(), day.getUTCMonth(), day.getUTCDate() + 1);
  const path = `/v1/products/${product.id}/report?days=${$("period").value}&by=${$("by").value}${end ? `&until=${end / 1000}` : ""}`;
  report = await api("GET", path);
  $("csv").href = path.replace("/report?", "/report.csv?");
  $("pdf").href = `${path.replace("/report?", "/report.pdf?")}&language=${language}`;
  const { total } = report;
  $("totals").replaceChildren(...facts([
    [t("inspected"), count(total.inspected)],
    [t("yield"), percent(total.inspected ? total.good / total.inspected : null)],
    [t("rejects"), count(total.defect), "wrong"],
    [t("reviews"), count(total.review), "review"],
    [t("false_rejects"), total.reviewed_rejects ? `${count(total.false_rejects)} ${t("of")} ${count(total.reviewed_rejects)}` : "–"],
    [t("missed"), total.reviewed_good ? `${count(total.missed)} ${t("of")} ${count(total.reviewed_good)}` : "–"],
    [t("latency"), total.p95 == null ? "–" : `${count(Math.round(1000 * total.p95))}\u00a0ms`],
  ]));
  const { drift } = report;
  $("drift").textContent = drift.p_value == null ? t("drift_few", { number: drift.needed }) : t(drift.is_drift ? "drift_found" : "drift_none", { p: number(drift.p_value, 2), number: count(drift.num_images), held: count(drift.num_held_out), level: percent(drift.level) });
  $("drift").className = drift.is_drift ? "problem" : "";
  showTable();
  redraw();
}
for (const id of ["period", "until", "by"]) $(id).addEventListener("change", () => attempt(refresh));
listen({ inspection: calmly(() => attempt(refresh), 3000), review: calmly(() => attempt(refresh), 1000) });
attempt(refresh);
