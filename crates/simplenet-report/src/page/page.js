"use strict";

// Tables: a click on a heading sorts every body by that column; averages stay at the end.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const descending = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const column = heading.cellIndex;
    const key = (row) => row.cells[column].textContent.trim();
    const compare = (left, right) => {
      const [a, b] = [parseFloat(key(left)), parseFloat(key(right))];
      if (Number.isNaN(a) !== Number.isNaN(b)) return Number.isNaN(a) ? 1 : -1;
      const order = Number.isNaN(a) ? key(left).localeCompare(key(right)) : a - b;
      return descending ? -order : order;
    };
    for (const body of heading.closest("table").tBodies) {
      const rows = [...body.rows].filter((row) => row.className === "");
      const last = [...body.rows].filter((row) => row.className === "strong");
      rows.sort(compare);
      body.append(...rows, ...last);
    }
  });
}

// The image browser.
const data = document.getElementById("galleries");
if (data) {
  const galleries = JSON.parse(data.textContent);
  const [choice, outline, verdict, cards] = ["gallery", "outline", "verdict", "cards"].map((id) => document.getElementById(id));
  // Over the scores of pixels and of images: the slider, and the exact threshold, which a slider's steps would round.
  const levels = ["pixel", "image"].map((name) => ({
    slider: document.getElementById(name),
    value: document.getElementById(`${name}-value`),
    key: `${name}_threshold`,
  }));
  const [pixel, image] = levels;
  let shown = [];

  const load = (address) =>
    new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error("a picture of this page is damaged"));
      image.src = address;
    });

  const pixels = (image, width, height) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  };

  const draw = () => {
    const gallery = galleries[choice.value];
    const level = ((pixel.at - pixel.low) / (pixel.high - pixel.low || 1)) * 255;
    for (const { value, at } of levels) value.textContent = at.toFixed(3);
    const counts = { true: [0, 0], false: [0, 0] };
    for (const { card, canvas, photograph, map, truth, entry } of shown) {
      const { width, height } = photograph;
      const out = new ImageData(new Uint8ClampedArray(photograph.data), width, height);
      const isTrue = (x, y) => x >= 0 && y >= 0 && x < width && y < height && truth.data[4 * (y * width + x)] > 127;
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const place = 4 * (y * width + x);
          if (map.data[place] >= level) {
            out.data[place] = 0.45 * out.data[place] + 0.55 * 213;
            out.data[place + 1] = 0.45 * out.data[place + 1] + 0.55 * 94;
            out.data[place + 2] = 0.45 * out.data[place + 2];
          }
          if (truth && outline.checked && isTrue(x, y)) {
            const inside = isTrue(x - 2, y) && isTrue(x + 2, y) && isTrue(x, y - 2) && isTrue(x, y + 2);
            if (!inside) [out.data[place], out.data[place + 1], out.data[place + 2]] = [0, 158, 115];
          }
        }
      }
      canvas.getContext("2d").putImageData(out, 0, 0);
      const found = entry.score >= image.at;
      counts[entry.anomalous][found ? 0 : 1] += 1;
      card.classList.toggle("found", found);
      card.querySelector(".wrong").textContent = found === entry.anomalous ? "" : found ? " false alarm" : " missed";
    }
    const [[hits, misses], [alarms, passed]] = [counts.true, counts.false];
    const sample = `${shown.length} of ${gallery.taken_from} images`;
    verdict.textContent = `${sample}: ${hits} of ${hits + misses} defects found, ${alarms} of ${alarms + passed} good images refused`;
  };

  const show = async () => {
    const gallery = galleries[choice.value];
    const scores = gallery.images.map((entry) => entry.score);
    [pixel.low, pixel.high] = [gallery.low, gallery.high];
    [image.low, image.high] = [Math.min(...scores), Math.max(...scores)];
    for (const level of levels) {
      level.at = gallery[level.key];
      level.slider.value = Math.round(((level.at - level.low) / (level.high - level.low || 1)) * level.slider.max);
    }
    const loaded = await Promise.all(
      gallery.images.map(async (entry) => {
        const image = await load(entry.image);
        const [width, height] = [image.naturalWidth, image.naturalHeight];
        return {
          entry,
          photograph: pixels(image, width, height),
          map: pixels(await load(entry.map), width, height),
          truth: entry.truth ? pixels(await load(entry.truth), width, height) : null,
        };
      }),
    );
    if (gallery !== galleries[choice.value]) return;
    cards.replaceChildren();
    shown = loaded.map((each) => {
      const card = document.createElement("div");
      card.className = "card";
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [each.photograph.width, each.photograph.height];
      const caption = document.createElement("div");
      caption.textContent = `${each.entry.caption}/${each.entry.file}  ${each.entry.score.toFixed(3)}`;
      const wrong = document.createElement("span");
      wrong.className = "wrong";
      caption.append(wrong);
      card.append(canvas, caption);
      cards.append(card);
      return { ...each, card, canvas };
    });
    draw();
  };

  galleries.forEach((gallery, index) => choice.add(new Option(gallery.title, index)));
  choice.addEventListener("change", show);
  for (const level of levels) {
    level.slider.addEventListener("input", () => {
      level.at = level.low + (level.slider.value / level.slider.max) * (level.high - level.low);
      draw();
    });
  }
  outline.addEventListener("change", draw);
  show();
}
