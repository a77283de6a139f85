// Two versions on the frozen check set: a table, and the images whose verdict changes.
import { element, number } from "./shared.js";
import { count, t, verdictWords } from "./station.js";

export function compareTable(table, found, titles) {
  const head = element("tr", {}, element("th", {}), ...titles.map((title) => element("th", { scope: "col" }, title)));
  const rows = ["false_alarms", "misses", "reviews"].map((name) => {
    const total = name === "misses" ? found.num_defective : name === "false_alarms" ? found.num_good : found.num_good + found.num_defective;
    return element("tr", {}, element("th", { scope: "row" }, t(`compare_${name}`)), ...["before", "after"].map((when) => element("td", {}, `${count(found[when][name])} ${t("of")} ${count(total)}`)));
  });
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}
export function changedCards(list, changed) {
  const none = element("li", { class: "note" }, t("nothing_changes"));
  list.replaceChildren(...(changed.length ? changed.map((one) => {
    const isWorse = one.is_defect ? one.after === "good" : one.after === "defect";
    const words = element("span", { class: "words" }, element("span", { class: "type" }, t(one.is_defect ? "one_defective" : "one_good")), element("span", { class: "outcome" }, `${verdictWords(one.before)} → ${verdictWords(one.after)}`), element("span", {}, `${number(one.score_before, 3)} → ${number(one.score_after, 3)}`));
    return element("li", {}, element("div", { class: isWorse ? "card is-wrong" : "card" }, element("span", { class: "frame" }, element("img", { src: `/v1/checks/${one.check}/picture`, alt: one.name, loading: "lazy" })), words));
  }) : [none]));
}
