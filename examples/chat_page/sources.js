// Shows the sources that a model names as links below its answer.

import { link } from "./markdown.js";

const MOST = 50;       // under one answer
const LONGEST = 100;   // characters of a title

// Adds a source to a list, unless `known` has it.
export function addSource(list, known, { url, title }) {
  const words = (title ?? "").replace(/\s+/g, " ").trim() || url;
  if (!words || known.has(url ?? words) || known.size === MOST) return;
  known.add(url ?? words);
  const item = document.createElement("li");
  const node = url ? link(url, url) : document.createElement("span");
  node.textContent = words.length > LONGEST ? `${words.slice(0, LONGEST)}…` : words;
  if (url) node.title = url;
  item.append(node);
  if (url && words !== url) item.append(" ", host(node));
  list.append(item);
  list.hidden = false;
}

// Where a link leads: its title, which the model chose, may look like another address.
function host(link) {
  const node = document.createElement("span");
  node.className = "host";
  node.textContent = link.host ?? "";
  return node;
}
