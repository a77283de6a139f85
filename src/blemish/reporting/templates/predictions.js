// The decisions on unlabelled images at the threshold, and how many held-out good images exceed it.
function showDecisions() {
  if (!part()) return;
  const counts = countsAt(part().images), all = part().images.length, good = part().held_out;
  const isDecided = threshold() !== null, above = isDecided ? good.filter((score) => score > threshold()).length : null;
  for (const name of ["defects", "good"]) {
    $(name).textContent = isDecided ? counts[name] : "–";
    $(`${name}-rate`).textContent = isDecided ? rate(counts[name] / all) : "";
  }
  $("good-above").textContent = !good.length ? "no scores known" : isDecided ? `${above} of ${good.length}` : "–";
  $("alarm-bound").textContent = good.length && isDecided ? rate((1 + above) / (good.length + 1)) : "–";
}
function showFolder() {
  if (part()) $("held").hidden = part().held_out.length === 0;
  for (const about of document.querySelectorAll("[data-folder]")) about.hidden = data.methods[about.dataset.folder] !== state.method;
}
on("part", showDecisions);
on("part", showFolder);
on("threshold", showDecisions);
