// The radiograph viewer: window and level, zoom and pan on the 16-bit grey values, all in the browser.
//
// Nothing is sent back to Python, so looking never causes a rerun.

const MAX_ZOOM = 20;
const MIN_WIDTH = 0.02;
const MAX_WIDTH = 2;
const KEY_STEP = 0.02; // of the grey range, per key press
const PAN_STEP = 0.1; // of what is visible, per key press
const ZOOM_STEP = 1.25;
const OUTLINE = [["#10282e", 4], ["#7fe0f0", 2]]; // as in plots.outlined: colour, CSS pixels
const REMEMBERED = 6; // films kept decoded: about 7 MB each

// What the reader set up, by viewer key. It stands outside the DOM because Streamlit may build the element anew
// (another element appears above it, a page is left and entered again) and the film has to look as it was left.
const MEMORY = new Map();
const VIEWERS = new WeakMap();

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// With a real minus sign, because a dash stands between the two ends of the window; never "−0.00".
const hundredths = (value) => (Math.round(value * 100) / 100 + 0).toFixed(2).replace("-", "−");

const freshView = () => ({
  centre: 0.5,
  width: 1,
  zoom: 1, // 1 shows the whole film
  x: 0.5, // the point of the film, as a fraction of its sides, that stands in the middle of the canvas
  y: 0.5,
  inverted: false,
});

function recall(key, sha256) {
  const known = MEMORY.get(key);
  const entry = known?.sha256 === sha256 ? known : { sha256, view: freshView(), film: null, panning: false, outlined: true };
  MEMORY.delete(key);
  MEMORY.set(key, entry); // last in the order = used last
  while (MEMORY.size > REMEMBERED) MEMORY.delete(MEMORY.keys().next().value);
  return entry;
}

// --- decoding ---------------------------------------------------------------------------------------------------

// A canvas would hand back 8 of the 16 bits, changed by colour management and by browsers that add noise against
// fingerprinting. So the PNG is taken apart here: the browser only inflates it. `levels`: the 16-bit grey of each value
// of an 8-bit PNG; null where the PNG has 16 bits itself.
async function decodeFilm(base64, levels) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const header = new DataView(bytes.buffer);

  let width = 0;
  let height = 0;
  const compressed = [];
  for (let at = 8; at < bytes.length; ) {
    const length = header.getUint32(at);
    const kind = text.slice(at + 4, at + 8);
    if (kind === "IHDR") {
      width = header.getUint32(at + 8);
      height = header.getUint32(at + 12);
      const [depth, colour, , , interlace] = bytes.subarray(at + 16, at + 21);
      if (depth !== (levels ? 8 : 16) || colour !== 0 || interlace !== 0) {
        throw new Error(`expected a plain grey PNG, got ${depth} bits, colour type ${colour}`);
      }
    } else if (kind === "IDAT") {
      compressed.push(bytes.subarray(at + 8, at + 8 + length));
    }
    at += length + 12;
  }
  const stream = new Blob(compressed).stream().pipeThrough(new DecompressionStream("deflate"));
  const inflated = await new Response(stream).arrayBuffer().catch(() => {
    throw new Error("it arrived damaged"); // the browser's own words, "Failed to fetch", would mislead
  });
  const rows = new Uint8Array(inflated);
  return { width, height, grey: unfilter(rows, width, height, levels) };
}

// Undo the PNG row filters (PNG specification, section 9), and look each byte up or join the byte pairs.
function unfilter(rows, width, height, levels) {
  const step = levels ? 1 : 2; // bytes a pixel
  const stride = width * step;
  if (rows.length !== height * (stride + 1)) throw new Error("it arrived incomplete");
  const grey = new Uint16Array(width * height);
  let above = new Uint8Array(stride);
  let line = new Uint8Array(stride);
  for (let y = 0, at = 0, out = 0; y < height; y++) {
    const filter = rows[at++];
    for (let i = 0; i < stride; i++) {
      const left = i < step ? 0 : line[i - step];
      const up = above[i];
      let predicted = 0;
      if (filter === 1) predicted = left;
      else if (filter === 2) predicted = up;
      else if (filter === 3) predicted = (left + up) >> 1;
      else if (filter === 4) {
        const corner = i < step ? 0 : above[i - step];
        const toLeft = Math.abs(up - corner);
        const toUp = Math.abs(left - corner);
        const toCorner = Math.abs(left + up - 2 * corner);
        predicted = toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner;
      }
      line[i] = rows[at++] + predicted; // the typed array takes it modulo 256
    }
    if (levels) for (let i = 0; i < stride; i++) grey[out++] = levels[line[i]];
    else for (let i = 0; i < stride; i += 2) grey[out++] = (line[i] << 8) | line[i + 1];
    [above, line] = [line, above];
  }
  return grey;
}

// --- the viewer -------------------------------------------------------------------------------------------------

class Viewer {
  constructor(root) {
    this.root = root;
    this.stage = root.querySelector(".stage");
    this.canvas = root.querySelector("canvas");
    this.message = root.querySelector(".message");
    this.caption = root.querySelector(".caption");
    this.numbers = root.querySelector(".numbers");
    this.button = (name) => root.querySelector(`[data-do="${name}"]`);
    this.sliders = [...root.querySelectorAll("[data-set]")];
    this.surface = document.createElement("canvas"); // the windowed film at its own size
    this.painted = ""; // which film and window the surface holds
    this.pointers = new Map();
    this.hover = null;
    this.spaceHeld = false;
    this.frame = 0;

    for (const button of root.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => this.act(button.dataset.do));
    }
    for (const slider of this.sliders) {
      slider.addEventListener("input", () => this.change({ [slider.dataset.set]: Number(slider.value) }));
    }
    const listen = (name, handler, options) =>
      this.canvas.addEventListener(name, (event) => this.entry?.film && handler.call(this, event), options);
    listen("pointerdown", this.pointerDown);
    listen("pointermove", this.pointerMove);
    listen("pointerup", this.pointerUp);
    listen("pointercancel", this.pointerUp);
    listen("pointerleave", this.pointerLeave);
    listen("dblclick", () => this.act("reset"));
    listen("wheel", this.wheel, { passive: false });
    listen("keydown", this.keyDown);
    listen("keyup", this.keyUp);
    listen("blur", () => this.holdSpace(false));
    // Without this the middle button starts the browser's own scrolling.
    listen("mousedown", (event) => event.button === 1 && event.preventDefault());

    this.resizing = new ResizeObserver(() => this.schedule());
    this.resizing.observe(this.stage);
  }

  close() {
    this.resizing.disconnect();
    cancelAnimationFrame(this.frame);
    this.closed = true;
  }

  async show(data) {
    const entry = recall(data.key, data.sha256);
    this.entry = entry;
    entry.outline = data.outline; // it may come later than the film
    this.root.setAttribute("aria-label", `Viewer: ${data.name}`);
    this.canvas.setAttribute("aria-label", data.alt);
    this.caption.textContent = `${data.name} · ${data.columns} × ${data.rows} px`;
    this.caption.title = data.name;
    this.stage.style.setProperty("--film-aspect", `${data.columns} / ${data.rows}`);
    this.stage.style.setProperty("--film-height", `${data.height}px`);

    if (!entry.film) {
      // Never the last film under the new film's name, not even while the new one is decoded.
      this.hover = null;
      this.say("Loading the film …");
      this.schedule();
      try {
        // Several runs may ask for the same film while it is being decoded.
        entry.decoding ??= decodeFilm(data.film, data.levels);
        entry.film = await entry.decoding;
      } catch (error) {
        entry.decoding = null;
        if (this.entry === entry) {
          this.say(`The viewer could not show this film (${error.message}). Reload the page, or use a newer browser.`);
        }
        return;
      }
      if (this.closed || this.entry !== entry) return; // overtaken by another film
    }
    this.say("");
    this.schedule();
  }

  say(text) {
    this.message.textContent = text;
    this.canvas.setAttribute("aria-busy", String(text !== ""));
  }

  // --- changing what is shown

  change(values) {
    const view = this.entry?.view;
    if (!view) return;
    Object.assign(view, values);
    view.centre = clamp(view.centre, 0, 1);
    view.width = clamp(view.width, MIN_WIDTH, MAX_WIDTH);
    // The middle of the canvas stays on the film, so that it cannot get lost.
    view.x = clamp(view.x, 0, 1);
    view.y = clamp(view.y, 0, 1);
    this.schedule();
  }

  act(name) {
    const entry = this.entry;
    if (!entry?.film) return;
    const middle = { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 };
    if (name === "pan") entry.panning = !entry.panning;
    if (name === "invert") entry.view.inverted = !entry.view.inverted;
    if (name === "lungs") entry.outlined = !entry.outlined;
    if (name === "zoomIn") this.zoomAt(middle, ZOOM_STEP);
    if (name === "zoomOut") this.zoomAt(middle, 1 / ZOOM_STEP);
    if (name === "reset") {
      entry.panning = false;
      entry.view = freshView();
    }
    this.schedule();
  }

  // CSS pixels per film pixel.
  get scale() {
    const { width, height } = this.entry.film;
    return Math.min(this.canvas.clientWidth / width, this.canvas.clientHeight / height) * this.entry.view.zoom;
  }

  // The place on the film, as fractions of its sides, under a point of the canvas.
  onFilm(point) {
    const { film, view } = this.entry;
    return {
      x: view.x + (point.x - this.canvas.clientWidth / 2) / (film.width * this.scale),
      y: view.y + (point.y - this.canvas.clientHeight / 2) / (film.height * this.scale),
    };
  }

  moveBy(dx, dy) {
    const { film, view } = this.entry;
    this.change({ x: view.x - dx / (film.width * this.scale), y: view.y - dy / (film.height * this.scale) });
  }

  zoomAt(point, factor) {
    const { view } = this.entry;
    const zoom = clamp(view.zoom * factor, 1, MAX_ZOOM);
    if (zoom === 1 && factor < 1) {
      this.change({ zoom, x: 0.5, y: 0.5 }); // all the way out: the whole film, back in its place
      return;
    }
    const before = this.onFilm(point);
    view.zoom = zoom;
    const after = this.onFilm(point);
    this.change({ x: view.x + before.x - after.x, y: view.y + before.y - after.y });
  }

  // --- pointer, wheel, keys

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  get focused() {
    return this.canvas.matches(":focus");
  }

  pointerDown(event) {
    if (event.button > 1) return; // the right button belongs to the browser
    // One finger scrolls the page until a tap has focused the film; two fingers always pinch.
    const scrolls = event.pointerType === "touch" && !this.focused;
    if (event.pointerType !== "touch") this.canvas.focus({ preventScroll: true });
    const pan = event.button === 1 || this.spaceHeld || this.entry.panning;
    this.pointers.set(event.pointerId, { ...this.place(event), pan, scrolls });
    if (!scrolls) this.canvas.setPointerCapture(event.pointerId);
  }

  pointerMove(event) {
    const now = this.place(event);
    // The end of a drag can get lost, for instance to a context menu.
    if (event.pointerType === "mouse" && event.buttons === 0) this.pointers.delete(event.pointerId);
    const last = this.pointers.get(event.pointerId);
    if (!last) {
      if (event.pointerType !== "touch") this.hover = now;
      this.schedule();
      return;
    }
    const dx = now.x - last.x;
    const dy = now.y - last.y;
    if (this.pointers.size === 2) {
      const other = [...this.pointers.entries()].find(([id]) => id !== event.pointerId)[1];
      const spread = Math.hypot(last.x - other.x, last.y - other.y);
      if (spread > 0) {
        this.zoomAt({ x: (last.x + other.x) / 2, y: (last.y + other.y) / 2 },
          Math.hypot(now.x - other.x, now.y - other.y) / spread);
      }
      this.moveBy(dx / 2, dy / 2);
    } else if (this.pointers.size === 1 && !last.scrolls) {
      if (last.pan) {
        this.moveBy(dx, dy);
      } else {
        // In proportion to the width, so that a narrow window can be set finely.
        const { centre, width } = this.entry.view;
        this.change({
          width: width * Math.exp((2 * dx) / this.canvas.clientWidth),
          centre: centre + (dy / this.canvas.clientHeight) * Math.max(width, 0.1),
        });
      }
    }
    Object.assign(last, now);
    if (event.pointerType !== "touch") this.hover = now;
  }

  pointerUp(event) {
    this.pointers.delete(event.pointerId);
    // Lifting one of two fingers must not make the other one jump.
    for (const rest of this.pointers.values()) rest.scrolls = true;
    if (event.type === "pointerup" && event.pointerType === "touch") this.canvas.focus({ preventScroll: true });
  }

  pointerLeave() {
    this.hover = null;
    this.schedule();
  }

  wheel(event) {
    // A film in the middle of a page must not catch somebody who only scrolls past. Ctrl and the wheel is also what
    // browsers send for a pinch on a trackpad.
    if (!this.focused && !event.ctrlKey) return;
    event.preventDefault();
    const lines = event.deltaMode === 0 ? 1 : 16;
    const speed = event.ctrlKey ? 0.01 : 0.0015;
    this.zoomAt(this.place(event), Math.exp(-clamp(event.deltaY * lines, -240, 240) * speed));
  }

  holdSpace(held) {
    this.spaceHeld = held;
    this.schedule();
  }

  keyDown(event) {
    const command = event.metaKey || (event.ctrlKey && !event.altKey); // Ctrl with Alt is AltGr: "[" on many keyboards
    if (command) return;
    const { view, film } = this.entry;
    const moveAcross = PAN_STEP * this.canvas.clientWidth;
    const moveDown = PAN_STEP * this.canvas.clientHeight;
    const actions = {
      ArrowLeft: () => this.moveBy(moveAcross, 0),
      ArrowRight: () => this.moveBy(-moveAcross, 0),
      ArrowUp: () => this.moveBy(0, moveDown),
      ArrowDown: () => this.moveBy(0, -moveDown),
      "+": () => this.act("zoomIn"),
      "=": () => this.act("zoomIn"),
      "-": () => this.act("zoomOut"),
      "[": () => this.change({ width: view.width - KEY_STEP }),
      "]": () => this.change({ width: view.width + KEY_STEP }),
      ";": () => this.change({ centre: view.centre - KEY_STEP }),
      "'": () => this.change({ centre: view.centre + KEY_STEP }),
      i: () => !event.repeat && this.act("invert"),
      l: () => !event.repeat && this.act("lungs"),
      r: () => this.act("reset"),
      " ": () => this.holdSpace(true),
      Escape: () => this.canvas.blur(),
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    // Streamlit listens further out: "r" alone would rerun the script.
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  keyUp(event) {
    if (event.key === " ") this.holdSpace(false);
  }

  // --- drawing

  schedule() {
    if (this.frame || this.closed) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    const { canvas, entry } = this;
    const ratio = window.devicePixelRatio || 1;
    const columns = Math.round(canvas.clientWidth * ratio);
    const rows = Math.round(canvas.clientHeight * ratio);
    if (!entry || !columns || !rows) return;
    if (canvas.width !== columns || canvas.height !== rows) Object.assign(canvas, { width: columns, height: rows });
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, columns, rows);
    this.showControls();
    if (!entry.film) return;

    this.paintSurface();
    const { film, view } = entry;
    const scale = this.scale * ratio;
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.setTransform(scale, 0, 0, scale,
      columns / 2 - view.x * film.width * scale, rows / 2 - view.y * film.height * scale);
    context.drawImage(this.surface, 0, 0);
    if (this.entry.outlined) this.drawOutline(context, scale, ratio);
  }

  // Closed lines, dark under light, so that they show on any grey; as thin at every zoom.
  drawOutline(context, scale, ratio) {
    const { film, outline } = this.entry;
    context.lineJoin = "round";
    for (const [colour, wide] of OUTLINE) {
      context.strokeStyle = colour;
      context.lineWidth = (wide * ratio) / scale;
      for (const line of outline) {
        context.beginPath();
        for (const [x, y] of line) context.lineTo(x * film.width, y * film.height);
        context.closePath();
        context.stroke();
      }
    }
  }

  // The film through the window, one look-up per pixel.
  paintSurface() {
    const { film, view, sha256 } = this.entry;
    const wanted = [sha256, view.centre, view.width, view.inverted].join();
    if (this.painted === wanted) return;
    if (this.surface.width !== film.width || this.surface.height !== film.height || !this.image) {
      Object.assign(this.surface, { width: film.width, height: film.height });
      this.image = this.surface.getContext("2d").createImageData(film.width, film.height);
    }
    const low = view.centre - view.width / 2;
    // Red, green, blue and alpha in one number, alpha highest: the machines that browsers run on are little-endian.
    const table = new Uint32Array(65536);
    for (let grey = 0; grey < 65536; grey++) {
      const shown = clamp((grey / 65535 - low) / view.width, 0, 1);
      table[grey] = 0xff000000 + 0x010101 * Math.round(255 * (view.inverted ? 1 - shown : shown));
    }
    const out = new Uint32Array(this.image.data.buffer);
    for (let i = 0; i < out.length; i++) out[i] = table[film.grey[i]];
    this.surface.getContext("2d").putImageData(this.image, 0, 0);
    this.painted = wanted;
  }

  showControls() {
    const { view, film, panning, outline, outlined } = this.entry;
    const low = hundredths(view.centre - view.width / 2);
    const high = hundredths(view.centre + view.width / 2);
    for (const slider of this.sliders) {
      const value = view[slider.dataset.set];
      if (Number(slider.value) !== value) slider.value = value;
      slider.setAttribute("aria-valuetext", `${value.toFixed(2)}, window ${low} to ${high}`);
    }
    this.button("pan").setAttribute("aria-pressed", String(panning));
    this.button("invert").setAttribute("aria-pressed", String(view.inverted));
    this.button("lungs").hidden = outline.length === 0;
    this.button("lungs").setAttribute("aria-pressed", String(outlined));
    this.root.dataset.mode = panning || this.spaceHeld ? "pan" : "window";

    let text = `Zoom ${view.zoom.toFixed(1)}× · window ${low}–${high}`;
    if (film && this.hover) {
      const { x, y } = this.onFilm(this.hover);
      const column = Math.floor(x * film.width);
      const row = Math.floor(y * film.height);
      if (column >= 0 && column < film.width && row >= 0 && row < film.height) {
        text += ` · grey ${(film.grey[row * film.width + column] / 65535).toFixed(3)}`;
      }
    }
    if (this.numbers.textContent !== text) this.numbers.textContent = text;
  }
}

export default function (component) {
  const { data, parentElement } = component;
  const root = parentElement.querySelector(".viewer");
  if (!root || !data) return undefined;
  let viewer = VIEWERS.get(root);
  if (!viewer) {
    viewer = new Viewer(root);
    VIEWERS.set(root, viewer);
  }
  viewer.show(data);
  return () => {
    viewer.close();
    VIEWERS.delete(root);
  };
}
