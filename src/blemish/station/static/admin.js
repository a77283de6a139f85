import { $, element, number } from "./shared.js";
import { api, attempt, bytes, count, dated, facts, listen, onClick, onSubmit, say, t } from "./station.js";

const own = "/v1/admin";
const body = (id) => $(id).querySelector("tbody");
const button = (words, act) => element("button", { type: "button", class: "quiet", onclick: (event) => attempt(act, event.currentTarget) }, words);
const cells = (...values) => element("tr", {}, ...values.map((value, index) => element(index ? "td" : "th", index ? {} : { scope: "row" }, value)));

async function showUsers() {
  const users = await api("GET", `${own}/users`);
  body("users").replaceChildren(...users.map((user) => {
    const change = (what) => async () => { await api("PATCH", `${own}/users/${user.id}`, what); say(t("saved")); await showUsers(); };
    const role = element("select", { "aria-label": `${t("role")} ${user.name}` }, ...["operator", "engineer", "admin"].map((name) => element("option", { value: name, selected: name === user.role }, t(`role_${name}`))));
    role.addEventListener("change", () => attempt(change({ role: role.value })).then(showUsers));
    return cells(user.name, role, button(t(user.is_active ? "lock" : "unlock"), change({ is_active: !user.is_active })));
  }));
}
onSubmit("new-user", async (form) => {
  await api("POST", `${own}/users`, { name: $("user-name").value, password: $("user-password").value, role: $("user-role").value });
  form.reset();
  if (!document.querySelector('meta[name="csrf"]').content) location.assign("/login");
  else await showUsers();
});

async function showTokens() {
  const tokens = await api("GET", `${own}/tokens`);
  body("tokens").replaceChildren(...tokens.map((token) => cells(token.name, t(`role_${token.role}`), token.revoked_at ? t("revoked") : button(t("revoke"), async () => { await api("DELETE", `${own}/tokens/${token.id}`); await showTokens(); }))));
}
onSubmit("new-token", async (form) => {
  const made = await api("POST", `${own}/tokens`, { name: $("token-name").value, role: $("token-role").value });
  form.reset();
  $("token-shown").hidden = false;
  $("token-shown").replaceChildren(t("token_once"), " ", element("code", {}, made.token));
  await showTokens();
});

function showStorage(found) {
  $("storage").replaceChildren(...facts([[t("files_size"), bytes(found.files_bytes)], [t("free"), bytes(found.free_bytes)]]));
  $("keep-days").value = found.retention.days ?? "";
  $("keep-gb").value = found.retention.bytes ? found.retention.bytes / 1e9 : "";
  const said = [t("would_remove", { number: count(found.would_remove) }), t("removes_at", { time: found.removes_at && dated(found.removes_at) })];
  $("would-remove").textContent = found.removes_at ? said.join(" ") : t("keeps_all");
  $("clean").disabled = !found.would_remove;
}
onSubmit("retention", async () => {
  const days = $("keep-days").valueAsNumber || null, gigabytes = $("keep-gb").valueAsNumber || null;
  showStorage(await api("PUT", `${own}/storage/retention`, { days, bytes: gigabytes && Math.round(gigabytes * 1e9) }));
  say(t("saved"));
});
onClick("clean", async () => showStorage(await api("POST", `${own}/storage/clean`)));
onClick("backup", async () => say(t("backed_up", await api("POST", `${own}/backup`))));

// A value of the audit log in words; numbers that are long are rounded here, not in the log.
function plain(value) {
  if (value == null) return "";
  if (typeof value === "number") return number(value);
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([name, one]) => (one !== null && typeof one === "object" ? plain(one) : `${name}: ${plain(one)}`)).join(", ");
  return String(value);
}
// What was done to what, as the log has it in English ("image removed", "image 12"); as it stands where there is no text.
function doing({ what, subject }) {
  const known = (key, otherwise) => { const words = t(key); return words === key ? otherwise : words; };
  const [kind, ...name] = subject.split(" ");
  const on = known(`on_${subject.replaceAll(" ", "_")}`, [known(`on_${kind}`, kind), ...name].join(" "));
  return `${known(`did_${what.replaceAll(" ", "_")}`, what)}: ${on}`;
}
let last = 2 ** 52;
async function showAudit() {
  const lines = await api("GET", `${own}/audit?before=${last}&limit=51`), shown = lines.slice(0, 50);
  body("audit").append(...shown.map((one) => cells(String(one.number), dated(one.at), one.who, doing(one), plain(one.old), plain(one.new))));
  last = shown.at(-1)?.number ?? last;
  $("audit-more").hidden = lines.length <= 50;
}
onClick("audit-more", showAudit);
async function checkAudit() {
  const found = await api("GET", `${own}/audit/check`);
  $("audit-check").textContent = t(found.is_whole ? "audit_whole" : "audit_changed", { number: count(found.is_whole ? found.num_lines : found.first_changed) });
  $("audit-check").classList.toggle("wrong", !found.is_whole);
}
$("origin").textContent = location.origin;
listen({ storage: () => attempt(async () => showStorage(await api("GET", `${own}/storage`))) });
for (const start of [showUsers, showTokens, async () => showStorage(await api("GET", `${own}/storage`)), showAudit, checkAudit]) attempt(start);
