// The sources beside the answer: opens when a citation is followed, shows the passage, finds the way back to the list.

const panel = document.getElementById("evidence");
const body = document.getElementById("evidence-body");
const all = panel.querySelector("[data-all-sources]");
let opener = null;
let list = null; // address of the sources of the answer last looked at

function open() {
  panel.hidden = false;
}

function close() {
  panel.hidden = true;
  document.querySelectorAll("a.marker[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
  opener?.focus();
  opener = null;
}

panel.querySelector("[data-close]").addEventListener("click", close);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !panel.hidden && !document.querySelector("dialog[open]")) close();
});
all.addEventListener("click", () => htmx.ajax("GET", list, { target: body, swap: "innerHTML" }));

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.target !== body) return;
  const turn = event.detail.elt.closest?.(".turn");
  if (!turn) return;
  opener = event.detail.elt;
  list = turn.dataset.sources;
  document.querySelectorAll("a.marker[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
  if (opener.matches("a.marker")) opener.setAttribute("aria-current", "true");
});

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target === body) {
    open();
    const listed = body.querySelector(".source-list");
    all.hidden = Boolean(listed) || !list;
    body.scrollTop = 0;
    centre(body.querySelector("mark.passage"));
    if (matchMedia("(width <= 75rem)").matches) body.focus({ preventScroll: true });
  }
  const box = event.target.closest?.("#evidence-body .page-image")?.querySelector(".boxes rect");
  if (box) centre(box);
});

// Moves the panel only: scrollIntoView would move the conversation too.
function centre(element) {
  if (!element) return;
  const place = element.getBoundingClientRect().top - body.getBoundingClientRect().top + body.scrollTop;
  body.scrollTop = Math.max(0, place - body.clientHeight / 3);
}

// A page image comes after its boxes, and grows: keep the passage in sight.
body.addEventListener("load", (event) => {
  if (event.target.matches(".page-image img")) centre(body.querySelector(".boxes rect"));
}, true);

// Wide screens have room: the sources of the last answer are there from the beginning.
const first = body.querySelector(".source-list");
if (first) {
  list = [...document.querySelectorAll(".turn")].filter((turn) => turn.querySelector(".chips")).at(-1)?.dataset.sources;
  if (matchMedia("(width > 75rem)").matches) open();
}
document.addEventListener("ragplat:answered", (event) => {
  if (!event.detail.querySelector(".chips") || !matchMedia("(width > 75rem)").matches) return;
  list = event.detail.dataset.sources;
  htmx.ajax("GET", list, { target: body, swap: "innerHTML" });
});
