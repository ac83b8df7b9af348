// One probability a network on a common axis; the shape repeats what the network says.

function element(kind, name, text) {
  const made = document.createElement(kind);
  made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function line({ name, value, said, call, colour }) {
  const item = element("li", "");
  const track = element("span", "track");
  if (value !== null) {
    const dot = element("span", `dot ${call}`);
    if (colour) dot.style.backgroundColor = colour;
    // The number stands where there is room for it.
    const number = element("span", value > 0.8 ? "number before" : "number", said);
    for (const one of [dot, number]) one.style.left = `${100 * value}%`;
    track.append(dot, number);
  }
  item.append(element("span", "name", name), track);
  return item;
}

export default function ({ data, parentElement }) {
  const list = parentElement.querySelector("ul");
  list.setAttribute("aria-label", data.label);
  const axis = element("li", "axis");
  axis.setAttribute("aria-hidden", "true");
  const ticks = element("span", "ticks");
  for (const tick of [0, 25, 50, 75, 100]) {
    const text = element("span", "tick", `${tick} %`);
    text.style.left = `${tick}%`;
    ticks.append(text);
  }
  axis.append(element("span", "name"), ticks);
  list.replaceChildren(...data.dots.map(line), axis);
}
