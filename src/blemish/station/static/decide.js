import { $, drawn, element, handleAt, number, scaleOf, scoreHistogram, svg } from "./shared.js";
import { api, attempt, count, dated, KIND, onClick, onSubmit, percent, product, say, state, t, verdictWords } from "./station.js";
import { show } from "./stage.js";

const { model, decisions } = state;
const active = model?.decision;
const VERDICTS = ["good", "review", "defect"];
let checks = [], logs, cell = null;
let chosen = active && { review: active.review_threshold, defect: active.defect_threshold, area: active.min_area };

function verdict(check) {
  if (chosen.area && !check.areas.some((area) => area >= chosen.area)) return "good";
  return check.score > chosen.defect ? "defect" : check.score > chosen.review ? "review" : "good";
}
const good = () => checks.filter((check) => !check.is_defect);
// The bound of conformal prediction on the share of good images above a threshold.
const promise = (level) => (1 + good().filter((check) => check.score > level).length) / (good().length + 1);
const observed = (level) => good().filter((check) => check.score > level).length;

function rows() {
  return [false, true].map((isDefect) => {
    const own = checks.filter((check) => check.is_defect === isDefect), wrong = own.filter((check) => verdict(check) === (isDefect ? "good" : "defect")).length;
    const words = t(isDefect ? "row_defective" : "row_held_out", { number: count(own.length) });
    return { words, scores: own.map((check) => [check.score, KIND[verdict(check)]]), verdict: t(isDefect ? "row_missed" : "row_false", { number: wrong }), marked: wrong };
  }).filter((row) => row.scores.length);
}

let measures = null;
function histogram(width) {
  const axis = scaleOf([...checks.map((check) => check.score), active.review_threshold, active.defect_threshold], logs);
  const found = scoreHistogram(width, rows(), axis, ["right", "review", "wrong"], { label: t("histogram"), score: t("score"), logarithmic: t("score_logarithmic") }, 24);
  measures = { ...axis, ...found };
  found.chart.setAttribute("role", "group");  // not an image: it has handles
  const { chart, x, left, right, top, bottom, height } = found, place = (level) => Math.min(Math.max(x(level), left - 4), width - right + 4);
  chart.append(svg("rect", { x: place(chosen.review), y: top, width: Math.max(0, place(chosen.defect) - place(chosen.review)), height: height - bottom - top, class: "between" }));
  for (const which of ["review", "defect"]) {
    const handle = handleAt(place(chosen[which]), top, bottom, height);
    handle.classList.add(`of-${which}`);
    handle.dataset.which = which;
    for (const [name, value] of Object.entries({ tabindex: 0, role: "slider", "aria-label": t(`${which}_threshold`), "aria-valuenow": chosen[which], "aria-valuetext": number(chosen[which]) })) handle.setAttribute(name, value);
    chart.append(handle);
  }
  return chart;
}
const redraw = model ? drawn($("histogram"), histogram) : null;

function set(which, value) {
  if (!Number.isFinite(value)) return;
  chosen[which] = value;
  if (which === "review") chosen.defect = Math.max(chosen.defect, value);
  if (which === "defect") chosen.review = Math.min(chosen.review, value);
  showAll();
}
let dragging = null;
const levelAt = (event) => {
  const box = $("histogram").getBoundingClientRect(), share = (event.clientX - box.left - measures.left) / (measures.width - measures.left - measures.right);
  return measures.value(Math.min(1, Math.max(0, share)));
};
if (model) {
  $("histogram").addEventListener("pointerdown", (event) => {
    const level = levelAt(event), far = (which) => Math.abs(measures.share(level) - measures.share(chosen[which]));
    const on = event.target.closest(".handle")?.dataset.which;
    dragging = far("review") === far("defect") ? on ?? "defect" : far("review") < far("defect") ? "review" : "defect";
    $("histogram").setPointerCapture(event.pointerId);
    set(dragging, level);
  });
  $("histogram").addEventListener("pointermove", (event) => dragging && set(dragging, levelAt(event)));
  for (const end of ["pointerup", "pointercancel"]) $("histogram").addEventListener(end, () => { dragging = null; });
  $("histogram").addEventListener("keydown", (event) => {
    const which = event.target.dataset?.which, by = { ArrowLeft: -0.005, ArrowRight: 0.005, PageDown: -0.05, PageUp: 0.05 }[event.key];
    if (!which || !by) return;
    event.preventDefault();
    set(which, measures.value(measures.share(chosen[which]) + by));
    $("histogram").querySelector(`[data-which="${which}"]`).focus();
  });
}

function showControls() {
  for (const [id, value] of [["review-threshold", Number(chosen.review.toPrecision(6))], ["defect-threshold", Number(chosen.defect.toPrecision(6))], ["min-area", chosen.area]]) {
    if (document.activeElement !== $(id)) $(id).value = value;
  }
  for (const which of ["review", "defect"]) {
    const level = chosen[which];
    $(`${which}-promise`).textContent = t("promise", { promised: percent(promise(level)), seen: observed(level), number: good().length });
  }
  const deciding = good().filter((check) => check.score > chosen.review).sort((a, b) => b.score - a.score).map((check) => check.name);
  $("support").textContent = deciding.length ? t("support", { names: deciding.slice(0, 5).join(", ") + (deciding.length > 5 ? " …" : "") }) : t("support_none");
  const isMoved = chosen.review !== active.review_threshold || chosen.defect !== active.defect_threshold || chosen.area !== active.min_area;
  $("apply-button").disabled = !isMoved;
  $("reset").disabled = !isMoved;
}

function showConfusion() {
  const body = [false, true].map((isDefect) => {
    const own = checks.filter((check) => check.is_defect === isDefect);
    const cells = VERDICTS.map((name) => {
      const some = own.filter((check) => verdict(check) === name), isWrong = name === (isDefect ? "good" : "defect");
      const isShown = cell && cell.isDefect === isDefect && cell.name === name;
      const button = element("button", { type: "button", "aria-pressed": String(Boolean(isShown)), "aria-label": `${t(isDefect ? "is_defective" : "is_good")}, ${verdictWords(name)}: ${some.length}`, onclick: () => { cell = isShown ? null : { isDefect, name }; showAll(); } }, count(some.length));
      return element("td", { class: name === "review" ? "review" : isWrong && some.length ? "wrong" : "right" }, button);
    });
    return element("tr", {}, element("th", { scope: "row" }, t(isDefect ? "is_defective" : "is_good")), ...cells);
  });
  const focused = [...$("confusion").querySelectorAll("button")].indexOf(document.activeElement);
  $("confusion").replaceChildren(...(checks.some((check) => check.is_defect) ? body : body.slice(0, 1)));
  $("confusion").querySelectorAll("button")[focused]?.focus();
}

const cards = new Map();
function card(check) {
  if (!cards.has(check)) {
    const frame = element("span", { class: "frame" }, element("img", { src: `/v1/checks/${check.id}/picture`, alt: "", loading: "lazy", decoding: "async" }));
    const words = element("span", { class: "words" }, element("span", { class: "type" }, t(check.is_defect ? "one_defective" : "one_good")), element("span", { class: "outcome" }), element("span", {}, number(check.score)), element("span", { class: "stem", title: check.name }, element("bdi", {}, check.name)));
    cards.set(check, element("li", {}, element("button", { type: "button", class: "card", onclick: () => view(check) }, frame, words)));
  }
  const made = cards.get(check), said = verdict(check);
  made.querySelector(".outcome").textContent = verdictWords(said);
  made.firstChild.classList.toggle("is-wrong", check.is_defect ? said === "good" : said === "defect");
  made.firstChild.classList.toggle("is-review", said === "review");
  return made;
}
function showCards() {
  const listed = checks.filter((check) => !cell || (check.is_defect === cell.isDefect && verdict(check) === cell.name)).sort((a, b) => b.score - a.score);
  $("images-count").textContent = cell ? `${t(cell.isDefect ? "is_defective" : "is_good")}, ${verdictWords(cell.name)}: ${count(listed.length)}` : count(listed.length);
  $("all-images").hidden = !cell;
  $("cards").replaceChildren(...listed.slice(0, 200).map(card));
}
function view(check) {
  const said = verdict(check);
  $("viewer-title").textContent = `${check.name}, ${t("score").toLowerCase()} ${number(check.score)}`;
  $("viewer-verdict").textContent = verdictWords(said);
  $("viewer-verdict").className = `chip ${KIND[said]}`;
  $("viewer").showModal();
  const image = cards.get(check).querySelector("img");
  show({ picture: image.src, map: `/v1/checks/${check.id}/map`, width: image.naturalWidth || 1, height: image.naturalHeight || 1, level: active.pixel_threshold, isMarked: said !== "good", alt: check.name });
}

function showAll() {
  showControls();
  showConfusion();
  redraw();
  showCards();
}
function showDecisions(list) {
  $("decisions").replaceChildren(...list.map((one) => {
    const back = element("button", { type: "button", class: "quiet", onclick: (event) => attempt(async () => { await api("POST", `/v1/decisions/${one.id}/apply`); location.reload(); }, event.target) }, t("put_back"));
    const words = element("span", {}, element("strong", {}, `${one.number}`), ` ${number(one.review_threshold)} / ${number(one.defect_threshold)}${one.min_area ? `, ${one.min_area} px` : ""}`, element("small", {}, ` ${one.created_by}, ${dated(one.created_at)}${one.note ? ` – ${one.note}` : ""}`));
    return element("li", {}, words, one.is_active ? element("span", { class: "chip state-ready" }, t("active")) : back);
  }));
}

if (model) {
  for (const which of ["review", "defect"]) $(`${which}-threshold`).addEventListener("input", (event) => event.target.value !== "" && set(which, event.target.valueAsNumber));
  $("min-area").addEventListener("input", (event) => { chosen.area = Math.max(0, Math.round(event.target.valueAsNumber || 0)); showAll(); });
  $("logarithmic").addEventListener("change", (event) => { logs = event.target.checked; redraw(); });
  $("model").addEventListener("change", (event) => location.assign(`/products/${product.id}/decide?model=${event.target.value}`));
  onClick("activate", async () => { await api("POST", `/v1/models/${model.id}/activate`); say(t("activated")); location.reload(); });
  onClick("all-images", () => { cell = null; showAll(); });
  onClick("reset", () => { chosen = { review: active.review_threshold, defect: active.defect_threshold, area: active.min_area }; showAll(); });
  onClick("viewer-close", () => $("viewer").close());
  onSubmit("apply", async () => {
    await api("POST", `/v1/models/${model.id}/decisions`, { review_threshold: chosen.review, defect_threshold: chosen.defect, min_area: chosen.area, note: $("note").value });
    say(t("applied"));
    location.reload();
  });
  showDecisions(decisions);
  attempt(async () => {
    checks = await api("GET", `/v1/models/${model.id}/checks`);
    const axis = scaleOf([...checks.map((check) => check.score), active.defect_threshold]);
    $("logarithmic").checked = axis.logs;
    $("logarithmic").disabled = !axis.possible;
    showAll();
  });
}
