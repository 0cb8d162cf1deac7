// The tour of five steps. Runs inside gr.HTML's js_on_load: element and STEPS are given. That it was seen is kept in the
// browser; it shows itself only where that is not kept.

const KEY = "nanochat-studio-tour";
const panel = element.querySelector("section");
let at = 0;

function part(tag, attributes, text = "") {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

const count = part("span", { class: "tour-count" });
const title = part("strong", { class: "tour-title" });
const text = part("span", { class: "tour-text" });
const said = part("p", { "aria-live": "polite" });
said.append(count, title, text);
const back = part("button", { type: "button", id: "tour_back" }, "Back");
const next = part("button", { type: "button", id: "tour_next", class: "tour-next" });
const skip = part("button", { type: "button", id: "tour_skip" }, "Skip the tour");
const buttons = part("div", { class: "tour-buttons" });
buttons.append(back, next, skip);
panel.replaceChildren(said, buttons);

function remembered() {
  try {
    return localStorage.getItem(KEY) !== null;
  } catch {
    return true; // a browser that keeps nothing for a page inside another site's: it would come every time
  }
}

function remember() {
  try {
    localStorage.setItem(KEY, "seen");
  } catch {
    // it comes again at the next visit
  }
}

const outlined = () => document.querySelectorAll(".tour-here").forEach((one) => one.classList.remove("tour-here"));

function outline() {
  outlined();
  const found = [...document.querySelectorAll(STEPS[at].place)].find((one) => one.checkVisibility());
  found?.classList.add("tour-here");
}

function show(step, opens) {
  at = step;
  count.textContent = `${at + 1} of ${STEPS.length}`;
  title.textContent = STEPS[at].title;
  text.textContent = STEPS[at].text;
  back.disabled = at === 0;
  next.textContent = at === STEPS.length - 1 ? "Done" : "Next";
  skip.hidden = at === STEPS.length - 1;
  panel.hidden = false;
  if (!opens) return;
  document.getElementById(`${STEPS[at].tab}_tab-button`)?.click();
  outline();
  setTimeout(() => !panel.hidden && outline(), 700); // once more: a tab that opens for the first time is drawn late
}

function close() {
  panel.hidden = true;
  outlined();
  remember();
  document.getElementById("tour_open")?.focus();
}

back.addEventListener("click", () => show(at - 1, true));
next.addEventListener("click", () => (at === STEPS.length - 1 ? close() : show(at + 1, true)));
skip.addEventListener("click", close);
panel.addEventListener("keydown", (event) => event.key === "Escape" && close());
document.addEventListener("click", (event) => {
  if (event.target.id !== "tour_open") return;
  show(0, true);
  next.focus();
});
if (!remembered()) show(0, false); // a link to a tab stays there until Next is pressed
