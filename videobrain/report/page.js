"use strict";
(() => {
  const figure = (number) => document.getElementById("frame-" + number);
  const holder = (number) => {
    const own = figure(number);
    const blank = own && own.querySelector("a.blank[data-of]");
    return blank ? figure(blank.dataset.of) : own;
  };
  const picture = (number) => {
    const held = holder(number);
    return held ? held.querySelector("img") : null;
  };

  const borrowed = (original) => {
    const copy = new Image();
    for (const name of ["width", "height", "src"]) copy.setAttribute(name, original.getAttribute(name));
    copy.alt = "";
    return copy;
  };

  // Each picture stands in the page once; every other place borrows it.
  for (const place of document.querySelectorAll("[data-of]")) {
    const original = picture(place.dataset.of);
    if (!original) continue;
    place.replaceChildren(borrowed(original));
  }

  // Pointing at the time line shows the nearest frame of the row.
  const peek = document.getElementById("peek");
  const line = document.getElementById("timeline");
  const near = (track, x) => {
    const box = track.getBoundingClientRect();
    let best = null;
    let least = 14;
    for (const mark of track.querySelectorAll("a[data-frame]")) {
      const at = box.left + (parseFloat(mark.firstElementChild.getAttribute("x")) / 100) * box.width;
      if (Math.abs(at - x) < least) [best, least] = [mark, Math.abs(at - x)];
    }
    return best;
  };
  let marked = null;
  const hide = () => {
    if (peek) peek.hidden = true;
    if (marked) marked.classList.remove("near");
    marked = null;
  };
  for (const track of line ? line.querySelectorAll("svg.track") : []) {
    for (const title of track.querySelectorAll("title")) title.remove(); // the preview says more
    track.addEventListener("pointermove", (event) => {
      const mark = near(track, event.clientX);
      if (mark === marked) return;
      hide();
      if (!mark) return;
      marked = mark;
      mark.classList.add("near");
      const number = mark.dataset.frame;
      const words = document.createElement("span");
      words.textContent = figure(number).dataset.caption;
      const original = picture(number);
      const shown = [words];
      if (original) shown.unshift(borrowed(original));
      peek.replaceChildren(...shown);
      peek.hidden = false;
      const whole = line.getBoundingClientRect();
      const box = mark.getBoundingClientRect();
      const left = box.left + box.width / 2 - whole.left - peek.offsetWidth / 2;
      peek.style.left = Math.max(0, Math.min(left, whole.width - peek.offsetWidth)) + "px";
      peek.style.top = track.getBoundingClientRect().top - whole.top - peek.offsetHeight - 6 + "px";
    });
    track.addEventListener("pointerleave", hide);
    track.addEventListener("click", (event) => {
      const mark = near(track, event.clientX);
      if (mark) location.hash = "#frame-" + mark.dataset.frame;
    });
  }

  // Clicking a frame opens it large; the arrow keys go on from there.
  const viewer = document.getElementById("viewer");
  const large = document.getElementById("viewer-image");
  const words = document.getElementById("viewer-caption");
  const figures = [...document.querySelectorAll("figure.frame")].filter((each) => picture(each.id.slice(6)));
  let current = 0;
  const open = (index) => {
    current = (index + figures.length) % figures.length;
    const original = picture(figures[current].id.slice(6));
    large.src = original.src;
    large.alt = original.alt;
    words.textContent = figures[current].dataset.caption;
    if (!viewer.open) viewer.showModal();
  };
  figures.forEach((each, index) => {
    const shown = each.querySelector("img");
    shown.tabIndex = 0;
    shown.setAttribute("role", "button");
    if (!shown.alt) shown.alt = picture(each.id.slice(6)).alt;
    shown.addEventListener("click", (event) => {
      event.preventDefault();
      open(index);
    });
    shown.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      open(index);
    });
  });
  document.getElementById("viewer-back").addEventListener("click", () => open(current - 1));
  document.getElementById("viewer-on").addEventListener("click", () => open(current + 1));
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer || event.target === large) viewer.close();
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") open(current - 1);
    if (event.key === "ArrowRight") open(current + 1);
  });
})();
