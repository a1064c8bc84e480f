"use strict";
// Lists runs from the JSON in the page, and again when a server sends another list.
let list = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page");
const chosen = new Set();

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min`;
}
const address = (folders) => `/run?${folders.map((folder) => `run=${encodeURIComponent(folder)}`).join("&")}`;

function progress(run) {
  if (!run.total_steps) return grouped(run.step);
  const bar = element("progress", { max: run.total_steps, value: run.step, "aria-label": `step ${run.step} of ${run.total_steps}` });
  return element("span", null, bar, ` ${grouped(run.step)} of ${grouped(run.total_steps)}`);
}

function draw() {
  const compare = element("a", { class: "button", id: "compare", role: "button" }, "Compare");
  const update = () => {
    const folders = list.runs.map((run) => run.folder).filter((folder) => chosen.has(folder));
    if (folders.length) compare.setAttribute("href", address(folders));
    else compare.removeAttribute("href");
    compare.textContent = folders.length ? `Show ${folders.length} together` : "Choose runs to compare";
  };
  const rows = list.runs.map((run) => {
    const box = element("input", { type: "checkbox", "aria-label": `choose ${run.folder}` });
    box.checked = chosen.has(run.folder);
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(run.folder);
      else chosen.delete(run.folder);
      update();
    });
    return element("tr", null,
      element("td", null, box),
      element("td", { class: "text" }, element("a", { href: address([run.folder]) }, run.folder)),
      element("td", null, text("span", run.state, `state ${run.state}`)),
      element("td", null, progress(run)),
      text("td", run.seconds_left === null ? "–" : duration(run.seconds_left), "number"),
      text("td", run.loss === null ? "–" : run.loss.toFixed(4), "number"),
      text("td", run.best ? `${run.best_shown} at step ${grouped(run.best.step)}` : "–", "number"));
  });
  const head = ["", "run", "state", "step", ["time left", "number"], ["loss", "number"], ["best", "number"]].map((cell) =>
    element("th", { scope: "col", class: Array.isArray(cell) ? cell[1] : "" }, Array.isArray(cell) ? cell[0] : cell));
  const found = rows.length
    ? element("div", { class: "wide" }, element("table", { id: "runs" }, element("thead", null, element("tr", null, ...head)), element("tbody", null, ...rows)))
    : text("p", "There is no run yet.", "faint");
  page.replaceChildren(element("div", { class: "controls" }, compare), found,
    text("footer", `Shown by ${list.program} from ${list.folders.join(", ")}.`));
  update();
}

document.getElementById("title").textContent = "Runs";
follow_theme(() => {});
draw();
follow_events(list.live, "list", (sent) => {
  list = sent;
  draw();
});
