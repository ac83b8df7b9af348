// A confusion matrix: rows are what films are, columns what they were called. Tells Python which cell was picked.

function cell(data, row, column, pick) {
  const count = data.counts[row][column];
  const total = data.counts[row].reduce((sum, value) => sum + value, 0);
  const share = total ? count / total : 0;
  const button = document.createElement("button");
  button.type = "button";
  button.disabled = count === 0;
  button.style.setProperty("--share", share.toFixed(3));
  const films = count === 1 ? "film" : "films";
  button.setAttribute(
    "aria-label",
    `${count} ${films} that are ${data.classes[row]}, called ${data.classes[column]} by ${data.model}: ` +
      `${Math.round(100 * share)} per cent. List them.`,
  );
  button.setAttribute("aria-pressed", String(data.chosen?.[0] === row && data.chosen?.[1] === column));
  const number = document.createElement("strong");
  number.textContent = count.toLocaleString("en");
  const part = document.createElement("span");
  part.textContent = total ? `${Math.round(100 * share)} %` : "";
  button.append(number, part);
  button.addEventListener("click", () => pick([row, column]));
  const place = document.createElement("td");
  if (row === column) place.className = "right";
  place.append(button);
  return place;
}

function head(text, scope) {
  const name = document.createElement("th");
  name.scope = scope;
  name.textContent = text;
  return name;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const table = parentElement.querySelector("table");
  const titles = document.createElement("tr");
  titles.append(head("is \\ called", "col"), ...data.classes.map((name) => head(name, "col")));
  const rows = data.classes.map((name, row) => {
    const line = document.createElement("tr");
    line.append(
      head(name, "row"),
      ...data.classes.map((_, column) => cell(data, row, column, (at) => setTriggerValue("picked", at))),
    );
    return line;
  });
  const caption = document.createElement("caption");
  caption.textContent = data.caption;
  table.replaceChildren(caption, titles, ...rows);
}
