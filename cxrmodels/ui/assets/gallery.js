// The strip of ready films. Tells Python which one was picked; what is open comes back as data.

const SHOWN = new WeakMap(); // strip -> the films it shows, so that a rerun does not rebuild them

function build(strip, films, pick) {
  const buttons = films.map((film) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.key = film.key;
    button.setAttribute("aria-label", film.about);
    button.title = film.about;
    const picture = document.createElement("img");
    picture.src = film.picture;
    picture.alt = film.title;
    const title = document.createElement("span");
    title.textContent = film.title;
    button.append(picture, title);
    button.addEventListener("click", () => pick(film.key));
    return button;
  });
  strip.replaceChildren(...buttons);
}

export default function ({ data, parentElement, setTriggerValue }) {
  const strip = parentElement.querySelector(".strip");
  strip.setAttribute("aria-label", data.label);
  const keys = data.films.map((film) => film.key).join(" ");
  if (SHOWN.get(strip) !== keys) {
    build(strip, data.films, (key) => setTriggerValue("picked", key));
    SHOWN.set(strip, keys);
  }
  for (const button of strip.children) {
    button.setAttribute("aria-pressed", String(button.dataset.key === data.chosen));
  }
}
