"use strict";
// What a still page cannot do: a read-out under the pointer, series that come and go, other views.
for (const plot of document.querySelectorAll(".plot")) {
  const source = plot.querySelector("script[type='application/json']");
  if (!source) continue;
  const groups = JSON.parse(source.textContent);
  const frames = [...plot.querySelectorAll(".frame")];
  const keys = [...plot.querySelectorAll(".key")];
  const views = plot.querySelector(".views");
  const isOn = (key) => keys[key].getAttribute("aria-pressed") === "true";

  for (const button of keys) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      for (const path of plot.querySelectorAll(`path[data-key="${button.dataset.key}"]`)) {
        path.style.display = on ? "" : "none";
      }
    });
  }

  if (views) {
    views.hidden = false;
    const buttons = [...views.children];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        buttons.forEach((one) => one.setAttribute("aria-pressed", one === button));
        frames.forEach((frame, index) => { frame.hidden = String(index) !== button.dataset.view; });
      });
    }
  }

  for (const frame of frames) {
    const canvas = frame.querySelector(".canvas");
    const cursor = frame.querySelector(".cursor");
    const readout = frame.querySelector(".readout");
    const group = groups[frame.dataset.group];
    let at = 0;

    const show = (index) => {
      at = Math.max(0, Math.min(group.at.length - 1, index));
      const rows = group.lines.filter((line) => line.texts[at] && isOn(line.key));
      const head = document.createElement("strong");
      head.textContent = group.names[at];
      readout.replaceChildren(head, ...rows.map((line) => {
        const row = document.createElement("div");
        const name = document.createElement("span");
        const value = document.createElement("b");
        name.className = [...keys[line.key].classList].filter((one) => one !== "key").join(" ");
        name.textContent = keys[line.key].textContent;
        value.textContent = line.texts[at];
        row.append(name, value);
        return row;
      }));
      cursor.hidden = readout.hidden = false;
      const x = group.at[at] * canvas.clientWidth;
      cursor.style.left = `${x}px`;
      // On the side where there is more room, and never beyond the plot.
      const room = canvas.clientWidth - readout.offsetWidth;
      const left = x > canvas.clientWidth / 2 ? x - readout.offsetWidth - 12 : x + 12;
      readout.style.left = `${Math.max(0, Math.min(room, left))}px`;
    };
    const hide = () => { cursor.hidden = readout.hidden = true; };
    const nearest = (share) => {
      let best = 0;
      group.at.forEach((one, index) => {
        if (Math.abs(one - share) < Math.abs(group.at[best] - share)) best = index;
      });
      return best;
    };
    const follow = (event) => {
      const box = canvas.getBoundingClientRect();
      show(nearest((event.clientX - box.left) / box.width));
    };
    canvas.addEventListener("pointermove", follow);
    canvas.addEventListener("pointerdown", follow);
    canvas.addEventListener("pointerleave", hide);
    canvas.addEventListener("blur", hide);
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      show(cursor.hidden ? at : at + step);
    });
  }
}
