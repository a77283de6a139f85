import { $, element, number } from "./shared.js";
import { api, attempt, calmly, count, dated, facts, listen, percent, product, say, t } from "./station.js";
import { changedCards, compareTable } from "./compare.js";

const own = `/v1/products/${product.id}`;
const link = (words, href) => element("a", { class: "quiet", href, download: true }, words);
const action = (words, act, kind = "quiet") => element("button", { type: "button", class: kind, onclick: (event) => attempt(act, event.currentTarget) }, words);

async function change(model, what, words) {
  await api("POST", `/v1/models/${model.id}/${what}`);
  say(t(words));
  await refresh();
}
function actions(model, active) {
  const found = [action(t("lineage"), () => showLineage(model))];
  if (model.state === "ready" && !model.is_active) found.push(action(t("activate"), () => change(model, "activate", "activated")));
  if (model.state === "candidate") found.push(action(t("accept"), () => change(model, "accept", "accepted")), action(t("discard"), () => change(model, "discard", "discarded")));
  if (model.state === "ready") {
    const formats = Object.keys(model.exports);
    for (const [format, title] of [["onnx", "ONNX"], ["openvino", "OpenVINO"]]) {
      if (!formats.includes(format)) found.push(action(t("export_model", { format: title }), () => follow(api("POST", `/v1/models/${model.id}/export`, { format }))));
    }
    found.push(link(t("download"), `/v1/models/${model.id}/file`));
  }
  if (active && model.id !== active.id && model.state !== "discarded") found.push(action(t("compare"), () => compare(active, model)));
  return found;
}
function row(model, active) {
  const stateWords = model.is_active ? t("active") : t(`state_${model.state}`);
  return element("tr", {},
    element("th", { scope: "row" }, String(model.number)),
    element("td", {}, element("span", { class: `chip state-${model.is_active ? "running" : model.state}` }, stateWords)),
    element("td", {}, model.lineage.method ?? "–"),
    element("td", { "data-title": t("good_images") }, count(model.lineage.num_good ?? 0)),
    element("td", {}, `${dated(model.created_at)}, ${model.created_by}`),
    element("td", {}, element("span", { class: "row wrap end" }, ...actions(model, active))));
}
let job = null;
async function follow(started) {
  job = started ? await started : job && (await api("GET", `/v1/jobs/${job.id}`));
  if (!job) return;
  $("job-state").textContent = `${t(`kind_${job.kind}`)}: ${job.error ?? t(`job_${job.state}`)}`;
  if (job.state === "running") return;
  job = null;
  await refresh();
}
$("import").addEventListener("change", () => attempt(async () => {
  const [file] = $("import").files;
  $("import").value = "";
  if (file) await follow(api("POST", `${own}/models?name=${encodeURIComponent(file.name)}`, file, { "Content-Type": "application/zip" }));
}));
async function refresh() {
  const models = await api("GET", `${own}/models`), active = models.find((one) => one.is_active);
  $("models").hidden = !models.length;
  $("no-models").hidden = models.length > 0;
  $("models").querySelector("tbody").replaceChildren(...models.map((one) => row(one, active)));
}
// What an export was compared by.
function parity({ parity: found }) {
  return found ? t("parity", { score: percent(found.score_error, 3), map: percent(found.map_error, 3) }) : "–";
}
function showLineage(model) {
  const { lineage, decision } = model;
  $("lineage").hidden = false;
  $("lineage-title").textContent = t("lineage_of", { number: model.number });
  $("lineage-facts").replaceChildren(...facts([
    [t("method"), lineage.method ?? "–"],
    [t("good_images"), count(lineage.num_good ?? 0)],
    [t("held_out"), count(lineage.num_held_out ?? 0)],
    [t("learned_reviews"), count((lineage.reviews ?? []).length)],
    [t("settings"), Object.entries(lineage.settings ?? {}).map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ") || t("automatic")],
    ...Object.entries(model.exports).map(([name, found]) => [name.toUpperCase(), parity(found)]),
    [t("thresholds"), decision ? `${number(decision.review_threshold)} / ${number(decision.defect_threshold)}` : "–"],
  ]));
  $("lineage-choices").replaceChildren(...(lineage.choices ?? []).filter(Boolean).map((line) => element("li", {}, line)));
  $("lineage").scrollIntoView({ block: "nearest" });
}
async function compare(before, after) {
  const found = await api("GET", `/v1/models/${before.id}/compare/${after.id}`);
  $("compare").hidden = false;
  $("compare-title").textContent = t("compare_of", { before: before.number, after: after.number });
  compareTable($("compare-table"), found, [`${t("version")} ${before.number}`, `${t("version")} ${after.number}`]);
  changedCards($("compare-changed"), found.changed);
  $("compare").scrollIntoView({ block: "nearest" });
}
const soon = calmly(() => attempt(refresh));
listen({ model: soon, decision: soon, job: calmly(() => attempt(follow)) });
attempt(refresh);
