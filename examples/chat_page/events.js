// Parses server-sent events from the body of a fetch(): EventSource cannot post a question, and
// would send it again whenever the connection ends.

// `received` is called whenever bytes have come, also those of a comment.
export async function* events(body, received = () => {}) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let parts = [];  // of the block that has not ended: an image is one of many megabytes
  let held = "";   // a line break that may be the first of two
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      received();
      const text = held + value;
      held = text.endsWith("\n") && !text.endsWith("\n\n") ? "\n" : "";
      const [first, ...others] = text.slice(0, text.length - held.length).split("\n\n");
      parts.push(first);
      for (const next of others) {
        const event = parse(parts.join(""));
        parts = [next];
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});  // a body that goes on would hold one of six connections
  }
}

function parse(block) {
  let name = "message";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  return data && { name, data: JSON.parse(data) };
}
