// Uploads file by file, so that each has its progress, its outcome and its reason; then follows the documents until
// they are ready.

const form = document.getElementById("upload");
const input = form.querySelector("input[type=file]");
const list = document.getElementById("uploads");
const head = form.querySelector(".upload-head");
const sum = document.getElementById("upload-sum");
const AT_ONCE = 2;
const SHOWN = 200; // rows kept in the page; a folder may hold thousands of files
const POLL = 1500;

const waiting = [];
const following = new Map(); // document id -> its row
let running = 0;
let done = 0;
let refused = 0;
let total = 0;

input.addEventListener("change", () => {
  add([...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
  input.value = "";
});

for (const type of ["dragenter", "dragover"]) {
  form.addEventListener(type, (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
}
form.addEventListener("dragleave", (event) => form.contains(event.relatedTarget) || form.classList.remove("over"));
form.addEventListener("drop", async (event) => {
  event.preventDefault();
  form.classList.remove("over");
  // The items are gone after the first await: take them all before.
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  add((await Promise.all(entries.map(walk))).flat());
});
// A file dropped beside the area must not replace the page.
for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());

async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...(await walk(one)));
  }
}

function add(files) {
  if (!running && !waiting.length) [done, refused, total] = [0, 0, 0];
  total += files.length;
  waiting.push(...files);
  show();
  while (running < AT_ONCE && waiting.length) next();
}

function next() {
  const one = waiting.shift();
  if (!one) return;
  running += 1;
  const row = document.createElement("li");
  const name = document.createElement("span");
  name.className = "cut";
  name.textContent = name.title = one.path;
  const outcome = document.createElement("span");
  outcome.className = "outcome";
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", `Uploading ${one.path}`);
  outcome.append(bar);
  row.append(name, outcome);
  list.prepend(row);
  while (list.children.length > SHOWN) list.lastElementChild.remove();
  send(one, row, bar);
}

function send({ file, path }, row, bar) {
  const body = new FormData();
  body.append("files", file, file.name);
  body.append("path", path);
  const request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.setRequestHeader("X-CSRFToken", form.querySelector("[name=csrfmiddlewaretoken]").value);
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) bar.value = event.loaded / event.total;
  });
  request.addEventListener("loadend", () => {
    running -= 1;
    done += 1;
    settle(row, answer(request));
    show();
    next();
  });
  request.send(body);
}

function answer(request) {
  try {
    const body = JSON.parse(request.responseText);
    return body.results?.[0] ?? { outcome: "refused", message: body.error };
  } catch {
    if (!request.status) return { outcome: "refused", message: "The server does not answer. Choose the file again." };
    const signedOut = request.responseURL.includes("/login/");
    return { outcome: "refused", message: signedOut ? "Your session has ended. Sign in again." : `The server refused it (${request.status}).` };
  }
}

function settle(row, result) {
  row.className = result.outcome;
  say(row, result.message, result.url);
  if (result.outcome === "refused") refused += 1;
  if (result.document) follow(result.document, row);
  refresh();
}

function say(row, message, url) {
  const outcome = row.querySelector(".outcome");
  if (!url) return outcome.replaceChildren(message);
  const link = document.createElement("a");
  link.href = url;
  link.textContent = message;
  outcome.replaceChildren(link);
}

function show() {
  head.hidden = total === 0;
  const left = total - done;
  const bad = refused ? `, ${refused} refused` : "";
  sum.textContent = left ? `${done} of ${total} uploaded${bad}` : `${total - refused} uploaded${bad}`;
}

form.querySelector("[data-clear]").addEventListener("click", () => {
  list.replaceChildren();
  following.clear();
  if (!running && !waiting.length) total = 0;
  show();
});

// The table below shows what came in, at most once a second.
let refreshing;
function refresh() {
  refreshing ??= setTimeout(() => {
    refreshing = undefined;
    htmx.trigger("#documents", "refresh");
  }, 1000);
}

const WORDS = { queued: "In the queue", parsing: "Reading", chunking: "Cutting", embedding: "Embedding", ready: "Ready" };
let polling;

function follow(id, row) {
  following.set(String(id), row);
  polling ??= setTimeout(poll, POLL);
}

async function poll() {
  polling = undefined;
  const ids = [...following.keys()].slice(0, 100);
  if (!ids.length) return;
  try {
    const response = await fetch(`${form.dataset.states}?ids=${ids.join(",")}`, { headers: { Accept: "application/json" } });
    const { documents } = await response.json();
    for (const id of ids) update(id, documents[id]);
  } catch {
    // Offline for a moment: the next round tells.
  }
  if (following.size) polling = setTimeout(poll, POLL);
}

function update(id, now) {
  const row = following.get(id);
  if (!row?.isConnected || !now) return following.delete(id);
  const part = now.state === "embedding" && now.chunks ? ` ${now.stored} of ${now.chunks} chunks` : "";
  row.className = now.state;
  say(row, now.reason || WORDS[now.state] + part, `/documents/${id}/`);
  if (now.settled) following.delete(id);
}
