// Renders streamed Markdown as DOM elements. Text becomes text nodes, so a model's HTML stays text.
// Formulas are shown as their source.

import { highlight } from "./highlight.js";

const DEPTH = 20;      // of nested quotes and lists; deeper levels are shown as typed
const COLUMNS = 100;   // maximum in a table
const SPAN = 1000;     // maximum characters of emphasis: limits each search for a closing delimiter
const FORMULA_LINES = 200;  // maximum of a formula: limits each search for its end

// Shows `source` in `box`; replaces only the blocks that have changed since the last call.
// If rendering fails, the plain text is shown.
export function show(box, source) {
  try {
    render(box, source);
  } catch {
    const plain = document.createElement("p");
    plain.className = "plain";
    plain.textContent = source;
    box.shown = null;
    box.replaceChildren(plain);
  }
}

function render(box, source) {
  const blocks = split(source.replace(/\r\n?/g, "\n").split("\n"));
  const keys = blocks.map((block) => JSON.stringify(block));
  const old = box.shown ?? { blocks: [], keys: [] };
  let same = 0;
  while (same < old.keys.length && same < keys.length && old.keys[same] === keys[same]) same++;
  if (isSameCode(old.blocks[same], blocks[same])) {
    fillCode(box.childNodes[same].querySelector("code"), blocks[same]);
    same++;
  }
  while (box.childNodes.length > same) box.lastChild.remove();
  appendAll(box, blocks.slice(same).map(element));
  box.shown = { blocks, keys };
}

// Code that streams keeps its element and its Copy button, so that it can be scrolled.
const isSameCode = (old, block) =>
  old?.kind === "pre" && block?.kind === "pre" && old.language === block.language;

// One by one: a call cannot take a hundred thousand arguments.
function appendAll(node, children) {
  for (const child of children) node.append(child);
}

// --- blocks: parses lines into a list of { kind, … }

// Each of these takes time linear in the length of the line, whatever its content.
const FENCE = /^( {0,3})(`{3,}(?!`)|~{3,}(?!~))([^`]*)$/;
const CLOSING_FENCE = /^ {0,3}(`+|~+)[ \t]*$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t](.*))?$/s;
const THEMATIC_BREAK = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:[ \t]+(.*))?$/s;
const FORMULA = /^ {0,3}(?:\\\[|\$\$)/;
const COLUMN_DELIMITER = /^:?-+:?$/;

function isTable(line, next) {
  if (!line.includes("|") || !next?.includes("-")) return false;
  const delimiters = cells(next);
  return delimiters.length <= COLUMNS && delimiters.every((cell) => COLUMN_DELIMITER.test(cell)) &&
    cells(line).length === delimiters.length;
}

function startsBlock(lines, at) {
  const line = lines[at];
  return FENCE.test(line) || HEADING.test(line) || THEMATIC_BREAK.test(line) || QUOTE.test(line) ||
    /^ {0,3}(?:[-*+]|1[.)])[ \t]+\S/.test(line) ||
    FORMULA.test(line) && formula(lines, at) !== null;
}

function split(lines, depth = 0) {
  const blocks = [];
  for (let at = 0; at < lines.length;) {
    if (!lines[at].trim()) { at++; continue; }
    const [block, next] = blockAt(lines, at, depth);
    blocks.push(block);
    at = next;
  }
  return blocks;
}

function blockAt(lines, at, depth) {
  const line = lines[at];
  let match;
  if (FENCE.test(line)) return code(lines, at);
  if (FORMULA.test(line)) return formula(lines, at) ?? paragraph(lines, at);
  if (THEMATIC_BREAK.test(line)) return [{ kind: "hr" }, at + 1];
  if ((match = HEADING.exec(line))) {
    return [{ kind: "h" + match[1].length, text: withoutClosingHashes(match[2] ?? "") }, at + 1];
  }
  if (depth < DEPTH && QUOTE.test(line)) return quote(lines, at, depth);
  if (depth < DEPTH && ITEM.test(line)) return list(lines, at, depth);
  if (isTable(line, lines[at + 1])) return table(lines, at);
  return paragraph(lines, at);
}

const withoutClosingHashes = (text) => text.trim().replace(/(?<=^|[ \t])#+$/, "");

function code(lines, at) {
  const [, indent, fence, info] = FENCE.exec(lines[at]);
  const closes = (match) => match && match[1][0] === fence[0] && match[1].length >= fence.length;
  const inner = [];
  // Text after an unclosed fence is code: its end has not arrived yet.
  for (at++; at < lines.length && !closes(CLOSING_FENCE.exec(lines[at])); at++) {
    const indentation = lines[at].search(/[^ ]|$/);
    inner.push(lines[at].slice(Math.min(indentation, indent.length)));
  }
  const language = info.trim().split(/\s+/)[0];
  return [{ kind: "pre", language, text: inner.join("\n") }, at + 1];
}

// A formula on lines of its own; without its end, which may not have arrived yet, it is text.
// It may contain blank lines if its first line is only the delimiter.
function formula(lines, at) {
  const first = lines[at].trim();
  const end = first.startsWith("$$") ? "$$" : "\\]";
  const inner = [];
  for (const last = at + FORMULA_LINES; at < lines.length && at < last; at++) {
    if (!lines[at].trim() && first.length > 2) break;
    const line = inner.length ? lines[at] : first;
    const found = line.indexOf(end, inner.length ? 0 : 2);
    inner.push(found < 0 ? line : line.slice(0, found + 2));
    if (found < 0) continue;
    const rest = line.slice(found + 2).trim();
    if (rest.length > 1 || /\w/.test(rest)) return null;  // a formula in a sentence
    return [{ kind: "formula", text: inner.join("\n") + rest }, at + 1];
  }
  return null;
}

function quote(lines, at, depth) {
  const inner = [];
  for (; at < lines.length && lines[at].trim(); at++) {
    if (!QUOTE.test(lines[at]) && startsBlock(lines, at)) break;
    inner.push(lines[at].replace(QUOTE, ""));
  }
  return [{ kind: "blockquote", blocks: split(inner, depth + 1) }, at];
}

function list(lines, at, depth) {
  const [, indent, marker] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(marker);
  const sameList = (match) =>
    match && match[1].length < indent.length + 2 && match[2].slice(-1) === marker.slice(-1);
  const items = [];
  let loose = false;
  while (at < lines.length) {
    const match = ITEM.exec(lines[at]);
    if (!sameList(match) || THEMATIC_BREAK.test(lines[at])) break;
    const [inner, next] = item(lines, at, match);
    items.push(split(inner, depth + 1));
    at = next;
    while (at < lines.length && !lines[at].trim() && sameList(ITEM.exec(lines[at + 1] ?? ""))) {
      loose = true;
      at++;
    }
  }
  const start = ordered ? parseInt(marker, 10) : undefined;
  return [{ kind: ordered ? "ol" : "ul", start, loose, items }, at];
}

function item(lines, at, [, indent, marker, first]) {
  const width = indent.length + 2;  // models indent by two, three or four columns: accept two
  const inner = [first ?? ""];
  for (at++; at < lines.length; at++) {
    const line = lines[at];
    const indentation = line.search(/\S/);
    if (indentation < 0) {
      let next = at + 1;
      while (next < lines.length && !lines[next].trim()) next++;
      if (next === lines.length || lines[next].search(/\S/) < width) break;
      for (; at < next - 1; at++) inner.push("");
      inner.push("");
    } else if (indentation >= width) {
      inner.push(line.slice(Math.min(indentation, indent.length + marker.length + 1)));
    } else if (ITEM.test(line) || startsBlock(lines, at) || !lines[at - 1].trim()) {
      break;
    } else {
      inner.push(line.trimStart());
    }
  }
  return [inner, at];
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function table(lines, at) {
  const head = cells(lines[at]);
  const alignments = cells(lines[at + 1]).map((cell) =>
    cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : "");
  const rows = [];
  for (at += 2; at < lines.length && lines[at].trim() && lines[at].includes("|"); at++) {
    const row = cells(lines[at]);
    const rest = row.splice(head.length - 1);
    if (rest.length) row.push(rest.join(" | "));  // extra cells stay readable
    rows.push(row);
  }
  return [{ kind: "table", head, alignments, rows }, at];
}

function paragraph(lines, at) {
  const inner = [lines[at]];
  for (at++; at < lines.length && lines[at].trim() && !startsBlock(lines, at); at++) {
    if (isTable(lines[at], lines[at + 1])) break;
    inner.push(lines[at]);
  }
  return [{ kind: "p", text: inner.map((line) => line.trimStart()).join("\n") }, at];
}

// --- elements: turns a block into a DOM node

function element(block) {
  if (block.kind === "formula") return formulaBox(block.text);
  const node = document.createElement(block.kind);
  if (block.kind === "pre") return codeBox(node, block);
  if (block.kind === "table") return tableBox(node, block);
  if (block.kind === "blockquote") appendAll(node, block.blocks.map(element));
  if (block.items) appendAll(node, block.items.map((item) => itemNode(item, block.loose)));
  if (block.start !== undefined && block.start !== 1) node.start = block.start;
  if (block.text !== undefined) inline(node, block.text.trimEnd());
  return node;
}

function formulaBox(text) {
  const box = document.createElement("p");
  box.className = "formula";
  box.append(formulaNode(text));
  return box;
}

function formulaNode(text) {
  const node = document.createElement("code");
  node.className = "formula";
  node.title = "Formula";
  node.textContent = text;
  return node;
}

function itemNode(blocks, loose) {
  const node = document.createElement("li");
  for (const block of blocks) {
    if (block.kind === "p" && !loose) inline(node, block.text.trimEnd());
    else node.append(element(block));
  }
  return node;
}

function fillCode(code, { text, language }) {
  code.replaceChildren();
  highlight(code, text, language);
}

function codeBox(pre, block) {
  const box = document.createElement("div");
  const bar = document.createElement("div");
  const name = document.createElement("span");
  const copy = document.createElement("button");
  const code = document.createElement("code");
  box.className = "code";
  name.textContent = block.language || "text";
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", `Code: ${name.textContent}`);
  copy.type = "button";
  copy.textContent = "Copy";
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = "Copied";
    } catch {  // forbidden, or the page was not loaded by HTTPS
      getSelection().selectAllChildren(code);
      copy.textContent = "Selected";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  });
  fillCode(code, block);
  pre.tabIndex = 0;  // lets the keyboard scroll it
  bar.append(name, copy);
  pre.append(code);
  box.append(bar, pre);
  return box;
}

function tableBox(node, { head, alignments, rows }) {
  const row = (cells, kind) => {
    const tr = document.createElement("tr");
    cells.forEach((text, column) => {
      const cell = document.createElement(kind);
      cell.className = alignments[column] ?? "";
      inline(cell, text);
      tr.append(cell);
    });
    const missing = head.length - cells.length;
    if (missing) {  // one cell for all: short rows of a wide table would need thousands
      const cell = document.createElement(kind);
      cell.className = "";
      if (missing > 1) cell.colSpan = missing;
      tr.append(cell);
    }
    return tr;
  };
  const thead = document.createElement("thead");
  const tbody = document.createElement("tbody");
  const box = document.createElement("div");
  thead.append(row(head, "th"));
  appendAll(tbody, rows.map((cells) => row(cells, "td")));
  node.append(thead, tbody);
  box.className = "table";
  box.append(node);
  return box;
}

// --- inline Markdown: turns text into DOM nodes

// In order of precedence: of the matches at the earliest position, the first wins.
const INLINE = new RegExp(
  [
    /\\\((?<formula>[^]{1,SPAN}?)\\\)|\\\[(?<formula2>[^]{1,SPAN}?)\\\]|\$\$(?=\S)(?<formula3>[^$]{0,SPAN}[^$\s])\$\$/,
    /\\(?<escaped>[!-/:-@[-`{-~])/,
    /(?<!`)(?<ticks>`+)(?!`)(?<code>[^]*?[^`])\k<ticks>(?!`)/,
    /(?<image>!)?\[(?<label>(?:[^[\]\\]|\\.|\[[^[\]]*\])*)\]\((?<target><[^<>\n]*>|(?:[^\s()]|\([^\s()]*\))*)(?:\s+(?:"[^"]*"|'[^']*'))?\)/,
    /<(?<auto>https?:\/\/[^\s<>]+)>/,
    /(?<bare>https?:\/\/[^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*[^\s<>().,;:!?'"*_~`])/,
    /\*\*(?=\S)(?<strong>(?:[^*]|\*(?!\*))*?(?:[^\s*]|\*[^\s*]+\*))\*\*(?!\*)/,
    /(?<![\w_])__(?=\S)(?<strong2>[^]{0,SPAN}?\S)__(?!\w)/,
    /~~(?=\S)(?<del>[^]{0,SPAN}?\S)~~/,
    /\*(?=[^\s*])(?<em>(?:[^*]|\*\*[^*]*\*\*){0,SPAN}?[^\s])\*(?!\*)/,
    /(?<![\w_])_(?=[^\s_])(?<em2>[^_]*?[^\s])_(?!\w)/,
    /(?:(?<! ) {2,}|\\)?\n(?<line>)/,
  ].map((part) => part.source.replaceAll("SPAN", SPAN)).join("|"), "g");

function inline(node, text) {
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    node.append(text.slice(at, match.index), inlineNode(match));
    at = match.index + match[0].length;
  }
  node.append(text.slice(at));
  return node;
}

function inlineNode({ 0: source, groups }) {
  const { escaped, code, label, target, auto, bare, line } = groups;
  const formula = groups.formula ?? groups.formula2 ?? groups.formula3;
  if (formula !== undefined) return formulaNode(source);
  if (escaped !== undefined) return escaped;
  if (line !== undefined) return source === "\n" ? "\n" : document.createElement("br");
  if (code !== undefined) {
    const node = document.createElement("code");
    const plain = code.replaceAll("\n", " ");
    node.textContent = /^ .*\S.* $/.test(plain) ? plain.slice(1, -1) : plain;
    return node;
  }
  if (auto ?? bare) return link(auto ?? bare, auto ?? bare);
  if (label !== undefined) return link(target.replace(/^<|>$/g, ""), label, source);
  const kind = ["strong", "strong2", "del", "em", "em2"].find((name) => groups[name] !== undefined);
  return inline(document.createElement(kind.replace("2", "")), groups[kind]);
}

// Only the web and mail: javascript: and data: URLs stay text. An image becomes a link, since
// loading it would reveal to its server that this answer was read.
export function link(target, label, source = target) {
  if (!/^(?:https?:\/\/|mailto:)/i.test(target)) return document.createTextNode(source);
  const node = document.createElement("a");
  node.href = target;
  node.target = "_blank";
  node.rel = "noopener noreferrer nofollow";
  if (label === target) node.textContent = label;
  else inline(node, label || target);
  return node;
}
