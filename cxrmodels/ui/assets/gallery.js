// A strip of pictures. Tells Python which one was picked; what is open comes back as data.

const SHOWN = new WeakMap(); // strip -> what it shows, so that a rerun does not rebuild it

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
    if (film.detail) {
      const detail = document.createElement("small");
      detail.textContent = film.detail;
      title.append(detail);
    }
    button.append(picture, title);
    button.addEventListener("click", () => pick(film.key));
    return button;
  });
  strip.replaceChildren(...buttons);
}

export default function ({ data, parentElement, setTriggerValue }) {
  const strip = parentElement.querySelector(".strip");
  strip.setAttribute("aria-label", data.label);
  strip.classList.toggle("small", data.small);
  const shown = data.films.map((film) => [film.key, film.title, film.detail, film.picture].join(" ")).join(" ");
  if (SHOWN.get(strip) !== shown) {
    build(strip, data.films, (key) => setTriggerValue("picked", key));
    SHOWN.set(strip, shown);
  }
  for (const button of strip.children) {
    button.setAttribute("aria-pressed", String(button.dataset.key === data.chosen));
  }
}
