// The question box, and answers while they are written. A finished answer is fetched from the server, so that what is
// seen after the stream and after a reload is the same.

const composer = document.getElementById("composer");
const box = document.getElementById("question");
const STAGES = {
  understanding: "Understanding the question",
  searching: "Searching the documents",
  reading: "Reading what was found",
  writing: "Writing",
  storing: "Waiting for the database, to keep the answer",
};
const RETRY_SECONDS = 3; // after a stream that the server refused, as while it restarts
const RETRIES = 20;

document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  if (!event.target.matches("textarea[name=question]")) return;
  event.preventDefault();
  if (event.target.value.trim()) event.target.form.requestSubmit();
});

document.addEventListener("keydown", (event) => {
  const form = event.key === "Escape" && event.target.closest?.(".edit[open], .rename[open]");
  if (!form) return;
  event.stopImmediatePropagation(); // the sources stay open
  form.open = false;
  form.querySelector("summary").focus();
});

// Toggle events do not bubble.
document.addEventListener("toggle", (event) => {
  if (event.target.open && event.target.matches(".edit, .rename")) event.target.querySelector("textarea, input:not([type=hidden])")?.focus();
}, true);

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || !box) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  event.preventDefault();
  box.focus();
});

composer?.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.elt !== composer || !event.detail.successful) return;
  composer.reset();
});

document.addEventListener("htmx:load", (event) => {
  event.detail.elt.querySelector?.(".opinion[open]")?.scrollIntoView({ block: "nearest" });
});

// The next question follows the last one on this page, whatever other tabs show meanwhile.
document.addEventListener("htmx:load", (event) => {
  if (composer?.elements.after && event.detail.elt.matches?.(".turn[data-events]")) {
    composer.elements.after.value = event.detail.elt.dataset.turn;
  }
});

// Copy

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    const response = await fetch(button.dataset.copy);
    if (!response.ok) throw new Error(response.status);
    await copy(await response.text());
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 2000);
  } catch {
    location.assign(button.dataset.copy); // then at least as a file
  }
});

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without TLS browsers have no clipboard for pages, but for what is selected.
  const place = document.createElement("textarea");
  place.value = text;
  document.body.append(place);
  place.select();
  const copied = document.execCommand("copy");
  place.remove();
  if (!copied) throw new Error("not copied");
}

// Choosing a corpus shows its own examples, and whether it can be asked yet; what was typed stays.
const corpus = document.getElementById("corpus");
corpus?.addEventListener("change", () => {
  sessionStorage.setItem("question", box.value);
  location.search = `?corpus=${encodeURIComponent(corpus.value)}`;
});
if (corpus && sessionStorage.getItem("question")) {
  box.value ||= sessionStorage.getItem("question");
  sessionStorage.removeItem("question");
}

document.addEventListener("htmx:load", (event) => follow(event.detail.elt));
for (const turn of document.querySelectorAll("[data-events]")) follow(turn);

// Answers

function follow(turn) {
  if (!turn.matches?.("[data-events]") || turn.dataset.followed) return;
  turn.dataset.followed = "yes";
  turn.scrollIntoView({ block: "start", behavior: "smooth" });
  const stage = turn.querySelector("[data-stage]");
  const place = turn.querySelector("[data-text]");
  let text = "";
  let sources = [];
  let drawn = 0;
  let refused = 0;
  let stream;

  // The stream replays from its beginning, so a lost connection only means starting over.
  function connect() {
    stream = new EventSource(turn.dataset.events);
    stream.onopen = () => {
      text = "";
      sources = [];
      refused = 0;
    };
    stream.onmessage = heard;
    stream.onerror = lost;
  }
  function heard(message) {
    const event = JSON.parse(message.data);
    if (event.type === "stage") stage.textContent = STAGES[event.name] ?? event.name;
    if (event.type === "sources") {
      sources = event.sources;
      showFound(turn, sources);
    }
    if (event.type === "text") {
      text += event.text;
      cancelAnimationFrame(drawn);
      drawn = requestAnimationFrame(() => draw(place, text, sources));
    }
    if (event.type === "failed") {
      stream.close();
      fail(turn, event.reason);
    }
    if (event.type === "done") {
      stream.close();
      cancelAnimationFrame(drawn);
      finish(turn);
    }
  }
  // The browser connects again by itself, but not after a refusal.
  function lost() {
    const closed = stream.readyState === EventSource.CLOSED;
    stage.textContent = closed && refused >= RETRIES ? "The connection was lost. Reload the page." : "Connecting again";
    if (closed && refused++ < RETRIES) setTimeout(connect, RETRY_SECONDS * 1000);
  }
  connect();
}

async function finish(turn) {
  const { id } = turn;
  await htmx.ajax("GET", turn.dataset.url, { target: turn, swap: "outerHTML" });
  document.dispatchEvent(new CustomEvent("ragplat:answered", { detail: document.getElementById(id) }));
}

function fail(turn, reason) {
  turn.querySelector(".stages").hidden = true;
  turn.querySelector("[data-found]").hidden = true;
  const note = turn.querySelector("[data-failed]");
  note.querySelector("[data-reason]").textContent = reason;
  note.hidden = false;
}

function showFound(turn, sources) {
  const names = [...new Set(sources.map((one) => one.document))];
  const list = turn.querySelector("[data-found]");
  list.hidden = !names.length;
  list.replaceChildren(...names.slice(0, 6).map((name) => {
    const item = document.createElement("li");
    item.className = "chip";
    item.textContent = name;
    return item;
  }));
}

// Only paragraphs and markers while it is written: lists and code come with the finished answer.
function draw(place, text, sources) {
  place.replaceChildren(...text.split(/\n{2,}/).map((paragraph) => {
    const element = document.createElement("p");
    for (const piece of paragraph.split(/(\[\d+\])/)) {
      const number = /^\[(\d+)\]$/.exec(piece)?.[1];
      element.append(number && sources[number - 1] ? marker(sources[number - 1]) : piece);
    }
    return element;
  }));
  htmx.process(place);
}

function marker(source) {
  const link = document.createElement("a");
  const span = `?start=${source.start}&end=${source.end}`;
  link.className = "marker";
  link.textContent = source.number;
  link.href = `/documents/${source.document_id}/${span}`;
  link.setAttribute("hx-get", `/documents/${source.document_id}/passage/${span}`);
  link.setAttribute("hx-target", "#evidence-body");
  link.setAttribute("aria-label", `Source ${source.number}: ${source.document}`);
  return link;
}
