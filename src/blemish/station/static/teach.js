import { $, element, svg } from "./shared.js";
import { api, attempt, calmly, count, dropZone, lasting, listen, onClick, onSubmit, product, say, sendImages, stageWords, state, t } from "./station.js";

const own = `/v1/products/${product.id}`;
const PAGE = 60;

// The images of one kind: thumbnails, more on demand.
function gallery(name, isDefect) {
  let last = 0;
  const thumb = (image) => {
    const remove = element("button", { type: "button", class: "remove", "aria-label": t("remove_image", { name: image.name }), onclick: () => attempt(async () => { await api("DELETE", `${own}/images/${image.id}`); item.remove(); refresh(); }) }, "×");
    const item = element("li", { id: `image-${image.id}` }, element("img", { src: `${own}/images/${image.id}/thumbnail`, alt: image.name, title: `${image.name}, ${image.width} × ${image.height}`, loading: "lazy" }), remove);
    return item;
  };
  const more = async () => {
    const some = await api("GET", `${own}/images?is_defect=${isDefect}&after=${last}&limit=${PAGE + 1}`), shown = some.slice(0, PAGE);
    $(name).append(...shown.map(thumb));
    last = shown.at(-1)?.id ?? last;
    $(`${name}-more`).hidden = some.length <= PAGE;
  };
  onClick(`${name}-more`, more);
  dropZone($(`${name}-drop`), async (files, progress) => {
    const words = await sendImages(product.id, files, isDefect, progress);
    await more();
    refresh();
    return words;
  });
  return more;
}
const more = { good: gallery("good", false), defect: gallery("defect", true) };

onSubmit("folder", async () => {
  const found = await api("POST", `${own}/images/from-folder`, { path: $("folder-path").value });
  say(t("sent_added", { number: found.added }));
  await more.good();
  refresh();
});

function showFindings(findings) {
  const unusual = new Set(findings.flatMap((one) => one.images));
  $("findings").replaceChildren(...findings.map((one) => element("li", { class: one.severity }, t(`finding_${one.kind}`, one.values))));
  for (const item of document.querySelectorAll(".thumbs li")) item.classList.toggle("is-marked", unusual.has(Number(item.id.slice(6))));
}
function showCounts({ num_good, num_defective }) {
  $("good-count").textContent = count(num_good);
  $("defect-count").textContent = count(num_defective);
}
const refresh = calmly(async () => {
  const [about, findings] = await Promise.all([api("GET", own), api("GET", `${own}/findings`)]);
  showCounts(about);
  showFindings(findings);
  if (!state.first) showRegion((await api("GET", `${own}/images?limit=1`))[0]);
});

// The region of interest: polygons drawn on the first image.
let polygons = [], outside = [], open = [];
function showRegion(first) {
  state.first = first ?? null;
  $("roi-panel").hidden = !first;
  if (!first) return;
  $("roi-image").src = `${own}/images/${first.id}/thumbnail`;
  $("roi-stage").style.aspectRatio = `${first.width} / ${first.height}`;
  $("roi-marks").setAttribute("viewBox", `0 0 ${first.width} ${first.height}`);
  drawRegion();
}
function drawRegion() {
  const points = (polygon) => polygon.map((point) => point.join(",")).join(" ");
  $("roi-marks").replaceChildren(
    ...polygons.map((polygon) => svg("polygon", { points: points(polygon), class: "roi-polygon" })),
    ...outside.map((polygon) => svg("polygon", { points: points(polygon), class: "roi-polygon roi-cut" })),
    svg("polyline", { points: points(open), class: "roi-open" }),
    ...open.map(([x, y]) => svg("circle", { cx: x, cy: y, r: state.first.width / 80, class: "roi-point" })),
  );
}
$("roi-stage").addEventListener("click", (event) => {
  const box = $("roi-stage").getBoundingClientRect(), { width, height } = state.first;
  open.push([((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height].map((value) => Math.round(10 * value) / 10));
  drawRegion();
});
function close() {
  if (open.length > 2) ($("roi-outside").checked ? outside : polygons).push(open);
  open = [];
  drawRegion();
}
onClick("roi-close", close);
onClick("roi-clear", async () => { polygons = []; outside = []; open = []; drawRegion(); await api("DELETE", `${own}/roi`); say(t("saved")); });
onClick("roi-save", async () => {
  close();
  if (!polygons.length && !outside.length) throw new Error(t("no_polygon"));
  await api("PUT", `${own}/roi`, { size: [state.first.height, state.first.width], polygons, outside });
  say(t("saved"));
});

// Teaching.
let job = state.job;
function showJob() {
  $("job").hidden = !job;
  if (!job) return;
  const isRunning = job.state === "running", stage = isRunning && job.stage ? ` · ${stageWords(job.stage)}` : "";
  $("job-state").textContent = t(`job_${job.state}`) + stage;
  $("job-bar").hidden = !isRunning;
  if (job.total) $("job-bar").value = job.done / job.total;
  else $("job-bar").removeAttribute("value");
  $("job-left").textContent = isRunning && job.total ? `${count(job.done)} / ${count(job.total)}${job.seconds_left == null ? "" : `, ${t("left", { time: lasting(job.seconds_left) })}`}` : "";
  $("job-error").hidden = !job.error;
  $("job-error").textContent = job.error ?? "";
  $("cancel").hidden = !isRunning;
  $("start-button").disabled = isRunning || !state.can_teach;
  $("job-next").hidden = job.state !== "done" || !job.model;
  $("job-next").firstElementChild.href = `/products/${product.id}/decide?model=${job.model}`;
  $("job-log-box").hidden = !job.log.length;
  $("job-log").replaceChildren(...job.log.map((line) => element("li", { class: line.level }, line.text)));
}
// Text fields of the settings; the station checks them again.
const isSide = (side) => Number(side) >= 32 && Number(side) <= 1024 && Number(side) % 16 === 0;
function sizeAndTime() {
  const size = $("size").value.trim().toLowerCase().replace("×", "x"), time = $("time").value.trim().toLowerCase().replace(",", ".");
  if (size && !(/^\d+(x\d+)?$/.test(size) && size.split("x").every(isSide))) throw new Error(t("bad_size"));
  if (time && !(/^\d*\.?\d+ *(ms|s)$/.test(time) && parseFloat(time) > 0)) throw new Error(t("bad_time"));
  if (size && time) throw new Error(t("size_or_time"));
  return { size, time_per_image: time };
}
onSubmit("start", async () => {
  const chosen = { model: $("method").value, ...sizeAndTime(), validation: Number($("validation").value) };
  job = await api("POST", `${own}/teach`, Object.fromEntries(Object.entries(chosen).filter(([, value]) => value)));
  showJob();
});
onClick("cancel", async () => { job = await api("POST", `/v1/jobs/${job.id}/cancel`); showJob(); });
const follow = calmly(async () => { if (job) { job = await api("GET", `/v1/jobs/${job.id}`); showJob(); } });
listen({ images: refresh, job: (event) => { if (job && event.job === job.id) follow(); } });

polygons = state.roi?.polygons ?? [];
outside = state.roi?.outside ?? [];
showCounts(product);
showFindings(state.findings);
showRegion(state.first);
showJob();
for (const start of Object.values(more)) attempt(start).then(() => showFindings(state.findings));
