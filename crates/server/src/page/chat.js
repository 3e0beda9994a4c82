// A chat over /v1/chat/completions. What the model says becomes text nodes and nothing else.

/** The messages so far, as the server takes them. */
const messages = [];

/** The answer that is on its way, or null. */
let current = null;

const log = byId("log");

// Answers.

/** Cuts a text at its fences: pieces of text and of code, the last one perhaps not closed yet. */
function pieces(text) {
  const fence = /(^|\n)```([^\n`]*)(?:\n([\s\S]*?))?(?:\n```[ \t]*(?=\n|$)|$)/g;
  const found = [];
  let from = 0;
  for (let match = fence.exec(text); match; match = fence.exec(text)) {
    if (match.index > from) found.push({ text: text.slice(from, match.index) });
    found.push({ code: match[3] ?? "", language: match[2].trim() });
    from = fence.lastIndex;
    if (match[0] === "") break;
  }
  if (from < text.length) found.push({ text: text.slice(from) });
  return found.filter((piece) => piece.code !== undefined || piece.text.trim() !== "");
}

function codeBlock() {
  const block = make("figure", "code");
  const caption = make("figcaption");
  const copy = make("button", "", "Copy");
  copy.type = "button";
  const code = make("code");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  caption.append(make("span"), copy);
  const pre = make("pre");
  pre.tabIndex = 0;
  pre.append(code);
  block.append(caption, pre);
  return block;
}

/** Shows a text in `body`; what stands there already is kept and only what differs is written. */
function show(body, text) {
  const wanted = pieces(text);
  wanted.forEach((piece, at) => {
    const isCode = piece.code !== undefined;
    let node = body.children[at];
    if (!node || node.classList.contains("code") !== isCode) {
      const fresh = isCode ? codeBlock() : make("div", "text");
      if (node) node.replaceWith(fresh);
      else body.append(fresh);
      node = fresh;
    }
    if (isCode) {
      say(node.querySelector("figcaption span"), piece.language || "code");
      say(node.querySelector("code"), piece.code);
    } else {
      say(node, piece.text.replace(/^\n+|\n+$/g, ""));
    }
  });
  while (body.children.length > wanted.length) body.lastChild.remove();
}

/** Keeps the end in sight, unless somebody reads further up. */
function following(change) {
  const wasAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 48;
  change();
  if (wasAtEnd) log.scrollTop = log.scrollHeight;
}

function addUser(text) {
  const turn = make("div", "turn user");
  const body = make("div", "body");
  show(body, text);
  turn.append(body);
  log.append(turn);
}

/** An answer and its place on the page. */
class Answer {
  constructor() {
    this.text = "";
    this.reasoning = "";
    this.usage = null;
    this.standing = "";
    this.begun = performance.now();
    this.abort = new AbortController();
    this.isDrawn = true;
    this.turn = make("div", "turn model");
    this.body = make("div", "body");
    this.meta = make("p", "meta");
    this.turn.append(this.body, this.meta);
    log.append(this.turn);
  }

  add(delta) {
    this.text += delta.content ?? "";
    this.reasoning += delta.reasoning_content ?? "";
    this.standing = "";
    if (!this.isDrawn) return;
    this.isDrawn = false;
    requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.isDrawn = true;
    following(() => {
      if (this.reasoning) this.drawReasoning();
      show(this.body, this.text);
      if (current === this) this.drawStanding();
    });
  }

  drawReasoning() {
    if (!this.thoughts) {
      const folded = make("details", "reasoning");
      this.thoughts = make("div", "text");
      folded.append(make("summary", "", "Reasoning"), this.thoughts);
      this.turn.prepend(folded);
    }
    say(this.thoughts, this.reasoning.trim());
  }

  /** While it is on its way: what it waits for, or for how long it has run. */
  drawStanding() {
    const why = whyStopped(latest.view);
    const seconds = Math.floor((performance.now() - this.begun) / 1000);
    if (why) this.note("wait", `Waiting: ${why}. It goes on when the machine is given back.`);
    else if (this.standing) this.note("wait", this.standing);
    else this.note("", this.text || this.reasoning ? `Answering · ${seconds} s` : `Working · ${seconds} s`);
  }

  note(kind, text) {
    this.meta.dataset.kind = kind;
    say(this.meta, text);
  }

  /** A comment of the stream: `gogrid paused reason=others_cpu left_s=30`. */
  hear(comment) {
    const [what, ...words] = comment.replace(/^: *gogrid /, "").split(" ");
    const value = (name) => words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
    if (what === "opening") this.standing = "Waiting: the model is being opened.";
    else if (what === "queued") this.standing = `Waiting: queued at position ${value("position")}.`;
    else if (what === "paused") {
      const left = value("left_s");
      const until = left ? `, for another ${duration(Number(left))}` : "";
      this.standing = `Waiting: ${(value("reason") ?? "paused").replaceAll("_", " ")}${until}.`;
    } else this.standing = "";
    this.drawStanding();
  }

  figures() {
    const { completion_tokens: made, prompt_tokens: read, prompt_tokens_details: of, gogrid } = this.usage;
    const words = [`${made} tokens`];
    if (gogrid.decode_s > 0 && made > 1) words.push(`${((made - 1) / gogrid.decode_s).toFixed(1)} tokens/s`);
    words.push(`${read} read${of.cached_tokens ? `, ${of.cached_tokens} of them kept from before` : ""}`);
    if (gogrid.accepted_tokens) words.push(`${gogrid.accepted_tokens} drafted`);
    if (gogrid.paused_s >= 1) words.push(`${gogrid.paused_s.toFixed(0)} s paused`);
    return words.join(" · ");
  }
}

followers.push(() => current?.drawStanding());

// The stream.

/** Gives each block of a stream of events as it comes. */
async function* blocks(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += decoder.decode(value, { stream: true });
    const cut = held.split("\n\n");
    held = cut.pop();
    yield* cut;
  }
}

async function stream(answer) {
  const system = byId("system").value.trim();
  const response = await ask("/v1/chat/completions", {
    method: "POST",
    signal: answer.abort.signal,
    body: JSON.stringify({
      model: byId("model").value,
      messages: system ? [{ role: "system", content: system }, ...messages] : messages,
      temperature: Number(byId("temperature").value),
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  for await (const block of blocks(response)) {
    if (block.startsWith(":")) answer.hear(block);
    if (!block.startsWith("data: ") || block === "data: [DONE]") continue;
    const event = JSON.parse(block.slice("data: ".length));
    if (event.error) throw new ServerError(0, event.error.message);
    if (event.usage) answer.usage = event.usage;
    const delta = event.choices?.[0]?.delta;
    if (delta && (delta.content || delta.reasoning_content)) answer.add(delta);
  }
}

/** Has the model answer what stands last. */
async function answerLast() {
  const answer = new Answer();
  current = answer;
  setBusy(true);
  answer.drawStanding();
  log.scrollTop = log.scrollHeight;
  try {
    await stream(answer);
    end(answer, "", answer.usage ? answer.figures() : "The stream ended early.");
  } catch (error) {
    if (answer.abort.signal.aborted) end(answer, "", "Stopped.");
    else {
      end(answer, "error", error.message);
      offerAgain(answer);
    }
  }
}

function end(answer, kind, note) {
  // A chat that was begun anew meanwhile is no longer this answer's.
  if (current !== answer) return;
  current = null;
  setBusy(false);
  answer.draw();
  following(() => answer.note(kind, note));
  if (answer.text) messages.push({ role: "assistant", content: answer.text });
}

function offerAgain(answer) {
  const again = make("button", "", "Try again");
  again.type = "button";
  again.addEventListener("click", () => {
    if (current) return;
    if (messages.at(-1)?.role === "assistant") messages.pop();
    answer.turn.remove();
    answerLast();
  });
  if (answer.turn.isConnected) answer.meta.append(again);
}

// The controls.

function setBusy(isBusy) {
  byId("send").hidden = isBusy;
  byId("stop").hidden = !isBusy;
}

function send() {
  const field = byId("message");
  const text = field.value.trim();
  if (!text || current) return;
  byId("empty").hidden = true;
  field.value = "";
  fit();
  messages.push({ role: "user", content: text });
  addUser(text);
  answerLast();
}

function stop() {
  current?.abort.abort();
}

function newChat() {
  stop();
  current = null;
  setBusy(false);
  messages.length = 0;
  for (const turn of log.querySelectorAll(".turn")) turn.remove();
  byId("empty").hidden = false;
  byId("message").focus();
}

/** As high as its lines. */
function fit() {
  const field = byId("message");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("message").addEventListener("keydown", (event) => {
  // An Enter that ends the choice of a character is not meant for us.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
byId("message").addEventListener("input", fit);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
byId("stop").addEventListener("click", stop);
byId("new-chat").addEventListener("click", newChat);
byId("options-toggle").addEventListener("click", () => {
  const options = byId("options");
  options.hidden = !options.hidden;
  byId("options-toggle").setAttribute("aria-expanded", String(!options.hidden));
});
byId("temperature").addEventListener("input", () => {
  say(byId("temperature-value"), Number(byId("temperature").value).toFixed(2));
});

/** The models to choose from; the choice is kept where it still is one. */
async function listModels() {
  const { data } = await askJson("/v1/models");
  const select = byId("model");
  const wanted = select.value || latest.view?.default_model;
  const options = data.map((model) => {
    const option = make("option", "", model.gogrid.here ? model.id : `${model.id} (is fetched first)`);
    option.value = model.id;
    return option;
  });
  select.replaceChildren(...options);
  if (data.some((model) => model.id === wanted)) select.value = wanted;
}
