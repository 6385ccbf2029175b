// The chat page. It stores the conversation and the server stores nothing, so tabs are independent.
// Only complete answers join the conversation; others stay visible and can be retried.

import { events } from "./events.js";
import { show } from "./markdown.js";
import { addSource } from "./sources.js";

const RENDER_MS = 40;  // a timer, not an animation frame: tabs in the background keep rendering
const RENDER_SHARE = 4;  // after a slow rendering, pause for this many times its duration
const NEAR_PX = 80;    // if scrolled up further than this, the user is reading earlier text
const START_S = 60;    // until the first bytes: a busy site lets a request wait
const SILENCE_S = 15;  // after that: the site sends something four times a second
const TITLES = {
  cut: "The answer broke off",
  truncated: "The answer is incomplete",
  stalled: "The model stopped responding",
  deadline: "The answer took too long",
  cancelled: "Stopped",
  failed: "The answer failed",
};
const STOPPED = { outcome: "cancelled", message: "Not part of the conversation." };
const LOST = { outcome: "cut", message: "The connection to this site was lost." };
const failed = (message, kind) => ({ outcome: "failed", message, kind });
const LOGGED_OUT = failed("This site sent no answer. Are you still logged in? Reload the page.");
const UNREADABLE = failed("This site sent something that is not an answer.");
const TOO_LONG = failed("The conversation is too long for this site.", "QuestionError");
const NO_START = failed("This site does not answer.");

const $ = (selector) => document.querySelector(selector);
const [conversation, form, question, go] = ["#conversation", "#ask", "#question", "#go"].map($);
const [welcome, newChat, spoken] = ["#welcome", "#new", "#spoken"].map($);

let history = [];
let running = null;  // the AbortController of the running answer

function make(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

// --- one question and its answer

// `old` is the box of an earlier attempt: it stays until this one has begun.
async function ask(text, old = null) {
  const controller = running = new AbortController();
  const exchange = startExchange(text, old);
  const watch = startWatch(controller);
  const message = { role: "user", content: text };
  document.body.classList.add("running");
  updateButton();
  try {
    const outcome = await receive(exchange, [...history, message], controller.signal, watch);
    showOutcome(exchange, outcome);
    const joins = exchange.text && outcome.outcome !== "paused";
    if (controller === running && joins) {
      history.push(message, { role: "assistant", content: exchange.text });
    }
  } catch (error) {
    if (controller.signal.aborted) error = controller.signal.reason;
    showFailure(exchange, error instanceof Error ? UNREADABLE : error, text);
  } finally {
    watch.end();
    exchange.answer.removeAttribute("aria-busy");
    if (controller === running) becomeIdle();  // first: the page stays usable whatever fails below
    exchange.render();
  }
}

// Stops an answer when no more bytes come: the browser would wait for them as long as it is open.
// It counts seconds in which the page runs, so a phone that wakes up has time to read what it has.
function startWatch(controller) {
  let [silent, limit, error] = [0, START_S, NO_START];
  const timer = setInterval(() => {
    if (++silent >= limit) controller.abort(error);
  }, 1000);
  const received = () => { [silent, limit, error] = [0, SILENCE_S, LOST]; };
  return { received, end: () => clearInterval(timer) };
}

async function receive(exchange, messages, signal, watch) {
  const response = await send(messages, signal);
  for await (const { name, data } of readEvents(response, watch)) {
    if (name === "delta" || name === "refusal") exchange.addText(data.text);
    else if (name === "reasoning") exchange.addReasoning(data.text);
    else if (name === "citation") exchange.addSource(data);
    else if (name === "media") exchange.unshown.add(data.kind === "image" ? "an image" : "sound");
    else if (name === "tool_call") exchange.unshown.add("a function call");
    else if (name === "error") throw data ?? UNREADABLE;
    else if (name === "done") return data;
  }
  throw LOST;
}

async function* readEvents(response, watch) {
  try {
    yield* events(response.body, watch.received);
  } catch (error) {
    throw error instanceof SyntaxError ? UNREADABLE : LOST;  // of JSON, or of the network
  }
}

async function send(messages, signal) {
  const csrf = /(?:^|; )csrftoken=([^;]*)/.exec(document.cookie);  // required by Django
  const headers = { "Content-Type": "application/json", ...(csrf && { "X-CSRFToken": csrf[1] }) };
  let response;
  try {
    response = await fetch("chat", {
      method: "POST", headers, signal, body: JSON.stringify(messages),
    });
  } catch {
    throw failed("This site cannot be reached.");
  }
  const type = response.headers.get("Content-Type") ?? "";
  if (response.ok && type.startsWith("text/event-stream")) return response;
  if (response.ok) throw LOGGED_OUT;  // the page of a login, for example
  if (response.status === 413) throw TOO_LONG;
  const body = await response.json().catch(() => null);
  if (body?.error?.message) throw body.error;
  throw failed(`This site answered with status ${response.status}.`);
}

// --- what the page shows

function startExchange(text, old) {
  welcome.hidden = true;
  newChat.hidden = false;
  const box = make("section", "exchange");
  const prompt = make("div", "question", text);
  const answer = make("article", "answer");
  const waiting = make("p", "waiting");
  const reasoning = make("details", "reasoning");
  const body = make("div", "text");
  spoken.textContent = "Waiting for the model";
  waiting.append(make("i", ""), make("i", ""), make("i", ""));
  reasoning.hidden = true;
  reasoning.append(make("summary", "", "Thinking"), make("div", ""));
  answer.setAttribute("aria-busy", "true");
  answer.append(reasoning, body, waiting);
  box.append(prompt, answer);
  conversation.append(box);
  document.scrollingElement.scrollTop = document.scrollingElement.scrollHeight;
  const sources = make("ol", "sources");
  sources.hidden = true;
  answer.append(sources);
  const unshown = new Set();  // what has arrived that this page does not show
  return withRendering({ box, answer, waiting, reasoning, body, sources, unshown, old, text: "" });
}

// Adds the methods that collect streamed text, and render it at intervals.
function withRendering(exchange) {
  let timer = null;
  let pause = RENDER_MS;
  let reasoningText = "";
  exchange.render = () => {
    const start = performance.now();
    clearTimeout(timer);
    timer = null;
    keepAtEnd(() => {
      if (exchange.text) exchange.waiting.remove();
      show(exchange.body, exchange.text);
      exchange.reasoning.lastChild.textContent = reasoningText;
    });
    pause = Math.max(RENDER_MS, RENDER_SHARE * (performance.now() - start));
  };
  const schedule = () => { timer ??= setTimeout(exchange.render, pause); };
  exchange.begin = () => {
    exchange.old?.remove();
    exchange.old = null;
  };
  exchange.addText = (text) => { exchange.begin(); exchange.text += text; schedule(); };
  exchange.addReasoning = (text) => {
    reasoningText += text;
    exchange.reasoning.hidden = false;
    schedule();
  };
  const known = new Set();
  exchange.addSource = (source) => addSource(exchange.sources, known, source);
  return exchange;
}

// Keeps the end of the page in view while content is added, unless the user has scrolled up.
function keepAtEnd(change) {
  const page = document.scrollingElement;
  const wasNearEnd = page.scrollHeight - page.scrollTop - page.clientHeight < NEAR_PX;
  change();
  if (wasNearEnd) page.scrollTop = page.scrollHeight;
}

function showOutcome({ answer, waiting, unshown, begin }, { outcome, note, model, stats }) {
  const chunks = stats.chunks === 1 ? "1\xa0chunk" : `${stats.chunks}\xa0chunks`;
  const facts = [outcome, model, chunks, `${stats.duration_s.toFixed(1)}\xa0s`];
  const unseen = `The model sent ${[...unshown].join(" and ")}, which this page does not show`;
  begin();
  spoken.textContent = note || "The answer is complete";
  keepAtEnd(() => {
    waiting.remove();
    if (unshown.size) answer.append(make("p", "outcome reason", unseen));
    if (note) answer.append(make("p", "outcome reason", note));  // how it ended, as text
    answer.append(make("p", "outcome", facts.filter(Boolean).join(" · ")));
  });
}

function showFailure(exchange, { outcome, message, kind, reference }, text) {
  const { answer, waiting } = exchange;
  const note = make("div", outcome === "cancelled" ? "note stopped" : "note failed");
  const isRefused = kind === "QuestionError";  // the same question would be refused again
  const button = make("button", "", isRefused ? "New chat" : "Try again");
  spoken.textContent = "";  // the note is an alert
  note.setAttribute("role", "alert");
  button.type = "button";
  button.addEventListener("click", () => {
    if (running) return;
    if (isRefused) startAgain(text);
    else retry(exchange, button, text);
    focusInput();
  });
  const reason = make("p", "", message || "No reason was given.");
  const facts = [kind, reference].filter(Boolean).join(" · ");  // both are in the operator's log
  if (facts) reason.append(" ", make("span", "kind", facts));
  note.append(make("strong", "", TITLES[outcome] ?? TITLES.failed), reason, button);
  keepAtEnd(() => {
    waiting.remove();
    answer.append(note);
  });
}

// What an attempt has said stays, greyed, until the next one has begun.
function retry({ box, old, text: said }, button, text) {
  box.classList.add("old");
  button.remove();
  if (!said) box.remove();
  ask(text, said ? box : old);
}

function startAgain(text) {
  newChat.click();
  question.value ||= text;  // unless the next question is there already
  resizeInput();
  updateButton();
}

function becomeIdle() {
  running = null;
  document.body.classList.remove("running");
  updateButton();
}

function updateButton() {
  const [name, title] = running ? ["Stop", "Stop (Esc)"] : ["Send", "Send (Enter)"];
  go.setAttribute("aria-label", name);
  go.title = title;
  go.disabled = !running && !question.value.trim();
}

// --- user actions

function submit() {
  const text = question.value.trim();
  if (!text || running) return;
  question.value = "";
  resizeInput();
  ask(text);
}

// Lets the user type without a click; not on a phone, whose keyboard would cover the answer.
function focusInput() {
  if (!matchMedia("(pointer: coarse)").matches) question.focus();
}

function resizeInput() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort(STOPPED);
  else submit();
  focusInput();
});
question.addEventListener("input", () => { resizeInput(); updateButton(); });
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();  // while an answer is running, the next question stays in the input
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) running?.abort(STOPPED);
});
// A page that the browser keeps for "Back" would wait for an answer that does not come.
addEventListener("pagehide", () => running?.abort(STOPPED));
newChat.addEventListener("click", () => {
  running?.abort(STOPPED);
  becomeIdle();
  history = [];
  for (const box of document.querySelectorAll(".exchange")) box.remove();
  welcome.hidden = false;
  newChat.hidden = true;
  spoken.textContent = "";
  focusInput();
});
for (const button of welcome.querySelectorAll("button")) {
  button.addEventListener("click", () => {
    if (running) return;
    ask(button.textContent);
    focusInput();
  });
}
updateButton();
