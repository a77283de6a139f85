import { $, number } from "./shared.js";
import { api, attempt, calmly, count, KIND, key, listen, onClick, product, say, stageWords, t, timed, verdictWords } from "./station.js";
import { changedCards, compareTable } from "./compare.js";
import { show } from "./stage.js";

const own = `/v1/products/${product.id}`;
let current = null, isBusy = false;

function showQueue(queue) {
  current = queue.next;
  $("waiting").textContent = count(queue.waiting);
  $("nothing").hidden = Boolean(current);
  $("reviewing").hidden = !current;
  showLearnable(queue.learnable);
  if (!current) return;
  $("reason").value = "";
  $("verdict-box").className = `verdict ${KIND[current.decision]}`;
  $("shown").textContent = verdictWords(current.decision);
  $("verdict-facts").textContent = `${t("score")} ${number(current.score)} · ${t("limits", { review: number(current.review_threshold), defect: number(current.defect_threshold) })} · ${current.name} · ${timed(current.created_at)}${current.links.picture ? "" : ` · ${t("not_kept")}`}`;
  show({ picture: current.links.picture && `${current.links.picture}?side=1200`, map: current.links.map, width: current.width, height: current.height, level: current.pixel_threshold, isMarked: true, alt: current.name });
}
const next = async (after = 0) => showQueue(await api("POST", `${own}/review-queue?after=${after}`));

async function answer(verdict) {
  if (!current || isBusy) return;
  isBusy = true;
  try {
    await api("POST", `/v1/inspections/${current.id}/review`, { verdict, reason: $("reason").value });
    say(t("answered", { verdict: t(`answer_${verdict}`) }));
  } catch (error) {
    if (error.status !== 409) throw error;
    say(t("taken"), true);
  } finally {
    isBusy = false;
  }
  await next();
}
for (const button of document.querySelectorAll(".answer")) button.addEventListener("click", () => attempt(() => answer(button.dataset.verdict)));
async function undo() {
  await api("POST", `${own}/reviews/undo`);
  say(t("undone"));
  await next();
}
onClick("undo", undo);
onClick("skip", () => next(current?.id));
addEventListener("keydown", (event) => {
  const verdict = { g: "good", d: "defect", u: "unsure" }[event.key.toLowerCase()];
  if (verdict && key(event, event.key.toLowerCase())) attempt(() => answer(verdict));
  else if (key(event, "z")) attempt(undo);
  else if (key(event, "r")) { event.preventDefault(); $("reason").focus(); }
  else if (key(event, "arrowright") && !event.target.matches("input")) attempt(() => next(current?.id));
  else if (event.key === "Escape" && event.target.matches("input")) event.target.blur();
});

// Learning from what was called good.
let job = null, candidate = null;
function showLearnable(number_) {
  if (!$("learn-box")) return;
  $("learn-how").textContent = number_ ? t("learn_how", { number: count(number_) }) : t("learn_none");
  $("learn").disabled = !number_ || Boolean(job) || Boolean(candidate);
}
async function showCandidate() {
  if (!$("learn-box")) return;
  const models = await api("GET", `${own}/models`);
  candidate = models.find((one) => one.state === "candidate") ?? null;
  $("candidate").hidden = !candidate;
  if (!candidate) return;
  $("learn").disabled = true;
  const found = await api("GET", `/v1/models/${candidate.parent}/compare/${candidate.id}`);
  compareTable($("candidate-table"), found, [t("before"), t("after")]);
  changedCards($("candidate-changed"), found.changed);
}
async function follow() {
  if (!job) return;
  const found = await api("GET", `/v1/jobs/${job.id}`);
  $("learn-bar").hidden = found.state !== "running";
  $("learn-state").textContent = found.state === "running" ? stageWords(found.stage) : found.error ?? t(`job_${found.state}`);
  if (found.state === "running") return;
  job = null;
  await showCandidate();
}
onClick("learn", async () => {
  job = await api("POST", `${own}/learn`);
  $("learn-bar").hidden = false;
  await follow();
});
const settle = (action, words) => async () => {
  await api("POST", `/v1/models/${candidate.id}/${action}`);
  say(t(words));
  $("learn-state").textContent = "";
  await showCandidate();
  await next();
};
onClick("accept", settle("accept", "accepted"));
onClick("discard", settle("discard", "discarded"));

const soon = calmly(() => { if (!current) attempt(next); }, 1000);
listen({ inspection: soon, review: soon, job: calmly(() => attempt(follow)) });
attempt(async () => { await showCandidate(); await next(); });
