// Histograms of scores in rows, on one axis; the station uses them, too.
const BINS = 48, ROW = 46;
const LONG_TAIL = 8;  // ratio of the highest to the lowest score from which on the axis is logarithmic by default

// Converts between scores and positions on an axis, 0 to 1, that includes all values.
function scaleOf(values, wantsLogs) {
  const lowest = Math.min(...values), highest = Math.max(...values);
  const logs = lowest > 0 && (wantsLogs ?? highest / lowest > LONG_TAIL);
  const [into, back] = logs ? [Math.log, Math.exp] : [(value) => value, (value) => value];
  const margin = (into(highest) - into(lowest) || 1) * 0.04, low = into(lowest) - margin, high = into(highest) + margin;
  return { possible: lowest > 0, logs, low: back(low), high: back(high), share: (value) => (logs && value <= 0 ? -1 : (into(value) - low) / (high - low)), value: (share) => back(low + share * (high - low)) };
}
const marksOf = ({ logs, low, high }, count) => {
  const round = logs ? [1, 2, 5].flatMap((m) => Array.from({ length: 40 }, (_, k) => m * 10 ** (k - 20))).filter((v) => v >= low && v <= high) : [];
  return round.length > 2 ? round : ticks(low, high, count);
};

function bins(scores, axis, kinds) {
  const found = Array.from({ length: BINS }, () => Object.fromEntries(kinds.map((kind) => [kind, 0])));
  for (const [score, kind] of scores) found[Math.min(BINS - 1, Math.max(0, Math.floor(axis.share(score) * BINS)))][kind] += 1;
  return found;
}

// The chart of rows {words, scores: [score, kind], verdict, marked}, `extra` pixels higher each, and its measures.
function scoreHistogram(width, rows, axis, kinds, words, extra = 0) {
  const narrow = width < 520, left = narrow ? 18 : 128, right = narrow ? 18 : 124, top = 34, bottom = 34, row = (narrow ? ROW + 18 : ROW) + extra;
  const height = top + rows.length * row + bottom, x = (value) => left + axis.share(value) * (width - left - right);
  const chart = canvasOf(width, height, words.label), bar = (width - left - right) / BINS;
  for (const value of marksOf(axis, narrow ? 4 : 7)) {
    chart.append(line(x(value), top, x(value), height - bottom, "grid"), text(x(value), height - bottom + 16, number(value), { "text-anchor": "middle" }));
  }
  chart.append(text(left + (width - left - right) / 2, height - 3, axis.logs ? words.logarithmic : words.score, { "text-anchor": "middle" }));
  rows.forEach(({ words: name, scores, verdict, marked }, index) => {
    const base = top + (index + 1) * row - 4, binned = bins(scores, axis, kinds);
    const totals = binned.map((bin) => kinds.reduce((sum, kind) => sum + bin[kind], 0)), unit = (ROW - 14 + extra) / Math.max(...totals, 2);
    chart.append(line(left, base, width - right, base, "axis"));
    binned.forEach((bin, at) => {
      let below = 0;
      for (const kind of kinds) {
        if (bin[kind]) chart.append(svg("rect", { x: left + at * bar + 0.5, y: base - (below + bin[kind]) * unit, width: bar - 1, height: bin[kind] * unit, class: kind }));
        below += bin[kind];
      }
    });
    const short = name.length > 20 ? `${name.slice(0, 19)}…` : name;
    chart.append(narrow ? text(left - 10, base - ROW - extra + 6, name, { class: "strong" }) : text(left - 10, base - 8, short, { class: "strong", "text-anchor": "end" }));
    // Not at the very edge: a scroll bar that appears later takes some of the width.
    const place = narrow ? { x: width - 18, y: base - ROW - extra + 6, anchor: "end" } : { x: width - right + 10, y: base - 8, anchor: "start" };
    chart.append(text(place.x, place.y, verdict, { "text-anchor": place.anchor, class: marked ? "wrong-text" : "" }));
  });
  return { chart, x, left, right, top, bottom, height, width };
}

// A line to drag, with its grip.
const handleAt = (at, top, bottom, height) => svg("g", { class: "handle" }, line(at, top - 14, at, height - bottom, "threshold"), svg("path", { d: `M${at - 6} ${top - 22}h12v8l-6 7l-6 -7z`, class: "grip" }), svg("rect", { x: at - 14, y: 0, width: 28, height, class: "reach" }));
