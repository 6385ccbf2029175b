// The chat page: it keeps the conversation, the server keeps nothing, so tabs cannot mix.
// Only whole answers become part of the conversation; others stay on the page and can be retried.

import { events } from "./events.js";
import { show } from "./markdown.js";

const RENDER_MS = 40;  // a timer, not a frame: a tab in the background goes on
const RENDER_SHARE = 4;  // a rendering that took long is followed by a pause of so many times that
const NEAR_PX = 80;    // who has scrolled up further than this is reading
const TITLES = {
  cut: "The answer broke off",
  truncated: "The answer is not whole",
  stalled: "The model fell silent",
  deadline: "The answer took too long",
  cancelled: "Stopped",
  failed: "The model did not answer",
};
const STOPPED = { outcome: "cancelled", message: "Not part of the conversation." };

const $ = (selector) => document.querySelector(selector);
const [talk, form, question, go, fresh] = ["#talk", "#ask", "#question", "#go", "#new"].map($);
const welcome = $("#welcome");

let history = [];
let running = null;  // what aborts the answer under way

function make(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

// --- one question and its answer

async function ask(text) {
  const stop = running = new AbortController();
  const exchange = begin(text);
  const asked = { role: "user", content: text };
  document.body.classList.add("running");
  label();
  try {
    const verdict = await receive(exchange, [...history, asked], stop.signal);
    finish(exchange, verdict);
    if (stop === running) history.push(asked, { role: "assistant", content: exchange.text });
  } catch (error) {
    if (stop.signal.aborted) error = STOPPED;
    fail(exchange, error, text);
  } finally {
    exchange.answer.removeAttribute("aria-busy");
    if (stop === running) rest();  // first: whatever happens below, the page can be used
    exchange.draw();
  }
}

async function receive(exchange, messages, signal) {
  const response = await send(messages, signal);
  for await (const { name, data } of read(response)) {
    if (name === "delta" || name === "refusal") exchange.add(data.text);
    else if (name === "reasoning") exchange.think(data.text);
    else if (name === "error") throw data;
    else if (name === "done") return data;
  }
  throw { outcome: "cut", message: "The connection to this site was lost." };
}

async function* read(response) {
  try {
    yield* events(response.body);
  } catch {
    throw { outcome: "cut", message: "The connection to this site was lost." };
  }
}

async function send(messages, signal) {
  const csrf = /(?:^|; )csrftoken=([^;]*)/.exec(document.cookie);  // Django wants it
  const headers = { "Content-Type": "application/json", ...(csrf && { "X-CSRFToken": csrf[1] }) };
  let response;
  try {
    response = await fetch("chat", {
      method: "POST", headers, signal, body: JSON.stringify(messages),
    });
  } catch {
    throw { outcome: "failed", message: "This site cannot be reached." };
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const message = `This site answered with status ${response.status}.`;
  throw said.error ?? { outcome: "failed", message };
}

// --- on the page

function begin(text) {
  welcome.hidden = true;
  fresh.hidden = false;
  const box = make("section", "exchange");
  const asked = make("div", "question", text);
  const answer = make("article", "answer");
  const waiting = make("p", "waiting");
  const thoughts = make("details", "thoughts");
  const body = make("div", "text");
  waiting.setAttribute("aria-label", "Waiting for the model");
  waiting.append(make("i", ""), make("i", ""), make("i", ""));
  thoughts.hidden = true;
  thoughts.append(make("summary", "", "Thinking"), make("div", ""));
  answer.setAttribute("aria-busy", "true");
  answer.append(thoughts, body, waiting);
  box.append(asked, answer);
  talk.append(box);
  box.scrollIntoView({ block: "end" });
  return drawn({ box, answer, waiting, thoughts, body, text: "" });
}

function drawn(exchange) {
  let timer = null;
  let pause = RENDER_MS;
  let thought = "";
  exchange.draw = () => {
    const began = performance.now();
    clearTimeout(timer);
    timer = null;
    follow(() => {
      if (exchange.text) exchange.waiting.remove();
      show(exchange.body, exchange.text);
      exchange.thoughts.lastChild.textContent = thought;
    });
    pause = Math.max(RENDER_MS, RENDER_SHARE * (performance.now() - began));
  };
  const later = () => { timer ??= setTimeout(exchange.draw, pause); };
  exchange.add = (text) => { exchange.text += text; later(); };
  exchange.think = (text) => { thought += text; exchange.thoughts.hidden = false; later(); };
  return exchange;
}

// Stays at the end of the page while something is added, unless the reader has scrolled up.
function follow(change) {
  const page = document.scrollingElement;
  const near = page.scrollHeight - page.scrollTop - page.clientHeight < NEAR_PX;
  change();
  if (near) page.scrollTop = page.scrollHeight;
}

function finish({ answer, waiting }, { outcome, model, finish_reason, stats }) {
  const limited = ["length", "max_tokens"].includes(finish_reason) && "stopped at its length limit";
  const chunks = stats.chunks === 1 ? "1\xa0chunk" : `${stats.chunks}\xa0chunks`;
  const facts = [outcome, limited, model, chunks, `${stats.duration_s.toFixed(1)}\xa0s`];
  follow(() => {
    waiting.remove();
    answer.append(make("p", "verdict", facts.filter(Boolean).join(" · ")));
  });
}

function fail({ box, answer, waiting }, { outcome, message, kind, reference }, text) {
  const note = make("div", outcome === "cancelled" ? "note stopped" : "note failed");
  const again = make("button", "", "Try again");
  note.setAttribute("role", "alert");
  again.type = "button";
  again.addEventListener("click", () => {
    if (running) return;
    box.remove();
    ask(text);
    ready();
  });
  const why = make("p", "", message || "No reason was given.");
  const facts = [kind, reference].filter(Boolean).join(" · ");  // the operator's log has both
  if (facts) why.append(" ", make("span", "kind", facts));
  note.append(make("strong", "", TITLES[outcome] ?? TITLES.failed), why, again);
  follow(() => {
    waiting.remove();
    answer.append(note);
  });
}

function rest() {
  running = null;
  document.body.classList.remove("running");
  label();
}

function label() {
  const [name, title] = running ? ["Stop", "Stop (Esc)"] : ["Send", "Send (Enter)"];
  go.setAttribute("aria-label", name);
  go.title = title;
  go.disabled = !running && !question.value.trim();
}

// --- what the reader does

function submit() {
  const text = question.value.trim();
  if (!text || running) return;
  question.value = "";
  grow();
  ask(text);
}

// The next words are typed without a click; on a phone the answer would vanish behind the keys.
function ready() {
  if (!matchMedia("(pointer: coarse)").matches) question.focus();
}

function grow() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else submit();
  ready();
});
question.addEventListener("input", () => { grow(); label(); });
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();  // while an answer is under way, the next question waits in the box
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
fresh.addEventListener("click", () => {
  running?.abort();
  rest();
  history = [];
  for (const box of document.querySelectorAll(".exchange")) box.remove();
  welcome.hidden = false;
  fresh.hidden = true;
  ready();
});
for (const button of welcome.querySelectorAll("button")) {
  button.addEventListener("click", () => {
    if (running) return;
    ask(button.textContent);
    ready();
  });
}
label();
