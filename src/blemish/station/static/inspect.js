import { $, element, number } from "./shared.js";
import { api, attempt, calmly, count, dropZone, facts, isImage, KIND, key, listen, onClick, onSubmit, product, say, t, timed, verdictWords } from "./station.js";
import { show } from "./stage.js";

const own = `/v1/products/${product.id}`;
const STRIP = 50;
let latest = [], pinned = null;  // a result that was chosen in the strip

function showOne(one) {
  const box = $("verdict-box");
  box.className = `verdict ${KIND[one.decision]}`;
  $("verdict").textContent = verdictWords(one.decision);
  const regions = one.regions.length ? ` · ${t("number_regions", { number: one.regions.length })}` : "";
  const kept = one.links.picture ? "" : ` · ${t("not_kept")}`;
  $("verdict-facts").textContent = `${t("score")} ${number(one.score)} · ${t("limits", { review: number(one.review_threshold), defect: number(one.defect_threshold) })}${regions} · ${one.name} · ${timed(one.created_at)}${kept}`;
  show({ picture: one.links.picture && `${one.links.picture}?side=1200`, map: one.links.map, width: one.width, height: one.height, level: one.pixel_threshold, isMarked: one.decision !== "good", alt: one.name });
}

function showStrip() {
  const items = latest.map((one) => {
    const frame = element("span", { class: "frame" });
    if (one.links.picture) frame.append(element("img", { src: `${one.links.picture}?side=160`, alt: "", loading: "lazy" }));
    const isShown = one.id === (pinned ?? latest[0]).id;
    return element("li", {}, element("button", { type: "button", class: `of-strip ${KIND[one.decision]}`, "aria-pressed": String(isShown), "aria-label": `${one.name}: ${verdictWords(one.decision)}, ${timed(one.created_at)}`, onclick: () => { pinned = one === latest[0] ? null : one; showStrip(); showOne(one); } }, frame));
  });
  $("strip").replaceChildren(...items);
}

async function refresh() {
  const [list, counters] = await Promise.all([api("GET", `${own}/inspections?limit=${STRIP}`), api("GET", `${own}/counters`)]);
  const isNew = list[0]?.id !== latest[0]?.id;
  latest = list;
  if (latest.length) {
    showStrip();
    if (isNew && !pinned) showOne(latest[0]);
  }
  $("counters").replaceChildren(...facts([
    [t("inspected"), count(counters.inspected)],
    [t("verdict_good"), count(counters.good), "right"],
    [t("verdict_review"), count(counters.review), "review"],
    [t("verdict_defect"), count(counters.defect), "wrong"],
    [t("per_minute"), count(counters.per_minute)],
    [t("latency"), counters.p95 == null ? "–" : `${count(Math.round(1000 * counters.p95))}\u00a0ms`],
  ]));
}

if ($("drop")) dropZone($("drop"), async (files, progress) => {
  let done = 0, unrecorded = 0;
  const problems = [];
  const sendOne = async (file) => {
    const form = new FormData();
    form.append("image", file, file.name);
    for (;;) {
      try {
        const found = await api("POST", `${own}/inspect?source=page`, form);
        unrecorded += found.id === null;
        return;
      } catch (error) {
        if (error.status !== 429) { problems.push(error.message); return; }
        await new Promise((go) => setTimeout(go, 1000));
      }
    }
  };
  const waiting = files.filter(isImage), total = waiting.length;
  const work = async () => { for (let file; (file = waiting.shift());) { await sendOne(file); progress((done += 1) / total); } };
  pinned = null;
  await Promise.all([work(), work(), work()]);
  const words = [t("sent_inspected", { number: done - problems.length })];
  if (total < files.length) words.push(t("sent_others", { number: files.length - total }));
  if (unrecorded) words.push(t("sent_unrecorded", { number: unrecorded }));
  return [...words, ...problems.slice(0, 1)].join(" ");
}, { archives: false });

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("board").requestFullscreen?.();
}
onClick("full", fullScreen);
addEventListener("keydown", (event) => { if (key(event, "f")) fullScreen(); });
document.addEventListener("fullscreenchange", () => { $("full-words").textContent = t(document.fullscreenElement ? "leave_full_screen" : "full_screen"); });

async function showWatch() {
  if (!$("watch")) return;
  const found = await api("GET", `${own}/watch`);
  if (found.path && document.activeElement !== $("watch-path")) $("watch-path").value = found.path;
  $("watch-path").disabled = Boolean(found.path);
  $("watch-button").textContent = t(found.path ? "stop" : "start");
  $("watch-button").dataset.running = found.path ? "yes" : "";
  $("watch-problem").hidden = !found.problem;
  $("watch-problem").textContent = found.problem ?? "";
}
onSubmit("watch", async () => {
  if ($("watch-button").dataset.running) await api("DELETE", `${own}/watch`);
  else await api("PUT", `${own}/watch`, { path: $("watch-path").value });
  say(t("saved"));
  await showWatch();
});

const soon = calmly(() => attempt(refresh), 300);
listen({ inspection: soon, decision: soon, model: soon });
attempt(refresh);
attempt(showWatch);
