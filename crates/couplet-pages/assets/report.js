"use strict";
// Draws a report from the JSON in the page, and again when a server sends another. Charts are uPlot's.
let report = JSON.parse(document.getElementById("data").textContent);
let runs = report.runs;
const COLORS = ["#3b7dd8", "#e07b39", "#2e9e6b", "#c2418d", "#8a63d2", "#a08a1f", "#2a9fb5", "#d0463b"];
const color = (run) => COLORS[runs.indexOf(run) % COLORS.length];
const page = document.getElementById("page");
// Where the part that is being drawn goes.
let place_of_part = page;

// After as many runs as there are colors, lines are dashed.
const is_dashed = (run) => runs.indexOf(run) >= COLORS.length;
const swatch = (run) => element("span", { class: is_dashed(run) ? "swatch dashed" : "swatch", style: `color:${color(run)}` });
function section(title, ...children) {
  place_of_part.append(element("section", null, text("h2", title), ...children));
}
function table(head, rows) {
  const cell = (tag) => (content) => {
    const [value, kind] = Array.isArray(content) ? content : [content, ""];
    return element(tag, { ...(kind ? { class: kind } : {}), ...(tag === "th" ? { scope: "col" } : {}) }, value);
  };
  const line = (tag) => (cells) => element("tr", null, ...cells.map(cell(tag)));
  const made = element("table", null, element("thead", null, line("th")(head)), element("tbody", null, ...rows.map(line("td"))));
  return element("div", { class: "wide" }, made);
}

// Numbers.
function significant(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e9) return grouped(value);
  return size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(5))) : value.toExponential(3).replace(/\.?0+e/, "e");
}
function shown(metric, value) {
  if (value === null || value === undefined) return "–";
  const how = report.metrics[metric];
  if (!how) return significant(value);
  const scaled = value * how.factor;
  const digits = how.decimals === null ? significant(scaled) : scaled.toFixed(how.decimals);
  return how.unit === "%" ? digits + "%" : digits;
}
function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${Math.floor(seconds % 60)} s`;
}
const name = (metric) => metric.replace(/^eval\//, "");

// What the last line of a run says.
function last(run) {
  const places = [...run.places.slice(-1)];
  for (const points of Object.values(run.evaluations)) places.push(...points.slice(-1));
  return places.reduce((a, b) => (b.step >= (a ? a.step : -1) ? b : a), null);
}
// The best and the last value of an evaluation's metric; the last also where neither direction is better.
function ends(run, metric) {
  const points = (run.evaluations[metric] || []).filter((point) => point.value !== null);
  if (!points.length) return null;
  const better = (report.metrics[metric] || {}).better;
  const final = points[points.length - 1];
  const best = points.reduce((a, b) => {
    if (better === "higher") return b.value > a.value ? b : a;
    if (better === "lower") return b.value < a.value ? b : a;
    return b;
  });
  return { best, last: final };
}
const evaluated_of = () => [...new Set(runs.flatMap((run) => Object.keys(run.evaluations)))].sort();
let evaluated = evaluated_of();

function overview() {
  const states = {
    running: "running", finished: "finished", interrupted: "stopped; can be resumed", failed: "failed",
    killed: "nothing trains here, and no end is recorded", unknown: "its end is not recorded",
  };
  const cards = runs.map((run) => {
    const start = run.starts[run.starts.length - 1] || {};
    const first = run.starts[0] || {};
    const end = last(run);
    const facts = [];
    const add = (term, value) => value && facts.push(text("dt", term), text("dd", value));
    const total = start.total_steps && end && start.total_steps > end.step ? ` of ${grouped(start.total_steps)}` : "";
    if (end) add("trained", `${grouped(end.step)}${total} steps, ${grouped(end.samples_seen)} samples in ${duration(end.time)}, epoch ${end.epoch}`);
    if (start.data) {
      const size = start.data.train === null ? "a stream" : `${grouped(start.data.train)} samples`;
      add("on", `${size}, in batches of ${grouped(start.batch)}`);
    }
    if (start.parameters) add("model", `${run.model ? `${run.model}, ` : ""}${(start.parameters / 1e6).toFixed(2)} M parameters`);
    // All cards of the machine are recorded, whether the run uses them or not.
    const kinds = [...new Set(start.gpus || [])].map((kind) => `${start.gpus.filter((gpu) => gpu === kind).length} × ${kind}`);
    const machine = start.device === "cpu" || !kinds.length
      ? `${start.cpu || "a CPU"} with ${start.cores} cores`
      : `a machine with ${kinds.join(", ")}`;
    if (start.device) add("device", `${start.device}, ${start.precision}; ${machine}`);
    if (start.ranks) add("ranks", String(start.ranks.length));
    if (first.started) add("began", `${first.started}${run.starts.length > 1 ? `; started ${run.starts.length} times` : ""}`);
    if (start.program) add("program", `${start.program}${start.commit ? ` (${start.commit})` : ""}`);
    if (run.best !== null) add("best", `the checkpoint of step ${grouped(run.best)}${run.best_metric ? `, by ${run.best_metric}` : ""}`);
    if (run.latest !== null) add("latest", `the checkpoint of step ${grouped(run.latest)}`);
    add("skipped", run.skipped.samples ? `${grouped(run.skipped.samples)} samples` : "no sample so far");
    const head = element("h3", null, swatch(run), run.name, text("span", states[run.state], `state ${run.state}`));
    const failure = run.state === "failed" ? text("p", start.outcome, "error") : null;
    return element("div", { class: "card" }, head, failure, element("dl", null, ...facts));
  });
  place_of_part.append(element("div", { class: "cards" }, ...cards));
}

// Half of the 95% interval of a difference of two shares of images, in points, as if each run had been given images of its own
// (Agresti and Caffo 2000, which holds near 0 and 1). The runs saw the same images, so the truth is usually narrower; but the best
// of many evaluations is a little lucky.
function uncertainty(metric, run, end, other, base) {
  // Recalls of images for texts are shares of the texts, whose number is not logged.
  if (!/\/(top1|top5|image_to_text_recall@\d+)$/.test(metric)) return null;
  const dataset = name(metric).replace(/\/[^/]*$/, "");
  const variance = [[run, end], [other, base]].map(([of, at]) => {
    const [images] = of.images[dataset] || [0];
    const share = (at.best.value * images + 1) / (images + 2);
    return images ? (share * (1 - share)) / (images + 2) : NaN;
  });
  const half = 100 * 1.96 * Math.sqrt(variance[0] + variance[1]);
  return Number.isFinite(half) ? half : null;
}

function results() {
  if (!evaluated.length) {
    section("Evaluations", text("p", "The runs have logged no evaluation.", "faint"));
    return;
  }
  const several = runs.length > 1;
  const head = ["dataset and metric", ...(several ? ["run"] : []),
    ["best", "number"], ["at step", "number"], ["last", "number"], ["at step", "number"],
    ...(several ? [["best, compared", "number"]] : [])];
  const rows = [];
  for (const metric of evaluated) {
    const found = runs.map((run) => ends(run, metric));
    const better = (report.metrics[metric] || {}).better;
    const values = found.filter(Boolean).map((end) => end.best.value);
    const top = better === "higher" ? Math.max(...values) : better === "lower" ? Math.min(...values) : null;
    const is_tie = values.every((value) => value === values[0]);
    runs.forEach((run, at) => {
      const end = found[at];
      if (!end) return;
      const wins = several && !is_tie && end.best.value === top;
      const against = better && at > 0 && found[0] ? end.best.value - found[0].best.value : null;
      const sign = against > 0 ? "+" : against < 0 ? "−" : "";
      const margin = against === null ? null : uncertainty(metric, run, end, runs[0], found[0]);
      const compared = against === null ? ""
        : sign + shown(metric, Math.abs(against)).replace("%", " points") + (margin === null ? "" : ` ± ${margin.toFixed(2)}`);
      rows.push([
        several && at > 0 && found.slice(0, at).some(Boolean) ? "" : name(metric),
        ...(several ? [element("span", null, swatch(run), run.name)] : []),
        [better ? shown(metric, end.best.value) : "–", wins ? "number best" : "number"],
        [better ? grouped(end.best.step) : "", "number faint"],
        [shown(metric, end.last.value), "number"], [grouped(end.last.step), "number faint"],
        ...(several ? [[compared, "number"]] : []),
      ]);
    });
  }
  const images = runs.length === 1 ? Object.entries(runs[0].images) : [];
  const note = images.map(([dataset, [count, skipped]]) =>
    `${dataset}: ${grouped(count)} images${skipped ? `, ${grouped(skipped)} of them could not be read` : ""}`).join("; ");
  const hint = several ? "±: half of the 95% interval of the difference, as if each run had been tested on images of its own; on the same images it is usually narrower." : note;
  section("Evaluations", table(head, rows), hint ? text("p", hint, "faint") : null);
}

// Curves. All charts share the x axis, the cursor and the zoom.
const AXES = {
  step: ["steps", (place) => place.step, grouped],
  samples: ["samples", (place) => place.samples_seen, grouped],
  hours: ["hours of training", (place) => place.time / 3600, (value) => value.toPrecision(4)],
};
const LABELS = {
  loss: "loss", lr: "learning rate", logit_scale: "logit scale (1 / temperature)", grad_norm: "gradient norm",
  samples_per_second: "samples per second", data_wait: "time spent waiting for data", loss_scale: "loss scale (fp16)",
};
// What a schedule or a rule sets has no noise to smooth.
const AS_PLANNED = ["lr", "loss_scale"];
const view = { axis: "step", smoothing: 0, range: null, full: [0, 1], charts: [] };

// What the axis spans: all places of all runs.
function full_range() {
  const of = AXES[view.axis][1];
  let [low, high] = [Infinity, -Infinity];
  for (const run of runs) {
    for (const places of [run.places, ...Object.values(run.evaluations)]) {
      for (const place of places) {
        low = Math.min(low, of(place));
        high = Math.max(high, of(place));
      }
    }
  }
  const pad = high > low ? 0 : Math.max(Math.abs(high) / 2, 1);
  return [low - pad, high + pad];
}

// An exponential mean without the pull of its first value, as TensorBoard's.
function smoothed(values, weight) {
  let [sum, mass] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = sum * weight + value * (1 - weight);
    mass = mass * weight + (1 - weight);
    return sum / mass;
  });
}

function columns(metric) {
  const of = AXES[view.axis][1];
  const found = [];
  for (const run of runs) {
    const points = run.evaluations[metric];
    const [places, values] = points
      ? [points, points.map((point) => point.value)]
      : [run.places, run.training[metric]];
    if (!values) continue;
    const factor = (report.metrics[metric] || { factor: 1 }).factor;
    const scaled = (value) => (value === null ? null : value * factor);
    // Of a long log, the means of the lines around each that is drawn.
    const means = points ? null : run.means[metric] || values;
    found.push({ run, x: places.map(of), y: values.map(scaled), means: means && means.map(scaled) });
  }
  return found;
}

// The series of a chart, their values, and what tells whether the series are others than before.
function prepare(metric) {
  const found = columns(metric);
  const factor = (report.metrics[metric] || { factor: 1 }).factor;
  const series = [{ label: AXES[view.axis][0], value: (_, x) => (x === null || x === undefined ? "–" : AXES[view.axis][2](x)) }];
  const data = [];
  for (const { run, x, y, means } of found) {
    const value = (_, at) => (at === null || at === undefined ? "–" : shown(metric, at / factor));
    // A gap is where a value was not finite.
    const line = { label: runs.length > 1 ? run.name : "value", stroke: color(run), value, spanGaps: false, dash: is_dashed(run) ? [7, 4] : undefined };
    const points = { show: !means || x.length < 40, size: 5, fill: color(run) };
    const smooth = means && view.smoothing > 0 && !AS_PLANNED.includes(metric);
    if (smooth) {
      series.push({ ...line, label: `${line.label}, smoothed`, width: 2, points: { show: false } });
      data.push([x, smoothed(means, view.smoothing)]);
    }
    series.push({ ...line, width: smooth ? 1 : 1.6, alpha: smooth ? 0.35 : 1, points });
    data.push([x, y]);
  }
  const signature = JSON.stringify([view.axis, series.map((one) => [one.label, one.points && one.points.show])]);
  return { series, data: uPlot.join(data), signature };
}

// What is always the same is drawn in the middle, not over a span of its own size.
function y_range(chart, low, high) {
  if (low === null || high === null) return [0, 1];
  if (low !== high) return uPlot.rangeNum(low, high, 0.1, true);
  const pad = Math.abs(low) / 20 || 1;
  return [low - pad, high + pad];
}

function draw(place, metric) {
  const styles = getComputedStyle(document.documentElement);
  const [ink, grid] = [styles.getPropertyValue("--faint"), styles.getPropertyValue("--line")];
  const { series, data, signature } = prepare(metric);
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid }, font: "12px system-ui" };
  const unit = (report.metrics[metric] || {}).unit;
  const options = {
    width: place.clientWidth, height: 230, series,
    cursor: { sync: { key: "report" }, drag: { x: true, y: false, setScale: false } },
    scales: { x: { time: false, range: () => view.range || view.full }, y: { range: y_range } },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((tick) => (tick >= 1e6 ? `${tick / 1e6} M` : significant(tick))) },
      { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => significant(tick) + (unit === "%" ? "%" : "")) },
    ],
    hooks: {
      // Of the chart that is dragged in, which passes its cursor on to the others.
      setSelect: [(chart) => {
        const { left, width } = chart.select;
        if (chart !== view.dragged || width < 5) return;
        view.dragged = null;
        zoom([chart.posToVal(left, "x"), chart.posToVal(left + width, "x")]);
      }],
    },
  };
  const chart = new uPlot(options, data, place);
  chart.over.addEventListener("mousedown", () => { view.dragged = chart; });
  chart.over.addEventListener("dblclick", () => zoom(null));
  drag_by_touch(chart);
  return { chart, signature };
}

// A finger that moves sideways chooses a stretch, as a mouse does; one that moves up or down scrolls the page.
function drag_by_touch(chart) {
  const over = chart.over;
  over.style.touchAction = "pan-y";
  let start = null;
  const place = (event) => Math.max(0, Math.min(over.clientWidth, event.clientX - over.getBoundingClientRect().left));
  const end = () => { start = null; };
  over.addEventListener("pointerdown", (event) => { if (event.pointerType === "touch") start = place(event); });
  over.addEventListener("pointermove", (event) => {
    if (start === null || event.pointerType !== "touch") return;
    const now = place(event);
    chart.setSelect({ left: Math.min(start, now), width: Math.abs(now - start), top: 0, height: over.clientHeight }, false);
  });
  over.addEventListener("pointerup", (event) => {
    if (start === null || event.pointerType !== "touch") return;
    const [from, to] = [start, place(event)].sort((a, b) => a - b);
    end();
    if (to - from >= 15) zoom([chart.posToVal(from, "x"), chart.posToVal(to, "x")]);
    else chart.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  });
  over.addEventListener("pointercancel", end);
}

// - range: of the axis; null for all.
function zoom(range) {
  view.range = range;
  document.getElementById("zoom-out").hidden = range === null;
  for (const { chart } of view.charts) {
    chart.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    chart.setData(chart.data, true);
  }
}

function curve_metrics() {
  const training = Object.keys(LABELS).filter((metric) => runs.some((run) => run.training[metric]));
  const others = [...new Set(runs.flatMap((run) => Object.keys(run.training)))].filter((metric) => !(metric in LABELS));
  return [...training, ...others, ...evaluated];
}

function curves() {
  const metrics = curve_metrics();
  if (!metrics.length) {
    section("Curves", text("p", "Nothing is logged yet.", "faint"));
    return undefined;
  }
  const holders = metrics.map((metric) => {
    const how = report.metrics[metric] || {};
    const unit = how.unit && how.unit !== "%" && metric !== "samples_per_second" ? `, ${how.unit}` : "";
    const holder = element("div", { class: "holder", role: "img", "aria-label": `curve of ${LABELS[metric] || name(metric)}` });
    return { metric, holder, card: element("div", { class: "card chart", "data-metric": metric }, text("h3", (LABELS[metric] || name(metric)) + unit), holder) };
  });
  const redraw = () => {
    view.full = full_range();
    view.charts = holders.map(({ metric, holder }, at) => {
      if (view.charts[at]) view.charts[at].chart.destroy();
      return { ...draw(holder, metric), holder, metric };
    });
  };
  // With more values than before, where the series are the same.
  const update = () => {
    view.full = full_range();
    view.charts = view.charts.map((old) => {
      const { data, signature } = prepare(old.metric);
      if (signature === old.signature) {
        old.chart.setData(data, true);
        return old;
      }
      old.chart.destroy();
      return { ...draw(old.holder, old.metric), holder: old.holder, metric: old.metric };
    });
  };
  const axis = element("select", { id: "axis" }, ...Object.entries(AXES).map(([key, [label]]) => element("option", { value: key }, label)));
  axis.addEventListener("change", () => {
    view.axis = axis.value;
    view.range = null;
    zoom_out.hidden = true;
    redraw();
  });
  const smoothing = element("input", { id: "smoothing", type: "range", min: "0", max: "0.99", step: "0.01", value: "0" });
  const amount = text("span", "none", "faint");
  smoothing.addEventListener("input", () => {
    view.smoothing = Number(smoothing.value);
    amount.textContent = view.smoothing ? view.smoothing.toFixed(2) : "none";
    cancelAnimationFrame(view.frame);
    view.frame = requestAnimationFrame(redraw);
  });
  const zoom_out = element("button", { id: "zoom-out", type: "button" }, "Show all");
  zoom_out.hidden = view.range === null;
  zoom_out.addEventListener("click", () => zoom(null));
  const controls = element("div", { class: "controls" },
    element("label", null, "x axis", axis), element("label", null, "smoothing", smoothing, amount),
    text("span", "Drag sideways to zoom.", "faint"), zoom_out);
  section("Curves", controls, element("div", { class: "charts" }, ...holders.map(({ card }) => card)));
  axis.value = view.axis;
  smoothing.value = String(view.smoothing);
  amount.textContent = view.smoothing ? view.smoothing.toFixed(2) : "none";
  view.charts = [];
  redraw();
  return { metrics: metrics.join(), redraw, update };
}

// What the models get wrong, with pictures.
function picture_of(entry, alt) {
  const where = `${entry.file}: ${entry.key}`;
  return entry.picture
    ? element("img", { src: entry.picture, alt, title: where })
    : element("span", { class: "faint", title: where }, "the image cannot be read");
}
function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)}%`;
}
// Hues of a bar from what is wrong to what is right would say what the number says; length is enough.
function share_bar(share) {
  return element("span", { class: "share" }, element("span", { style: `width:${(100 * share).toFixed(1)}%` }));
}

function class_findings(found) {
  const looked = found.images < found.of ? `${grouped(found.images)} of ${grouped(found.of)} images` : `${grouped(found.images)} images`;
  const skipped = found.skipped ? `; ${grouped(found.skipped)} could not be read` : "";
  const parts = [element("h3", null, `${found.dataset}, ${found.kind}`),
    text("p", `${percent(found.top1, 2)} right of ${looked}${skipped}.`)];
  const samples = found.samples.map((sample) => {
    const right = sample.labels.length && sample.labels[0][0] === sample.class;
    const rows = sample.labels.map(([label, share]) => element("li", { class: label === sample.class ? "right" : "" },
      element("span", { class: "label", title: label }, label), share_bar(share), text("span", percent(share), "number")));
    return element("figure", { class: right ? "sample" : "sample wrong" }, picture_of(sample, sample.class),
      element("figcaption", null, text("strong", sample.class), text("span", right ? " ✓" : " ✗", right ? "good" : "error"), element("ol", null, ...rows)));
  });
  parts.push(text("h4", "Images from all over it, and what the model says"), element("div", { class: "pictures" }, ...samples));
  if (found.mistakes.length) {
    const mistakes = found.mistakes.map((mistake) => element("div", { class: "card mistake" },
      element("p", null, text("strong", mistake.class), " taken for ", text("strong", mistake.predicted),
        text("span", `: ${grouped(mistake.count)} of ${grouped(mistake.of)}`, "faint")),
      element("div", { class: "row" }, ...mistake.examples.map((entry) => picture_of(entry, `${mistake.class}, taken for ${mistake.predicted}`)))));
    parts.push(text("h4", "What it confuses most"), element("div", { class: "cards" }, ...mistakes));
  }
  const rows = found.classes.filter((one) => one.images).sort((a, b) => a.recall - b.recall).map((one) => [
    [one.name, "text"], [grouped(one.images), "number"], [percent(one.recall), "number"], share_bar(one.recall), [percent(one.precision), "number"]]);
  const by_class = table(["class", ["images", "number"], ["recall", "number"], "", ["precision", "number"]], rows);
  const is_long = rows.length > 12;
  parts.push(is_long
    ? element("details", null, text("summary", `All ${rows.length} classes, the worst first`), by_class)
    : element("div", null, text("h4", "By class, the worst first"), by_class));
  if (found.confusion.length > 1) {
    const names = found.classes.map((one) => one.name);
    // Classes without images and that no image is taken for would be empty lines.
    const met = names.map((_, at) => at).filter((at) => found.confusion.some((counts, row) => counts[at] || (row === at && counts.some(Boolean))));
    const head = element("tr", null, element("td"), ...met.map((at) => element("th", { scope: "col", class: "across" }, text("span", names[at]))));
    const body = met.map((row) => {
      const counts = found.confusion[row];
      const sum = counts.reduce((a, b) => a + b, 0) || 1;
      const cells = met.map((column) => [column, counts[column]]).map(([column, count]) => element("td", {
        class: row === column ? "hit" : "miss", style: `--share:${(count / sum).toFixed(3)}`,
        title: `${names[row]} as ${names[column]}: ${count} of ${sum}`,
      }, count ? String(count) : ""));
      return element("tr", null, element("th", { scope: "row" }, names[row]), ...cells);
    });
    parts.push(element("details", null, text("summary", "Confusion matrix: rows are classes, columns what they are taken for"),
      element("div", { class: "wide" }, element("table", { class: "confusion" }, head, ...body))));
  }
  return parts;
}

function pair_findings(found, charts) {
  const total = found.total === null ? "" : ` of ${grouped(found.total)}`;
  const parts = [element("h3", null, found.of),
    text("p", `${grouped(found.pairs)}${total} pairs looked at: cosine ${found.cosine.toFixed(3)} between an image and its caption, ` +
      `${found.other_cosine.toFixed(3)} between an image and another's; the means of image and text features are ${found.gap.toFixed(3)} apart (modality gap).`)];
  const worst = found.worst.map((pair) => {
    const before = pair.before ? `${grouped(pair.before)} other captions suit the image better` : "its caption suits best, but not by far";
    return element("figure", { class: "pair" }, picture_of(pair, pair.caption), element("figcaption", null,
      element("p", { title: pair.caption }, `“${pair.caption}”`),
      element("p", { class: "faint" }, `${before}; loss ${pair.loss.toFixed(2)}, cosine ${pair.cosine.toFixed(3)}`),
      pair.nearest === null ? null : element("p", { title: pair.nearest }, text("span", "suits best: ", "faint"), `“${pair.nearest}” (${pair.nearest_cosine.toFixed(3)})`),
      element("p", { class: "faint place" }, `${pair.file}: ${pair.key}`)));
  });
  parts.push(text("h4", found.of === "training pairs" ? "Pairs that the model holds for wrong, the most certain first" : "Ranked worst among these"),
    element("div", { class: "pictures" }, ...worst));
  const holder = element("div", { class: "holder map", role: "img", "aria-label": `map of the features of ${found.of}` });
  const variance = found.map.variance.map((share) => percent(share, 0)).join(" and ");
  parts.push(element("details", null, text("summary", `Map of both towers' features: two principal components, with ${variance} of the variance`), holder));
  charts.push({ holder, map: found.map });
  return parts;
}

function draw_map({ holder, map }) {
  const styles = getComputedStyle(document.documentElement);
  const [ink, grid] = [styles.getPropertyValue("--faint"), styles.getPropertyValue("--line")];
  const sorted = (points) => [...points].sort((a, b) => a[0] - b[0]);
  const columns_of = (points) => [sorted(points).map((point) => point[0]), sorted(points).map((point) => point[1])];
  const dots = (label, at) => ({ label, stroke: COLORS[at], paths: () => null, points: { show: true, size: 5, fill: COLORS[at], width: 0 }, value: (_, y) => (y === null || y === undefined ? "–" : significant(y)) });
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid }, font: "12px system-ui" };
  const chart = new uPlot({
    width: holder.clientWidth || 600, height: 340,
    scales: { x: { time: false } }, cursor: { drag: { x: false, y: false } },
    series: [{ label: "first component", value: (_, x) => (x === null || x === undefined ? "–" : significant(x)) }, dots("images", 0), dots("texts", 1)],
    axes: [axis, { ...axis, size: 62 }],
  }, uPlot.join([columns_of(map.images), columns_of(map.texts)]), holder);
  return chart;
}

function findings() {
  const found = runs.filter((run) => run.findings);
  if (!found.length) return undefined;
  const charts = [];
  const all = found.flatMap((run) => {
    const { classes, pairs, notes, problems, step } = run.findings;
    const at = step === null ? "" : ` at step ${grouped(step)}`;
    const head = runs.length > 1 ? element("h3", null, swatch(run), run.name, text("span", at, "faint")) : text("p", `By the model${at}.`, "faint");
    const content = [...classes.flatMap(class_findings), ...pairs.flatMap((one) => pair_findings(one, charts)),
      ...notes.map((note) => text("p", note, "faint")), ...problems.map((problem) => text("p", problem, "warning"))];
    // Of several runs, each on its own: side by side they would be too long.
    return runs.length > 1 ? [element("details", { class: "run" }, element("summary", null, head), ...content)] : [head, ...content];
  });
  const compared = report.comparisons.map((one) => {
    const points = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(100 * value).toFixed(2)}`;
    const is_certain = one.low > 0 || one.high < 0;
    const verdict = is_certain ? (one.accuracy > 0 ? "better" : "worse") : "may be chance";
    return [one.dataset, element("span", null, swatch(runs[one.run]), runs[one.run].name), [grouped(one.images), "number"],
      [grouped(one.only_this), "number"], [grouped(one.only_other), "number"],
      [`${points(one.accuracy)} points`, "number"], [`${points(one.low)} to ${points(one.high)}`, "number"],
      [verdict, is_certain ? "best" : "faint"]];
  });
  if (compared.length) {
    section(`Is the difference to ${runs[0].name} certain?`,
      table(["dataset", "run", ["images", "number"], ["only this right", "number"], ["only the first right", "number"], ["difference of top-1", "number"], ["95% interval", "number"], ""], compared),
      text("p", "The models of both runs, shown the same images: a paired bootstrap over the images (10,000 resamples).", "faint"));
  }
  section("What the model sees", ...all);
  const redraw = () => {
    for (const chart of charts) {
      if (chart.drawn) chart.drawn.destroy();
      chart.drawn = null;
      const details = chart.holder.closest("details");
      if (details.open) chart.drawn = draw_map(chart);
    }
  };
  for (const chart of charts) chart.holder.closest("details").addEventListener("toggle", redraw);
  return { redraw, found: JSON.stringify(found.map((run) => run.findings.weights)) };
}

function data_problems() {
  const bad = runs.filter((run) => run.skipped.samples);
  if (!bad.length) {
    section("Samples that could not be used", text("p", "None so far.", "faint"));
    return;
  }
  const parts = bad.flatMap((run) => {
    const { causes, shards, more_shards, examples, samples, lines: met, places } = run.skipped;
    const bars = (counts, head) => table([head, ["samples", "number"], ""], counts.map((count) => [
      [count.name, "text"], [grouped(count.samples), "number"],
      element("span", { class: "bar", style: `width:${(120 * count.samples) / counts[0].samples}px` }),
    ]));
    const lines = examples.map((entry) => [
      [entry.shard || "", "text"], [entry.key || "", "text"], entry.cause || "", [entry.detail || "", "text"]]);
    return [
      runs.length > 1 ? element("h3", null, swatch(run), run.name) : null,
      text("p", `${grouped(samples)} samples were left out and replaced by others` +
        (places < met ? `: ${grouped(places)} places of the data, some of them in several epochs.` : ".")),
      element("div", { class: "cards" }, bars(causes, "cause"), bars(shards, "shard or file")),
      more_shards ? text("p", `and ${grouped(more_shards)} shards or files more`, "faint") : null,
      element("details", null, text("summary", `${examples.length} of them, with details`),
        table(["shard or file", "key", "cause", "detail"], lines)),
    ];
  });
  section("Samples that could not be used", ...parts);
}

function history() {
  const parts = runs.flatMap((run) => {
    // In the order of the starts; within one, by time and then by step.
    const events = [];
    const start_of = (when, step) => {
      const before = run.starts.filter((start) => (when ? start.started <= when : (start.from_step || 0) <= step));
      return Math.max(0, before.length - 1);
    };
    const add = (start, order, step, when, content, kind) => events.push({ start, order, step, when, content, kind });
    run.starts.forEach((start, at) => {
      const where = start.resumed_from ? `, from the checkpoint ${start.resumed_from}` : "";
      add(at, 0, start.from_step || 0, start.started, `${at ? "resumed" : "started"} on ${start.host || "?"}${where}: ${(start.command || []).join(" ")}`);
      if (start.outcome) {
        const kind = ["finished", "interrupted"].includes(start.outcome) ? "" : "error";
        add(at, 3, start.to_step ?? null, start.ended, start.outcome, kind);
      } else if (at < run.starts.length - 1 || run.state === "killed") {
        add(at, 3, null, "", "its end is not recorded: the process was killed, or the machine went down", "error");
      }
    });
    for (const { step, changes } of run.changes) add(start_of("", step), 1, step, "", `went on with changes: ${[].concat(changes).join("; ")}`, "warning");
    for (const { step, time, text: said, times } of run.warnings) {
      add(start_of(time, step), 2, step, time, said + (times > 1 ? ` (${grouped(times)} times)` : ""), "warning");
    }
    if (run.overflows) {
      const times = run.overflows === 1 ? "once" : `${grouped(run.overflows)} times, first here`;
      add(start_of("", run.first_overflow), 2, run.first_overflow, "", `fp16 overflowed ${times}; each time, the step was repeated with the next batch`, "warning");
    }
    if (run.damaged_lines) {
      const lines = run.damaged_lines === 1 ? "a line of metrics.jsonl is" : `${grouped(run.damaged_lines)} lines of metrics.jsonl are`;
      add(Infinity, 4, null, "", `${lines} damaged and not shown`, "error");
    }
    events.sort((a, b) => a.start - b.start || a.order - b.order || (a.step ?? 0) - (b.step ?? 0));
    const lines = events.map(({ step, when, content, kind }) => element("li", null,
      element("span", { class: "faint", title: when || "" }, step === null ? "–" : `step ${grouped(step)}`), text("span", content, kind)));
    return [runs.length > 1 ? element("h3", null, swatch(run), run.name) : null, element("ul", { class: "events" }, ...lines)];
  });
  if (runs.some((run) => run.starts.length || run.warnings.length || run.changes.length)) section("What happened", ...parts);
}

function configs() {
  const parts = [];
  if (runs.length > 1) {
    const rows = report.differences.map(({ key, values }) => [key, ...values.map((value) => [value ?? "–", "text"])]);
    parts.push(rows.length
      ? table(["key", ...runs.map((run) => element("span", null, swatch(run), run.name))], rows)
      : text("p", "The configs do not differ, or one of them cannot be read.", "faint"));
  }
  for (const run of runs.filter((run) => run.config)) {
    parts.push(element("details", null, text("summary", `config.toml of ${run.name}`), text("pre", run.config)));
  }
  if (parts.length) section(runs.length > 1 ? "Configs, and where they differ" : "Config", ...parts);
}

function footer() {
  const lines = runs.map((run) => `${run.name}: ${grouped(run.places.length)} of ${grouped(run.lines)} training lines are drawn`);
  place_of_part.append(text("footer", `Written by ${report.program} from ${runs.map((run) => run.folder).join(", ")}. ${lines.join("; ")}.`));
}

// Before anything is drawn in its colors.
follow_theme(() => {
  for (const { result } of parts) if (result) result.redraw();
});

const parts = [overview, results, curves, findings, data_problems, history, configs, footer].map((draw_part) => {
  const place = element("div");
  page.append(place);
  return { draw_part, place, result: undefined };
});

function draw_all() {
  evaluated = evaluated_of();
  document.getElementById("title").textContent = runs.map((run) => run.name).join(", ");
  for (const part of parts) {
    const { draw_part, place } = part;
    // Curves stay where they are, so that nothing moves under the mouse.
    if (draw_part === curves && part.result && part.result.metrics === curve_metrics().join()) {
      part.result.update();
      continue;
    }
    // Pictures are not drawn again where they are the same.
    if (draw_part === findings && part.result && part.result.found === JSON.stringify(runs.filter((run) => run.findings).map((run) => run.findings.weights))) continue;
    const open = [...place.querySelectorAll("details")].map((details) => details.open);
    place_of_part = place;
    const held = place.offsetHeight;
    place.style.minHeight = `${held}px`;
    place.replaceChildren();
    part.result = draw_part();
    [...place.querySelectorAll("details")].forEach((details, at) => {
      if (open[at]) details.open = true;
    });
    place.style.minHeight = "";
  }
}
draw_all();

let width = page.clientWidth;
new ResizeObserver(() => {
  if (page.clientWidth === width) return;
  width = page.clientWidth;
  for (const { chart, holder } of view.charts) chart.setSize({ width: holder.clientWidth, height: 230 });
}).observe(page);

// A page that a server shows follows the runs.
if (report.live) {
  follow_events(report.live, "report", (sent) => {
    const before = runs;
    report = sent;
    runs = report.runs;
    // Events leave out what was found: it is long, and the page has it.
    runs.forEach((run, at) => { run.findings = run.findings || before[at].findings; });
    draw_all();
  });
}
