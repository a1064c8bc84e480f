"use strict";
// The page of a model: classifies an image by labels, and searches an index of images.
const by_id = (id) => document.getElementById(id);
const MOST_BYTES = 32 * 1024 * 1024;
// Labels that are shown before one asks for all of them.
const MOST_LABELS = 30;
let classes = null;
// The image to classify, as a data URL, and the file that was chosen last, which may not be read yet.
let [image, image_file] = [null, null];

function shortened(content) {
  const characters = [...content];
  return characters.length > 80 ? `${characters.slice(0, 79).join("")}…` : content;
}

// A newer request of a kind wins over an older one, whose answer is null.
const running = {};
function stop(kind) {
  if (running[kind]) running[kind].abort();
  running[kind] = null;
}
async function ask(kind, path, body) {
  stop(kind);
  const own = new AbortController();
  running[kind] = own;
  let [response, content] = [null, ""];
  try {
    response = await fetch(path, body === undefined ? { signal: own.signal } : {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal: own.signal,
    });
    content = await response.text();
  } catch (error) {
    if (own.signal.aborted) return null;
    throw new Error("The server does not answer; is it still running?");
  } finally {
    if (running[kind] === own) running[kind] = null;
  }
  if (own.signal.aborted) return null;
  let answer = null;
  try {
    answer = JSON.parse(content);
  } catch (error) {
    // What is no JSON comes from something between this page and the server.
  }
  if (response.ok && answer) return answer;
  throw new Error((answer && answer.error && answer.error.message) || `The server's answer cannot be read (status ${response.status}).`);
}

// A button that is disabled loses the focus, and gets it back unless something else has it by then.
let focused = null;
function set_busy(button, is_busy) {
  if (is_busy && document.activeElement === button) focused = button;
  button.disabled = is_busy;
  button.setAttribute("aria-busy", String(is_busy));
  if (is_busy || focused !== button) return;
  focused = null;
  if (document.activeElement === document.body) button.focus({ preventScroll: true });
}

function data_url(file) {
  return new Promise((resolve, reject) => {
    if (file.size > MOST_BYTES) {
      reject(new Error(`${file.name || "The image"} has ${(file.size / 1048576).toFixed(1)} MiB; an image may have at most 32 MiB.`));
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
  image_file = file;
  let url;
  try {
    url = await data_url(file);
  } catch (problem) {
    if (image_file === file) error.textContent = problem.message;
    return;
  }
  if (image_file !== file) return;
  image = url;
  // What is shown, or still computed, is of the image before.
  stop("zero-shot");
  by_id("probabilities").replaceChildren();
  const preview = by_id("image-preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  by_id("image-hint").textContent = file.name || "pasted image";
  if (labels_of().length > 1 || (classes && !labels_of().length)) classify();
}

// The server may read formats that the browser does not.
by_id("image-preview").addEventListener("error", () => {
  by_id("image-preview").hidden = true;
  by_id("image-hint").append(" (no preview)");
});

function show_probabilities(labels) {
  const lines = labels.map(({ label, probability }) => {
    const percent = `${(100 * probability).toFixed(2)}%`;
    return element("li", null, text("span", label, "label"), text("span", percent, "number"),
      element("span", { class: "share" }, element("span", { style: `width:${percent}` })));
  });
  const list = by_id("probabilities");
  list.replaceChildren(...lines.slice(0, MOST_LABELS));
  if (lines.length <= MOST_LABELS) return;
  const more = element("button", { type: "button" }, `Show all ${grouped(lines.length)}`);
  more.addEventListener("click", () => list.replaceChildren(...lines));
  list.append(element("li", null, more));
}

async function classify() {
  const [error, button, list] = [by_id("zero-shot-error"), by_id("classify"), by_id("probabilities")];
  error.textContent = "";
  if (!image) {
    error.textContent = "Choose an image first.";
    return;
  }
  set_busy(button, true);
  list.classList.add("old");
  try {
    const answer = await ask("zero-shot", "/v1/zero-shot", { image, labels: labels_of(), templates: entries(by_id("templates").value, "\n") });
    if (answer) show_probabilities(answer.labels);
  } catch (problem) {
    list.replaceChildren();
    error.textContent = problem.message;
  } finally {
    if (!running["zero-shot"]) {
      set_busy(button, false);
      list.classList.remove("old");
    }
  }
}

// Search. The last query is asked again when the number of results changes.
let last_query = null;
// The file to search by that was chosen last, unless another search came before it was read.
let search_file = null;
async function search(query, what) {
  const [error, note, hits, button] = [by_id("search-error"), by_id("search-note"), by_id("hits"), by_id("search")];
  last_query = [query, what];
  search_file = null;
  error.textContent = "";
  set_busy(button, true);
  hits.classList.add("old");
  try {
    const answer = await ask("search", "/v1/search", { ...query, limit: Number(by_id("limit").value) });
    if (!answer) return;
    const time = answer.seconds < 0.01 ? `${(1000 * answer.seconds).toFixed(1)} ms` : `${(1000 * answer.seconds).toFixed(0)} ms`;
    note.textContent = `${what}: ${answer.rows === 1 ? "1 image" : `${grouped(answer.rows)} images`} searched in ${time}`;
    // The button that asked goes with the old hits, and the new ones begin above it.
    const is_here = hits.contains(document.activeElement) || document.activeElement === document.body;
    hits.replaceChildren(...answer.hits.map(figure));
    if (query.row === undefined || !is_here) return;
    note.focus({ preventScroll: true });
    note.scrollIntoView({ block: "nearest" });
  } catch (problem) {
    error.textContent = problem.message;
    note.textContent = "";
    hits.replaceChildren();
  } finally {
    if (!running.search) {
      set_busy(button, false);
      hits.classList.remove("old");
    }
  }
}

function figure(hit) {
  const picture = element("img", { src: hit.image, alt: hit.caption || hit.key, loading: "lazy" });
  const frame = element("div", { class: "frame" }, picture);
  picture.addEventListener("error", () => frame.replaceChildren("the image is not there any more"));
  const called = shortened(hit.caption || hit.key);
  const similar = element("button", { type: "button", title: "Search images that look like this one", "aria-label": `similar to ${called}` }, "similar");
  similar.addEventListener("click", () => search({ row: hit.row }, `like ${called}`));
  const place = `${hit.file}: ${hit.key}`;
  return element("figure", { "data-row": hit.row }, frame, element("figcaption", null,
    element("div", { class: "top" }, text("span", hit.score.toFixed(4)), similar),
    hit.caption ? element("div", { class: "caption", title: hit.caption }, hit.caption) : null,
    element("div", { class: "place faint", title: place }, element("bdi", null, place))));
}

// Files come by choosing, by dropping and by pasting.
function takes_files(place, input, take, refuse) {
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    // The same file can be chosen again.
    input.value = "";
  });
  // Space opens the choice of a file; Enter does, too, as on a button.
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    input.click();
  });
  place.addEventListener("dragover", (event) => {
    if (!is_for_field(event)) place.classList.add("over");
  });
  place.addEventListener("dragleave", (event) => {
    if (!place.contains(event.relatedTarget)) place.classList.remove("over");
  });
  place.addEventListener("drop", (event) => {
    place.classList.remove("over");
    if (is_for_field(event)) return;
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
    else refuse("Drop an image file; this is none.");
  });
}
// Text that is dropped into a field is the field's.
const is_field = (target) => target instanceof Element && target.matches("textarea, input");
const is_for_field = (event) => is_field(event.target) && !event.dataTransfer.types.includes("Files");
// Anything else that misses its place must not replace the page.
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => { if (!is_for_field(event)) event.preventDefault(); });
}

takes_files(by_id("image-drop"), by_id("image-file"), set_image, (message) => { by_id("zero-shot-error").textContent = message; });
document.addEventListener("paste", (event) => {
  // Programs that copy text often add a picture of it.
  if (is_field(event.target) && event.clipboardData.types.includes("text/plain")) return;
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) set_image(file);
});
by_id("zero-shot").addEventListener("submit", (event) => { event.preventDefault(); classify(); });

by_id("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = by_id("words").value.trim();
  if (words) search({ text: words }, `“${shortened(words)}”`);
  else by_id("search-error").textContent = "Type what the images should show.";
});
takes_files(by_id("search-form"), by_id("search-file"), async (file) => {
  by_id("search-error").textContent = "";
  search_file = file;
  try {
    const url = await data_url(file);
    if (search_file === file) search({ image: url }, `like ${shortened(file.name || "the image")}`);
  } catch (problem) {
    if (search_file === file) by_id("search-error").textContent = problem.message;
  }
}, (message) => { by_id("search-error").textContent = message; });
by_id("limit").addEventListener("change", () => { if (last_query) search(...last_query); });

// What is served.
function show_model(model) {
  document.title = `${model.name} – Couplet`;
  by_id("model").textContent = model.name;
  const facts = [model.architecture, `${(model.parameters / 1e6).toFixed(2)} M parameters`, `${model.image_size} px`,
    model.context_length && `texts of ${model.context_length} tokens`, `embeddings of ${model.embed_dim}`, `${model.device}, ${model.precision}`, model.weights];
  by_id("facts").textContent = facts.filter(Boolean).join(" · ");
  classes = model.classes;
  if (classes) by_id("labels").placeholder = `Leave this empty for the model's own ${grouped(classes.length)} classes: ${classes.slice(0, 5).join(", ")}${classes.length > 5 ? ", …" : ""}`;
  by_id("no-index").hidden = model.index !== null;
  by_id("search-part").hidden = model.index === null;
  if (model.index) by_id("search-note").textContent = `${model.index.name}: ${grouped(model.index.rows)} images`;
  const post = (path) => `curl ${location.origin}${path} -H 'content-type: application/json'`;
  const with_text = (path, body) => `${post(path)} \\\n  -d '${body}'`;
  // An image is longer than an argument may be.
  const with_image = (path, body) => `printf '${body}' "$(base64 < photo.jpg | tr -d '\\n')" |\n  ${post(path)} -d @-`;
  by_id("examples").textContent = [
    "# Embeddings of texts and images, in OpenAI's form",
    with_image("/v1/embeddings", '{"input": ["a dog", {"image": "data:image/jpeg;base64,%s"}]}'),
    "", "# Which label an image has",
    with_image("/v1/zero-shot", '{"image": "data:image/jpeg;base64,%s", "labels": ["dog", "cat"], "templates": ["a photo of a {}."]}'),
    "", model.index ? "# Images of the index, by words" : "# Images of an index, by words; needs --index",
    with_text("/v1/search", '{"text": "a dog on the beach", "limit": 12}'),
    "", model.index ? "# Images of the index, by an image" : "# Images of an index, by an image; needs --index",
    with_image("/v1/search", '{"image": "data:image/jpeg;base64,%s", "limit": 12}'),
  ].join("\n");
}
ask("model", "/api/model").then((model) => { if (model) show_model(model); }).catch((problem) => {
  const facts = by_id("facts");
  facts.setAttribute("role", "alert");
  facts.className = "error";
  facts.textContent = problem.message;
});

follow_theme(() => {});
