// The selected photographs: chosen, dropped or pasted; shown as previews, and sent only to the service.
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

  show(files) {
    const { strip } = this.elements;
    for (const image of strip.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    Object.assign(this, { files, picked: 0, results: [] });
    strip.hidden = !files.length;
    strip.classList.toggle("single", files.length === 1);
    strip.replaceChildren(...files.map((file, i) => {
      const item = document.createElement("li"), button = document.createElement("button");
      const image = document.createElement("img");
      item.className = files.length === 1 ? "one" : "";
      button.type = "button";
      button.title = file.name;
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

  // Mark the picked photograph, and those without an answer with their name.
  mark(results = this.results || []) {
    this.results = results;
    [...this.elements.strip.querySelectorAll("button")].forEach((button, i) => {
      const failed = Boolean(results[i] && !results[i].answer);
      button.setAttribute("aria-pressed", String(i === this.picked));
      button.setAttribute("aria-label", `Photograph ${i + 1} of ${this.files.length}: ${this.files[i].name}${failed ? ", no answer" : ""}`);
      button.classList.toggle("failed", failed);
      button.querySelector(".name")?.remove();
      if (failed) {
        const name = document.createElement("span");
        name.className = "name";
        name.textContent = this.files[i].name;
        button.append(name);
      }
    });
  }
}
