// Brings the passage into sight once it is there: the mark in a text, or the boxes on a page image.

function reveal(element) {
  element?.scrollIntoView({ block: "center" });
}

const mark = document.querySelector(".reading mark.passage");
const current = document.querySelector(".page-image[data-current]");
if (mark) reveal(mark);
else if (current && (document.querySelector("[hx-get*='/boxes/']") || new URLSearchParams(location.search).has("page"))) {
  current.scrollIntoView({ block: "start" });
}

document.addEventListener("htmx:afterSwap", (event) => {
  const box = event.target.closest(".page-image[data-current]")?.querySelector(".boxes rect");
  if (box) reveal(box);
});
