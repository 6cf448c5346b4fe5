"use strict";
// The page is complete without this script, which adds: sorting, the theme switch, readings on curves, lifted series.
(() => {
  const all = (query, root = document) => Array.from(root.querySelectorAll(query));

  // Sorting. Cells carry their value in data-value; a cell without one was not measured and stays last both ways.
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  const sort = (table, column, down) => {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows).map((row, place) => ({ row, place, value: row.cells[column].dataset.value }));
    rows.sort((a, b) => {
      if (a.value === undefined || b.value === undefined) {
        return (a.value === undefined) - (b.value === undefined) || a.place - b.place;
      }
      return (down ? -1 : 1) * compare(a.value, b.value) || a.place - b.place;
    });
    body.append(...rows.map((entry) => entry.row));
  };
  const said = document.createElement("p");
  said.className = "skip";
  said.setAttribute("role", "status");
  document.body.append(said);
  for (const table of all("table.sort")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, column, down);
        said.textContent = `sorted by ${button.textContent}, ${down ? "descending" : "ascending"}`;
      });
    });
  }

  // A table wider than its frame says so, on the sides on which more follows.
  const frames = all(".frame").map((frame) => {
    const hint = document.createElement("p");
    hint.className = "hint";
    frame.before(hint);
    const look = () => {
      const rest = frame.scrollWidth - frame.clientWidth;
      hint.hidden = rest < 2;
      hint.textContent = frame.scrollLeft < rest - 1 ? "more columns → scroll sideways" : "← scroll back";
      frame.classList.toggle("cut", rest > 1 && frame.scrollLeft < rest - 1);
      frame.classList.toggle("begun", rest > 1 && frame.scrollLeft > 1);
    };
    frame.addEventListener("scroll", look, { passive: true });
    return look;
  });
  const lookAll = () => frames.forEach((look) => look());
  addEventListener("resize", lookAll);
  all("details").forEach((part) => part.addEventListener("toggle", lookAll));
  lookAll();

  // A face is enlarged by click or Enter; Escape closes it.
  const dialog = document.createElement("dialog");
  const close = document.createElement("form");
  close.method = "dialog";
  const end = document.createElement("button");
  end.textContent = "Close";
  close.append(end);
  const large = new Image();
  const words = document.createElement("p");
  dialog.append(close, words);
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  for (const picture of all(".strips img")) {
    const button = document.createElement("button");
    button.type = "button";
    picture.replaceWith(button);
    button.append(picture);
    button.addEventListener("click", () => {
      large.src = picture.src;
      large.alt = words.textContent = picture.alt;
      dialog.append(large);
      dialog.showModal();
    });
  }

  // Theme: the system's until the reader chooses; the choice is kept where the browser lets a page keep one.
  const root = document.documentElement;
  const keep = (value) => { try { localStorage.setItem("theme", value); } catch { /* no storage for files */ } };
  try { root.dataset.theme = localStorage.getItem("theme") || ""; } catch { /* no storage for files */ }
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const toggle = document.createElement("button");
  toggle.id = "theme";
  toggle.type = "button";
  const name = () => { toggle.textContent = dark() ? "Light theme" : "Dark theme"; };
  toggle.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    keep(root.dataset.theme);
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
  document.querySelector(".head").append(toggle);

  // A legend's entry lifts its series out of the others.
  for (const legend of all(".legend")) {
    const scope = legend.closest("figure") || legend.parentElement;
    const lift = (style) => all("svg [data-series]", scope).forEach((part) => {
      part.classList.toggle("dim", style !== null && part.dataset.series !== style);
    });
    for (const item of all("li", legend)) {
      item.addEventListener("pointerenter", () => lift(item.dataset.for));
      item.addEventListener("pointerleave", () => lift(null));
    }
  }

  // Readings: the values of all curves at the pointer.
  const points = (path) => path.getAttribute("d").slice(1).split("L").map((pair) => pair.split(" ").map(Number));
  const height = (places, x) => {
    const after = places.findIndex((place) => place[0] >= x);
    if (after < 0 || (after === 0 && places[0][0] > x + 0.5)) return null;
    if (after === 0) return places[0][1];
    const [[x0, y0], [x1, y1]] = [places[after - 1], places[after]];
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0 || 1);
  };
  for (const chart of all("svg[data-read]")) {
    const [left, right, top, floor] = chart.dataset.place.split(" ").map(Number);
    const [xLow, xHigh, yLow, yHigh] = chart.dataset.scale.split(" ").map(Number);
    const lines = all("path.line", chart).map((path) => ({ path, places: points(path) }));
    const cursor = document.createElementNS(chart.namespaceURI, "line");
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("y1", top);
    cursor.setAttribute("y2", floor);
    const reading = document.createElement("div");
    reading.className = "reading";
    reading.hidden = true;
    chart.parentElement.append(reading);
    const hide = () => { cursor.remove(); reading.hidden = true; };
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("pointermove", (event) => {
      const frame = chart.getBoundingClientRect();
      const zoom = chart.viewBox.baseVal.width / frame.width;
      const x = (event.clientX - frame.left) * zoom;
      if (x < left || x > right) { hide(); return; }
      const rows = lines.map(({ path, places }) => ({ path, y: height(places, x) })).filter((row) => row.y !== null);
      rows.sort((a, b) => a.y - b.y);
      const at = document.createElement("div");
      at.textContent = `at ${(xLow + (xHigh - xLow) * (x - left) / (right - left)).toPrecision(3)}`;
      reading.replaceChildren(at, ...rows.map(({ path, y }) => {
        const line = document.createElement("div");
        const mark = document.createElement("span");
        mark.className = `swatch ${path.getAttribute("class").split(" ")[1]}`;
        const value = document.createElement("b");
        value.textContent = (yLow + (yHigh - yLow) * (floor - y) / (floor - top)).toFixed(yHigh >= 50 ? 1 : 2);
        line.append(mark, ` ${path.dataset.label}`, value);
        return line;
      }));
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      chart.append(cursor);
      reading.hidden = false;
      const place = event.clientX - frame.left;
      const beyond = place + 20 + reading.offsetWidth > frame.width;
      reading.style.left = `${Math.max(0, beyond ? place - 14 - reading.offsetWidth : place + 14)}px`;
      reading.style.top = `${Math.max(0, event.clientY - frame.top - reading.offsetHeight / 2)}px`;
    });
  }

  // The contents list says where the reader is.
  const links = new Map(all("nav a").map((link) => [link.getAttribute("href").slice(1), link]));
  const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (!entry.isIntersecting) return;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }), { rootMargin: "0px 0px -75% 0px" });
  all("main section").forEach((section) => seen.observe(section));
})();
