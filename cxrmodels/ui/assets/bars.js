// One bar a finding, with its name and its per cent. Drawn without a chart library: nine of these come with each film.

function line({ name, value, said, colour }) {
  const item = document.createElement("li");
  const title = document.createElement("span");
  title.textContent = name;
  const track = document.createElement("span");
  track.className = "track";
  const bar = document.createElement("span");
  bar.className = "bar";
  bar.style.width = `${100 * value}%`;
  bar.style.backgroundColor = colour;
  track.append(bar);
  const number = document.createElement("span");
  number.className = "number";
  number.textContent = said;
  item.append(title, track, number);
  return item;
}

export default function ({ data, parentElement }) {
  const list = parentElement.querySelector("ul");
  list.setAttribute("aria-label", data.label);
  list.replaceChildren(...data.bars.map(line));
}
