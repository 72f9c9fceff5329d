// The selected photographs: chosen, dropped or pasted; shown as previews, and sent only to the service.
import { plural } from "/static/words.js";

export class Photographs {
  constructor(elements, onFiles, onPick) {
    Object.assign(this, { elements, onFiles, onPick, files: [], picked: 0 });
    const { choose } = elements;
    choose.addEventListener("change", () => { this.take(choose.files); choose.value = ""; });
    document.addEventListener("paste", (event) => this.take(event.clipboardData?.files));
    let depth = 0;
    const over = (on) => document.body.classList.toggle("dragged", on);
    document.addEventListener("dragenter", (event) => { event.preventDefault(); depth++; over(true); });
    document.addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); over(depth > 0); });
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      depth = 0;
      over(false);
      this.take(event.dataTransfer?.files);
    });
  }

  take(files) {
    const chosen = [...(files || [])];
    if (chosen.length) this.onFiles(chosen);
  }

  // Returns why files exceed the limits of the service, or null.
  static limitError(files, limits) {
    if (files.length > limits.max_files) return `At most ${plural(limits.max_files, "photograph", "photographs")} at once.`;
    const large = files.find((file) => file.size > limits.max_upload_bytes);
    if (large) return `A photograph may have at most ${limits.max_upload_bytes / 1e6} MB; one of these has ${(large.size / 1e6).toFixed(1)} MB.`;
    if (files.reduce((sum, file) => sum + file.size, 0) > limits.max_request_bytes - 20_000) {
      return `Together they may have at most ${limits.max_request_bytes / 1e6} MB.`;
    }
    return null;
  }

  show(files) {
    const { strip } = this.elements;
    for (const image of strip.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    this.files = files;
    this.picked = 0;
    strip.hidden = !files.length;
    strip.classList.toggle("single", files.length === 1);
    strip.replaceChildren(...files.map((file, i) => {
      const item = document.createElement("li"), button = document.createElement("button");
      const image = document.createElement("img");
      item.className = files.length === 1 ? "one" : "";
      button.type = "button";
      button.setAttribute("aria-label", files.length === 1 ? "The photograph" : `Photograph ${i + 1} of ${files.length}`);
      image.alt = "";
      image.src = URL.createObjectURL(file);
      image.addEventListener("error", () => {  // such as HEIC, which the service may support although the browser does not
        const placeholder = document.createElement("span");
        placeholder.className = "none";
        placeholder.textContent = "no preview";
        image.replaceWith(placeholder);
      });
      button.append(image);
      button.addEventListener("click", () => this.pick(i));
      item.append(button);
      return item;
    }));
    this.mark();
  }

  pick(i) {
    this.picked = i;
    this.mark();
    this.onPick(i);
  }

  mark() {
    [...this.elements.strip.querySelectorAll("button")].forEach((button, i) => {
      button.setAttribute("aria-pressed", String(i === this.picked));
    });
  }
}
