"use strict";

// Sorts the table by a column: numbers the largest first, words by alphabet; again for the other way. Gaps come last.
for (const [column, head] of document.querySelectorAll("#results th").entries()) {
  head.querySelector("button").addEventListener("click", () => {
    const number = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const down = before === "none" ? number : before === "ascending";
    for (const other of document.querySelectorAll("#results th")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = document.querySelector("#results tbody");
    const value = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => (number ? Number(a) - Number(b) : a.localeCompare(b));
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return down ? compare(y, x) : compare(x, y);
    });
    body.append(...rows);
  });
}

const data = document.getElementById("crops");
if (data) {
  const crops = JSON.parse(data.textContent);
  const [image, left, right, over, under, line, slider] =
    ["image", "left", "right", "over", "under", "line", "slider"].map((id) => document.getElementById(id));
  const show = () => {
    const names = Object.keys(crops[image.value]);
    for (const [select, first] of [[left, 0], [right, 1]]) {
      const chosen = names.includes(select.value) ? select.value : names[Math.min(first, names.length - 1)];
      select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
    }
    over.src = crops[image.value][left.value];
    under.src = crops[image.value][right.value];
    slide();
  };
  const slide = () => {
    over.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`;
    line.style.left = `${slider.value}%`;
  };
  for (const select of [image, left, right]) select.addEventListener("change", show);
  slider.addEventListener("input", slide);
  show();
}
