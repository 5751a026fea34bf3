// Sort a table by the column whose heading is pressed; a second press turns the order round.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "descending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent.trim();
      const order = new Intl.Collator(undefined, { numeric: true });
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        const numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
        return numbers ? x - y : order.compare(x, y);
      };
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? compare(a, b) : compare(b, a)));
      table.tBodies[0].append(...rows);
    });
  });
}

// Say what a mark of a figure stands for when it is pointed at or touched, or reached with the arrow keys.
const tip = document.getElementById("tip");
let marked = null;
const leave = () => {
  marked?.classList.remove("marked");
  marked = null;
  tip.hidden = true;
};
const point = (mark) => {
  if (mark === marked) return;
  leave();
  marked = mark;
  mark.classList.add("marked");
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const [box, own] = [mark.getBoundingClientRect(), tip.getBoundingClientRect()];
  const left = Math.min(Math.max(box.x + box.width / 2 - own.width / 2, 8), document.documentElement.clientWidth - own.width - 8);
  const above = box.y - own.height - 8;
  tip.style.left = `${Math.max(left, 8) + scrollX}px`;
  tip.style.top = `${(above > 0 ? above : box.bottom + 8) + scrollY}px`;
};
for (const kind of ["pointerover", "pointerdown"]) {
  document.addEventListener(kind, (event) => {
    const mark = event.target.closest("[data-tip]");
    mark ? point(mark) : leave();
  });
}
for (const figure of document.querySelectorAll("figure .scroll")) {
  const marks = [...figure.querySelectorAll("[data-tip]")];
  figure.addEventListener("blur", leave);
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") leave();
    if (!step || !marks.length) return;
    event.preventDefault();
    const from = marks.indexOf(marked);
    const next = from < 0 ? (step > 0 ? 0 : marks.length - 1) : (from + step + marks.length) % marks.length;
    marks[next].scrollIntoView({ block: "nearest", inline: "nearest" });
    point(marks[next]);
  });
}

// Show one class after the other: what its samples were taken for.
const data = JSON.parse(document.getElementById("data")?.textContent ?? "null");
if (data) {
  const make = (name, text, parent) => {
    const element = document.createElement(name);
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const [select, table] = [document.getElementById("class"), document.getElementById("taken")];
  for (const index of data.order) {
    make("option", `${data.classes[index].name} (${data.classes[index].about})`, select).value = index;
  }
  const show = () => {
    const chosen = data.classes[select.value];
    table.replaceChildren();
    make("span", `${chosen.name}: what its samples were taken for, ${data.over}`, make("caption", "", table));
    const heads = make("tr", "", make("thead", "", table));
    for (const head of ["taken for", ...data.labels]) make("th", head, heads).scope = "col";
    const shares = chosen.taken.map((pairs) => new Map(pairs));
    const highest = (index) => Math.max(...shares.map((share) => share.get(index) ?? 0));
    const found = [...new Set(shares.flatMap((share) => [...share.keys()]))].sort((a, b) => highest(b) - highest(a));
    const body = make("tbody", "", table);
    for (const index of found) {
      const row = make("tr", "", body);
      const right = index === Number(select.value);
      make("th", right ? `${data.classes[index].name}, rightly` : data.classes[index].name, row).scope = "row";
      shares.forEach((share, place) => {
        const cell = make("td", "", row);
        const bar = make("span", "", cell);
        bar.className = "bar";
        bar.style.background = data.colours[place];
        bar.style.width = `${8 * (share.get(index) ?? 0)}rem`;
        make("span", share.has(index) ? `${(100 * share.get(index)).toFixed(1)} %` : "–", cell);
      });
    }
  };
  const move = (step) => {
    select.selectedIndex = Math.min(Math.max(select.selectedIndex + step, 0), data.order.length - 1);
    show();
  };
  select.addEventListener("change", show);
  document.getElementById("rarer").addEventListener("click", () => move(-1));
  document.getElementById("commoner").addEventListener("click", () => move(1));
  document.getElementById("one").hidden = false;
  show();
}
