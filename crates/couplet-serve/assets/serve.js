"use strict";
// The page of a model: classifies an image by labels, and searches an index of images.
const by_id = (id) => document.getElementById(id);
const MOST_BYTES = 32 * 1024 * 1024;
let classes = null;
// The image to classify, as a data URL.
let image = null;

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
const text = (tag, content, kind) => element(tag, kind ? { class: kind } : null, content);
const grouped = (value) => Math.round(value).toLocaleString("en-US");

// A newer request of a kind wins over an older one.
const running = {};
async function ask(kind, path, body) {
  if (running[kind]) running[kind].abort();
  const own = new AbortController();
  running[kind] = own;
  let response;
  try {
    response = await fetch(path, body === undefined ? { signal: own.signal } : {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal: own.signal,
    });
  } catch (error) {
    if (own.signal.aborted) return null;
    throw new Error("The server does not answer; is it still running?");
  } finally {
    if (running[kind] === own) running[kind] = null;
  }
  const answer = await response.json().catch(() => ({}));
  if (own.signal.aborted) return null;
  if (!response.ok) throw new Error((answer.error && answer.error.message) || `The server answered ${response.status}.`);
  return answer;
}

function data_url(file) {
  return new Promise((resolve, reject) => {
    if (file.size > MOST_BYTES) {
      reject(new Error(`${file.name || "The image"} has ${(file.size / 1048576).toFixed(1)} MiB; at most 32 are taken.`));
      return;
    }
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error("The file cannot be read.")));
    reader.readAsDataURL(file);
  });
}

// Zero-shot.
const entries = (value, split) => value.split(split).map((one) => one.trim()).filter(Boolean);
const labels_of = () => entries(by_id("labels").value, /[\n,]/);

async function set_image(file) {
  const error = by_id("zero-shot-error");
  error.textContent = "";
  try {
    image = await data_url(file);
  } catch (problem) {
    error.textContent = problem.message;
    return;
  }
  const preview = by_id("image-preview");
  preview.src = image;
  preview.hidden = false;
  by_id("image-hint").textContent = file.name || "pasted image";
  if (labels_of().length > 1 || (classes && !labels_of().length)) classify();
}

async function classify() {
  const [error, button, list] = [by_id("zero-shot-error"), by_id("classify"), by_id("probabilities")];
  error.textContent = "";
  if (!image) {
    error.textContent = "Choose an image first.";
    return;
  }
  button.disabled = true;
  try {
    const answer = await ask("zero-shot", "/v1/zero-shot", { image, labels: labels_of(), templates: entries(by_id("templates").value, "\n") });
    if (!answer) return;
    list.replaceChildren(...answer.labels.slice(0, 30).map(({ label, probability }) => element("li", null,
      text("span", label, "label"), text("span", `${(100 * probability).toFixed(2)}%`, "number"),
      element("span", { class: "share" }, element("span", { style: `width:${(100 * probability).toFixed(2)}%` })))));
  } catch (problem) {
    list.replaceChildren();
    error.textContent = problem.message;
  } finally {
    button.disabled = false;
  }
}

// Search.
async function search(query, what) {
  const [error, note, hits, button] = [by_id("search-error"), by_id("search-note"), by_id("hits"), by_id("search")];
  error.textContent = "";
  button.disabled = true;
  hits.classList.add("old");
  try {
    const answer = await ask("search", "/v1/search", { ...query, limit: Number(by_id("limit").value) });
    if (!answer) return;
    const time = answer.seconds < 0.01 ? `${(1000 * answer.seconds).toFixed(1)} ms` : `${(1000 * answer.seconds).toFixed(0)} ms`;
    note.textContent = `${what}: ${grouped(answer.rows)} images searched in ${time}`;
    hits.replaceChildren(...answer.hits.map(figure));
  } catch (problem) {
    error.textContent = problem.message;
    note.textContent = "";
    hits.replaceChildren();
  } finally {
    if (!running.search) {
      button.disabled = false;
      hits.classList.remove("old");
    }
  }
}

function figure(hit) {
  const picture = element("img", { src: hit.image, alt: hit.caption || hit.key, loading: "lazy" });
  const frame = element("div", { class: "frame" }, picture);
  picture.addEventListener("error", () => frame.replaceChildren("the image is not there any more"));
  const similar = element("button", { type: "button", title: "Search images that look like this one" }, "similar");
  similar.addEventListener("click", () => search({ row: hit.row }, `like ${hit.caption || hit.key}`));
  const place = `${hit.file}: ${hit.key}`;
  return element("figure", { "data-row": hit.row }, frame, element("figcaption", null,
    element("div", { class: "top" }, text("span", hit.score.toFixed(4)), similar),
    hit.caption ? element("div", { class: "caption", title: hit.caption }, hit.caption) : null,
    element("div", { class: "place faint", title: place }, element("bdi", null, place))));
}

// Files come by choosing, by dropping and by pasting.
function takes_files(place, input, take) {
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    // The same file can be chosen again.
    input.value = "";
  });
  place.addEventListener("keydown", (event) => {
    if (event.target === place && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      input.click();
    }
  });
  place.addEventListener("dragover", (event) => { event.preventDefault(); place.classList.add("over"); });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

takes_files(by_id("image-drop"), by_id("image-file"), set_image);
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) set_image(file);
});
// A file that misses its place must not replace the page.
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
by_id("zero-shot").addEventListener("submit", (event) => { event.preventDefault(); classify(); });

let last_query = null;
function repeat(query, what) {
  last_query = [query, what];
  search(query, what);
}
by_id("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = by_id("words").value.trim();
  if (words) repeat({ text: words }, `“${words}”`);
  else by_id("search-error").textContent = "Type what the images should show.";
});
takes_files(by_id("search-file").closest("label"), by_id("search-file"), async (file) => {
  try {
    repeat({ image: await data_url(file) }, `like ${file.name || "the image"}`);
  } catch (problem) {
    by_id("search-error").textContent = problem.message;
  }
});
by_id("limit").addEventListener("change", () => { if (last_query) search(...last_query); });

// What is served.
function show_model(model) {
  document.title = `${model.name} – Couplet`;
  by_id("model").textContent = model.name;
  const facts = [model.architecture, `${(model.parameters / 1e6).toFixed(2)} M parameters`, `${model.image_size} px`,
    `embeddings of ${model.embed_dim}`, `${model.device}, ${model.precision}`, model.weights];
  by_id("facts").textContent = facts.filter(Boolean).join(" · ");
  classes = model.classes;
  if (classes) by_id("labels").placeholder = `Leave it empty for the model's own ${classes.length} classes: ${classes.slice(0, 5).join(", ")}${classes.length > 5 ? ", …" : ""}`;
  by_id("no-index").hidden = model.index !== null;
  by_id("search-part").hidden = model.index === null;
  if (model.index) by_id("search-note").textContent = `${model.index.name}: ${grouped(model.index.rows)} images`;
  const url = location.origin;
  const post = (path, body) => `curl ${url}${path} -H 'content-type: application/json' \\\n  -d '${body}'`;
  by_id("examples").textContent = [
    "# Embeddings, in OpenAI's form, of texts and of images",
    post("/v1/embeddings", '{"input": ["a dog", {"image": "data:image/jpeg;base64,…"}]}'),
    "", "# Which label an image has",
    post("/v1/zero-shot", '{"image": "data:image/jpeg;base64,…", "labels": ["dog", "cat"], "templates": ["a photo of a {}."]}'),
    "", "# Images of the index that show what words say",
    post("/v1/search", '{"text": "a dog on the beach", "limit": 10}'),
  ].join("\n");
}
ask("model", "/api/model").then((model) => { if (model) show_model(model); }).catch((problem) => { by_id("facts").textContent = problem.message; });

const root = document.documentElement;
const prefers_dark = matchMedia("(prefers-color-scheme: dark)");
const set_theme = (theme) => { root.dataset.theme = theme; };
set_theme(prefers_dark.matches ? "dark" : "light");
prefers_dark.addEventListener("change", (event) => set_theme(event.matches ? "dark" : "light"));
by_id("theme").addEventListener("click", () => set_theme(root.dataset.theme === "dark" ? "light" : "dark"));
