import { $, element } from "./shared.js";
import { api, calmly, count, dropZone, listen, onSubmit, sendImages, state, t } from "./station.js";

function card(one) {
  const page = one.state === "empty" && state.role !== "operator" ? "teach" : "inspect";
  const frame = element("span", { class: "frame" });
  if (one.last_inspection) frame.append(element("img", { src: `/v1/inspections/${one.last_inspection}/picture?side=320`, alt: "", loading: "lazy" }));
  const today = one.state === "empty" ? t("good_number", { number: count(one.num_good) }) : t("card_today", { inspected: count(one.inspected_today), rejected: count(one.rejected_today) });
  const lines = [element("span", { class: "soft" }, today)];
  if (one.to_review) lines.push(element("span", { class: "soft" }, t("card_review", { number: count(one.to_review) })));
  const title = element("span", { class: "title" }, element("strong", {}, one.name), element("span", { class: `chip state-${one.state}` }, t(`state_${one.state}`)));
  return element("li", {}, element("a", { class: "product", href: `/products/${one.id}/${page}` }, frame, element("span", { class: "about-product" }, title, ...lines)));
}

function showAll(products) {
  const none = element("li", { class: "panel" }, t("no_products"));
  $("products").replaceChildren(...(products.length ? products.map(card) : [none]));
}

let chosen = [];
if ($("new")) dropZone($("new-drop"), (files) => { chosen = files; return t("chosen", { number: files.length }); });
onSubmit("new", async () => {
  const made = await api("POST", "/v1/products", { name: $("new-name").value });
  if (chosen.length) await sendImages(made.id, chosen, false, () => {});
  location.assign(`/products/${made.id}/teach`);
});

showAll(state.products);
const refresh = calmly(async () => showAll(await api("GET", "/v1/products")), 1000);
listen({ inspection: refresh, job: refresh, review: refresh, images: refresh });
