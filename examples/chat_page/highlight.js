// Colours code: splits it into comments, strings, numbers, keywords and the rest. Every pattern takes
// an unclosed comment or string to its end, so the time is linear in the length, whatever it holds.

const LONGEST = 50_000;  // characters; longer code is shown without colours

const DOUBLE = /"(?:[^"\\\n]|\\[^])*"?/;
const SINGLE = /'(?:[^'\\\n]|\\[^])*'?/;
const QUOTED = `${DOUBLE.source}|${SINGLE.source}`;
const UNESCAPED = `${DOUBLE.source}|'[^']*'?`;  // single quotes in which a backslash is text
const BACKTICKS = /`(?:[^`\\]|\\[^])*`?/.source;
const TRIPLE = /"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)/.source;
const SLASHES = /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)/.source;
const PYTHON_COMMENT = /#[^\n]*/.source;
const HASH = /(?<![^\s;(){}])#[^\n]*/.source;
const DASHES = /--[^\n]*/.source;

const C_WORDS = `abstract any as async await bool boolean break byte case catch char class const
  constexpr continue debugger def default defer delete do double else enum export extends extern
  false final finally float fn for foreach func function go goto if impl implements import in
  instanceof int interface internal is let long loop match mod mut namespace new nil null nullptr of
  operator override package private protected pub public range readonly ref return select self
  short signed sizeof static string struct super switch template this throw throws trait true try
  type typedef typeof undefined union unsafe unsigned use using val var virtual void volatile when
  where while yield`;
const PYTHON_WORDS = `and as assert async await break case class continue def del elif else except
  False finally for from global if import in is lambda match None nonlocal not or pass raise return
  self True try while with yield`;
const SHELL_WORDS = `case do done elif else esac exit export fi for function if in local return then
  until while`;
const RUBY_WORDS = `and begin break case class def do else elsif end ensure false for if in module next
  nil not or require rescue return self super then true unless until when while yield`;
const SQL_WORDS = `add all alter and as asc between by case create cross delete desc distinct drop else
  end exists foreign from full group having if in index inner insert into is join key left like limit
  not null offset on or order outer primary references right select set table then union unique
  update values view when where with`;
const LUA_WORDS = `and break do else elseif end false for function goto if in local nil not or repeat
  return then true until while`;
const DATA_WORDS = "true false null yes no on off";

const LANGUAGES = [
  ["python py py3 pycon ipython", PYTHON_COMMENT, `${TRIPLE}|${QUOTED}`, PYTHON_WORDS],
  ["javascript js jsx mjs typescript ts tsx go golang", SLASHES, `${QUOTED}|${BACKTICKS}`, C_WORDS],
  ["c h cpp c++ cc hpp csharp cs java kotlin kt scala swift dart php objective-c glsl proto zig",
    SLASHES, QUOTED, C_WORDS],
  ["rust rs", SLASHES, `${DOUBLE.source}|'(?:\\\\[^]|[^\\\\'\\n])'`, C_WORDS],
  ["css scss less", SLASHES, QUOTED, "@import @media @supports @keyframes @layer"],
  ["bash sh shell zsh console fish dockerfile make makefile", HASH, UNESCAPED, SHELL_WORDS],
  ["ruby rb elixir ex perl pl r julia jl", HASH, QUOTED, RUBY_WORDS],
  ["yaml yml toml ini conf properties", HASH, QUOTED, DATA_WORDS],
  ["json jsonc json5", SLASHES, QUOTED, DATA_WORDS],
  ["sql postgresql mysql sqlite plsql", `${DASHES}|${SLASHES}`, UNESCAPED, SQL_WORDS, "i"],
  ["lua", DASHES, QUOTED, LUA_WORDS],
  ["html xml svg vue xhtml", "<!--[^]*?(?:-->|$)", "(?<==)(?:\"[^\"]*\"?|'[^']*'?)", ""],
];
const MARKUP = "html";

const byName = new Map();
for (const [names, comment, string, words, ignoreCase = ""] of LANGUAGES) {
  const isMarkup = names.startsWith(MARKUP);
  const word = isMarkup ? "</?[A-Za-z][\\w:.-]*|/?>" : "[@\\p{L}_$][\\p{L}\\p{N}_$]*";
  const number = isMarkup ? "&#?\\w+;" : "\\d(?:[\\w.]|'(?=\\d))*";
  const source = `(?<comment>${comment})|(?<string>${string})|(?<number>${number})|(?<word>${word})`;
  const language = {
    pattern: new RegExp(source, "gu"),
    keywords: isMarkup ? null : new Set(words.split(/\s+/)),
    ignoreCase,
  };
  for (const name of names.split(" ")) byName.set(name, language);
}

// Fills `node` with the code as text, and as spans whose class is the kind of the token.
export function highlight(node, code, name) {
  const language = byName.get(name.toLowerCase());
  if (!language || code.length > LONGEST) {
    node.textContent = code;
    return;
  }
  let at = 0;
  for (const match of code.matchAll(language.pattern)) {
    const kind = kindOf(match, language);
    if (!kind) continue;
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = match[0];
    node.append(code.slice(at, match.index), span);
    at = match.index + match[0].length;
  }
  node.append(code.slice(at));
}

function kindOf({ groups: { comment, string, number, word } }, { keywords, ignoreCase }) {
  if (comment !== undefined) return "comment";
  if (string !== undefined) return "string";
  if (number !== undefined) return "number";
  if (!keywords) return "keyword";  // a tag
  return keywords.has(ignoreCase ? word.toLowerCase() : word) ? "keyword" : "";
}
