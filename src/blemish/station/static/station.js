// What all pages use: texts, requests, events, messages, dates, dropping files.
import { $, element, number } from "./shared.js";

const read = (id) => JSON.parse($(id).textContent);
export const state = read("state"), texts = read("texts"), colours = read("colours");
export const product = state.product;
export const t = (key, values = {}) => (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
export const language = document.documentElement.lang;
export const stageWords = (stage) => texts[`stage_${stage || "starting"}`] ?? stage;
export const verdictWords = (verdict) => t(`verdict_${verdict}`);
export const KIND = { good: "right", review: "review", defect: "wrong" };
const csrf = document.querySelector('meta[name="csrf"]').content;

// The answer to a request; an error says what the station says.
export async function api(method, path, body, headers = {}) {
  const isPlain = body !== undefined && !(body instanceof Blob) && !(body instanceof FormData);
  const answer = await fetch(path, {
    method,
    headers: { ...(csrf ? { "X-CSRF-Token": csrf } : {}), ...(isPlain ? { "Content-Type": "application/json" } : {}), ...headers },
    body: isPlain ? JSON.stringify(body) : body,
  });
  if (answer.status === 401 && !document.body.classList.contains("page-login")) location.assign("/login");
  const found = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw Object.assign(new Error(wordsOf(found) ?? `${answer.status} ${answer.statusText}`), { status: answer.status, wait: answer.headers.get("Retry-After") });
  return found;
}
const wordsOf = (found) => (Array.isArray(found?.detail) ? found.detail.map((one) => `${one.loc?.at(-1) ?? ""}: ${one.msg}`).join("; ") : found?.detail);

export function say(words, isProblem = false) {
  const note = element("p", { class: isProblem ? "toast problem" : "toast" }, words);
  $("toasts").append(note);
  setTimeout(() => note.remove(), isProblem ? 9000 : 4000);
}

// Does something and says what went wrong; the button cannot be pressed twice meanwhile.
export async function attempt(action, button) {
  if (button) button.disabled = true;
  try {
    return await action();
  } catch (error) {
    say(error.message, true);
    return undefined;
  } finally {
    if (button) button.disabled = false;
  }
}
export const onSubmit = (id, action) => $(id)?.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => action(event.target), event.submitter);
});
export const onClick = (id, action) => $(id)?.addEventListener("click", (event) => attempt(() => action(event), event.currentTarget));

// Calls back on events of the station that concern this product.
export function listen(handlers) {
  const source = new EventSource("/v1/events");
  source.addEventListener("disk", (event) => showCondition(JSON.parse(event.data).condition));
  for (const [kind, handle] of Object.entries(handlers)) {
    source.addEventListener(kind, (event) => {
      const data = JSON.parse(event.data);
      if (!product || data.product === product.id) handle(data);
    });
  }
  addEventListener("pagehide", () => source.close());
}

// Says what is not kept for want of space.
function showCondition(condition) {
  $("banner").hidden = condition === "ok";
  $("banner").textContent = condition === "ok" ? "" : t(condition.replace(" ", "_"));
}

// The function at most once per `milliseconds`, and once after the last call.
export function calmly(action, milliseconds = 400) {
  let waiting = null, last = 0;
  return () => {
    if (waiting) return;
    waiting = setTimeout(() => { waiting = null; last = Date.now(); action(); }, Math.max(0, last + milliseconds - Date.now()));
  };
}

export const dated = (seconds) => new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(seconds * 1000));
export const timed = (seconds) => new Intl.DateTimeFormat(language, { timeStyle: "medium" }).format(new Date(seconds * 1000));
export const percent = (value, digits = 1) => (value == null ? "–" : new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: digits }).format(value));
export const count = (value) => new Intl.NumberFormat(language).format(value);
export const bytes = (value) => `${new Intl.NumberFormat(language, { maximumFractionDigits: 1 }).format(value < 1e9 ? value / 1e6 : value / 1e9)} ${value < 1e9 ? "MB" : "GB"}`;
export const lasting = (seconds) => (seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} min`);
export const chip = (verdict) => element("span", { class: `chip ${KIND[verdict] ?? ""}` }, verdictWords(verdict));
export const facts = (pairs) => pairs.map(([name, value, kind = ""]) => element("div", { class: kind }, element("dt", {}, name), element("dd", {}, String(value))));
export const key = (event, letter) => event.key.toLowerCase() === letter && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.matches("input:not([type=checkbox]):not([type=range]), select, textarea");

// All files of a drop, those in folders, too.
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) found.push(await new Promise((give, fail) => entry.file(give, fail)));
    else {
      const reader = entry.createReader();
      for (let some; (some = await new Promise((give, fail) => reader.readEntries(give, fail))).length;) for (const one of some) await walk(one);
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

// Makes an element a place to drop files, with buttons to choose them.
export function dropZone(holder, onFiles, { archives = true } = {}) {
  const kinds = `image/*,.tif,.tiff,.bmp${archives ? ",.zip" : ""}`;
  const input = element("input", { type: "file", multiple: true, class: "visually-hidden", id: `${holder.id}-files`, accept: kinds });
  const folder = element("input", { type: "file", webkitdirectory: true, class: "visually-hidden", id: `${holder.id}-folder` });
  const bar = element("progress", { max: 1, hidden: true, "aria-label": t("sending") }), words = element("p", { class: "note", role: "status" });
  const buttons = [input, element("label", { class: "quiet", for: input.id }, t("choose_files")), folder, element("label", { class: "quiet", for: folder.id }, t("choose_folder"))];
  holder.append(element("p", {}, t(archives ? "drop_here" : "drop_images")), element("div", { class: "row wrap" }, ...buttons), bar, words);
  const take = (files) => attempt(async () => {
    if (!files.length) return;
    bar.hidden = false;
    bar.value = 0;
    words.textContent = "";
    try {
      words.textContent = (await onFiles(files, (share) => { bar.value = share; })) ?? "";
    } finally {
      bar.hidden = true;
    }
  });
  for (const one of [input, folder]) one.addEventListener("change", () => { const files = [...one.files]; one.value = ""; take(files); });
  holder.addEventListener("dragover", (event) => { event.preventDefault(); holder.classList.add("is-over"); });
  holder.addEventListener("dragleave", () => holder.classList.remove("is-over"));
  holder.addEventListener("drop", (event) => {
    event.preventDefault();
    holder.classList.remove("is-over");
    filesOf(event.dataTransfer).then(take);
  });
}

const isZip = (file) => /\.zip$/i.test(file.name);
export const isImage = (file) => /\.(png|jpe?g|tiff?|bmp|webp)$/i.test(file.name);

// Sends images to teach or check with, a few at a time; gives what became of them in words.
export async function sendImages(id, files, isDefect, progress) {
  const path = `/v1/products/${id}/images?is_defect=${isDefect}`, total = { added: 0, known: 0, refused: [] };
  const add = (found) => { total.added += found.added; total.known += found.known; total.refused.push(...found.refused); };
  const images = files.filter(isImage), others = files.filter((file) => !isZip(file) && !isImage(file));
  let done = 0;
  for (const file of files.filter(isZip)) {
    add(await api("POST", path, file, { "Content-Type": "application/zip" }));
    progress((done += 1) / files.length);
  }
  for (let start = 0; start < images.length; start += 8) {
    const form = new FormData();
    for (const file of images.slice(start, start + 8)) form.append("images", file, file.name);
    try {
      add(await api("POST", path, form));
    } catch (error) {
      if (error.status !== 422) throw error;
      total.refused.push({ name: "", reason: error.message });
    }
    progress((done += Math.min(8, images.length - start)) / files.length);
  }
  const words = [t("sent_added", { number: total.added })];
  if (total.known) words.push(t("sent_known", { number: total.known }));
  if (others.length) words.push(t("sent_others", { number: others.length }));
  if (total.refused.length) words.push(t("sent_refused", { number: total.refused.length, reason: total.refused[0].reason }));
  return words.join(" ");
}

$("theme").addEventListener("click", () => {
  const root = document.documentElement.dataset;
  const isDark = root.theme ? root.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.theme = isDark ? "light" : "dark";
  localStorage.setItem("theme", root.theme);
  dispatchEvent(new Event("resize"));
});
document.querySelector('.top nav [aria-current="page"]')?.scrollIntoView({ inline: "center", block: "nearest" });
onClick("logout", async () => { await api("POST", "/v1/logout"); location.assign("/login"); });
export { $, element, number };
