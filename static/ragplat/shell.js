// What every page needs: the theme toggle, the confirm dialog, and errors shown where they happened.

const root = document.documentElement;

document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-theme-toggle]")) return;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  // A cookie, so that the server sends the right page at once and nothing flashes.
  document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
});

// Confirm: htmx asks before it sends; the browser's own box would not say which button does what.
document.addEventListener("htmx:confirm", (event) => {
  if (!event.detail.question) return;
  event.preventDefault();
  const dialog = document.getElementById("confirm");
  dialog.querySelector("#confirm-text").textContent = event.detail.question;
  dialog.returnValue = "no";
  dialog.addEventListener("close", () => dialog.returnValue === "yes" && event.detail.issueRequest(true), { once: true });
  dialog.showModal();
});

let hiding;
function toast(message) {
  const box = document.getElementById("toast");
  box.textContent = message;
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (box.hidden = true), 8000);
}

// An error belongs to the form it came from, when that has a place for it.
function report(element, message) {
  const place = element?.closest("form")?.querySelector("[data-error]");
  if (!place) return toast(message);
  place.hidden = false;
  place.textContent = message;
}

function reason(request) {
  try {
    return JSON.parse(request.responseText).error;
  } catch {
    return request.status === 413 ? "This is larger than the server takes." : `The server had a fault (${request.status}).`;
  }
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const place = event.detail.elt.closest("form")?.querySelector("[data-error]");
  if (place) place.hidden = true;
});
document.addEventListener("htmx:responseError", (event) => report(event.detail.elt, reason(event.detail.xhr)));
document.addEventListener("htmx:sendError", (event) =>
  report(event.detail.elt, "The server does not answer. What you typed is kept; try again."),
);
