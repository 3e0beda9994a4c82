// The machine: who has it and why, what gogrid holds and makes, and the limits.

const LIMITS = [
  { key: "max_compute_usage_percent", name: "Compute", min: 1, max: 100, unit: " %", scale: 100 },
  { key: "max_vram_usage_percent", name: "Memory", min: 1, max: 100, unit: " %", scale: 100 },
  { key: "max_batch_size", name: "At a time", min: 1, max: 64, unit: "", scale: 1 },
];
const PROFILES = [
  { section: "limits", profile: "present", name: "While somebody is there" },
  { section: "away", profile: "away", name: "While nobody is there" },
];
const KINDS = [
  ["weights", "Weights"],
  ["kv", "Keys, values"],
  ["prefix", "Prefix cache"],
  ["buffers", "Buffers"],
  ["rest", "Being opened"],
  ["peers", "Other gogrids"],
];

// Who has it.

const VERDICTS = {
  open: (ruling) => `gogrid may take up to ${percent(ruling.compute_share)}`,
  limited: (ruling) => `Others first: gogrid is held to ${percent(ruling.compute_share)}`,
  shut: () => "It is yours: gogrid has stopped",
};

function drawRuling({ status, why, draining }) {
  const { ruling } = status;
  const reasons = why.join("; ");
  const there = ruling.profile === "away" ? "Nobody is there" : "Somebody is there, or may be";
  const owner = ruling.owner.compute_share > ruling.compute_share
    ? ` Requests of the machine's owner may take up to ${percent(ruling.owner.compute_share)}.` : "";
  const closed = draining || !ruling.admits ? " It takes no new requests." : "";
  const short = {
    open: `Open: up to ${percent(ruling.compute_share)}`,
    limited: `Limited to ${percent(ruling.compute_share)}: ${reasons}`,
    shut: `Stopped: ${reasons}`,
  };
  byId("state").dataset.verdict = ruling.verdict;
  say(byId("state-words"), short[ruling.verdict]);
  byId("state").title = short[ruling.verdict];
  say(byId("has"), VERDICTS[ruling.verdict](ruling));
  say(byId("why"), `${reasons ? `${reasons[0].toUpperCase()}${reasons.slice(1)}. ` : ""}${there}.${owner}${closed}`);
  const byHand = ruling.reason === "paused" || ruling.reason === "snoozed";
  byId("pause").disabled = ruling.reason === "paused";
  byId("resume").disabled = !byHand && ruling.admits;
  byId("snooze").disabled = false;
}

async function order(name, body) {
  const problem = byId("order-problem");
  problem.hidden = true;
  try {
    await post(`/gogrid/${name}`, body);
    await look();
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
  }
}

byId("pause").addEventListener("click", () => order("pause"));
byId("resume").addEventListener("click", () => order("resume"));
byId("snooze").addEventListener("click", () => order("snooze", { seconds: 30 * 60 }));

// Figures.

/** Counts of the last looks, for a rate that is not older than they are. */
const counted = [];
const COUNTED_MAX = 4;

function rate(view) {
  const now = { at: performance.now(), tokens: view.counts.tokens };
  counted.push(now);
  if (counted.length > COUNTED_MAX) counted.shift();
  const first = counted[0];
  const seconds = (now.at - first.at) / 1000;
  // A server that began anew counts from 0.
  return seconds > 0 ? Math.max(0, now.tokens - first.tokens) / seconds : 0;
}

function drawFigures(view) {
  const { models, ruling } = view.status;
  const sum = (of) => models.reduce((all, model) => all + of(model), 0);
  const now = rate(view).toFixed(1);
  say(byId("rate"), now);
  say(byId("top-rate"), now);
  say(byId("used"), String(Math.round((view.latest?.used_share ?? 0) * 100)));
  say(byId("allowed"), String(Math.round(ruling.compute_share * 100)));
  say(byId("running"), String(sum((model) => model.running)));
  say(byId("queued"), String(sum((model) => model.queued)));
  say(byId("requests"), String(view.counts.requests));
  say(byId("version"), `gogrid ${view.version}`);
}

// Memory.

function memoryBox(name) {
  const box = make("div", "memory");
  box.dataset.memory = name;
  const title = make("div", "memory-title");
  title.append(make("b", "", name === "system" ? "System" : name), make("span"));
  const bar = make("div", "bar");
  bar.setAttribute("role", "img");
  const legend = make("dl", "legend");
  for (const [kind, words] of [...KINDS, ["free", "Still allowed"], ["kept", "Kept for others"]]) {
    bar.append(make("span", kind));
    const row = make("div");
    row.append(make("i", kind), make("dt", "", words), make("dd"));
    row.dataset.kind = kind;
    legend.append(row);
  }
  box.append(title, bar, legend);
  return box;
}

/** The bytes of a memory by kind; its devices are those of its name, or those that have none of their own. */
function memoryKinds(memory, status) {
  const named = new Set(status.memories.map((other) => other.memory));
  const its = status.devices.filter((device) => (named.has(device.device) ? device.device : "system") === memory.memory);
  const sum = (field) => its.reduce((all, device) => all + device[field], 0);
  const kinds = {
    weights: sum("weights_bytes"),
    kv: sum("kv_bytes"),
    prefix: sum("prefix_bytes"),
    buffers: sum("scratch_bytes"),
    peers: memory.peers_bytes,
  };
  const told = kinds.weights + kinds.kv + kinds.prefix + kinds.buffers;
  kinds.rest = Math.max(0, memory.used_bytes - told);
  kinds.free = Math.max(0, memory.cap_bytes - memory.used_bytes);
  kinds.kept = Math.max(0, memory.total_bytes - memory.cap_bytes - memory.peers_bytes);
  return kinds;
}

function drawMemory(memory, status) {
  const holder = byId("memories");
  let box = [...holder.children].find((box) => box.dataset.memory === memory.memory);
  if (!box) holder.append((box = memoryBox(memory.memory)));
  const kinds = memoryKinds(memory, status);
  const used = `${bytes(memory.used_bytes)} of ${bytes(memory.cap_bytes)} allowed`;
  say(box.querySelector(".memory-title span"), used);
  const bar = box.querySelector(".bar");
  bar.setAttribute("aria-label", `${memory.memory}: ${used}, of ${bytes(memory.total_bytes)} in all`);
  for (const part of bar.children) {
    const held = kinds[part.className];
    part.style.width = held ? `max(3px, ${(held / memory.total_bytes) * 100}%)` : "0";
    part.hidden = !held;
    // What nobody holds is the bar's own colour.
    part.style.flexShrink = part.className === "free" ? "1" : "0";
  }
  for (const row of box.querySelectorAll(".legend > div")) {
    say(row.querySelector("dd"), bytes(kinds[row.dataset.kind]));
  }
}

// Limits.

function limitSlider({ section }, limit) {
  const row = make("div", "slider");
  const [label, slider, output] = [make("label", "", limit.name), make("input"), make("output")];
  slider.id = `${section}-${limit.key}`;
  label.htmlFor = slider.id;
  output.htmlFor = slider.id;
  // Until the server has told where it stands.
  Object.assign(slider, { type: "range", min: limit.min, max: limit.max, step: 1, disabled: true });
  const write = () => say(output, `${slider.value}${limit.unit}`);
  slider.addEventListener("input", () => {
    slider.dataset.isMoved = "yes";
    write();
  });
  slider.addEventListener("change", () => {
    slider.dataset.isMoved = "sent";
    setLimits({ [section]: { [limit.key]: Number(slider.value) / limit.scale } });
  });
  slider.addEventListener("set", write);
  row.append(label, slider, output);
  return row;
}

for (const profile of PROFILES) {
  const fields = make("fieldset", "profile");
  const legend = make("legend", "", `${profile.name} `);
  const inForce = make("span");
  inForce.id = `${profile.section}-in-force`;
  legend.append(inForce);
  fields.append(legend, ...LIMITS.map((limit) => limitSlider(profile, limit)));
  byId("limits").append(fields);
}

/** Changes that wait while others are sent: a key that is held down moves a slider faster than a server answers. */
let wanted = null;
let isSending = false;

async function setLimits(changes) {
  // A mode stands for every limit.
  if (changes.mode || !wanted) wanted = changes;
  else for (const section in changes) wanted[section] = { ...wanted[section], ...changes[section] };
  if (isSending) return;
  isSending = true;
  const problem = byId("limits-problem");
  problem.hidden = true;
  try {
    while (wanted) {
      const next = wanted;
      wanted = null;
      await post("/gogrid/settings", next);
      // A change that comes meanwhile has its turn before anything is shown as it was.
      if (!wanted) await look();
    }
  } catch (error) {
    wanted = null;
    problem.textContent = error.message;
    problem.hidden = false;
  }
  isSending = false;
  for (const slider of document.querySelectorAll('[data-is-moved="sent"]')) delete slider.dataset.isMoved;
  if (latest.view) drawLimits(latest.view);
}

byId("mode").addEventListener("change", () => setLimits({ mode: byId("mode").value }));

function drawLimits({ settings, status, mode }) {
  for (const { section, profile } of PROFILES) {
    say(byId(`${section}-in-force`), status.ruling.profile === profile ? "in force" : "");
    for (const limit of LIMITS) {
      const slider = byId(`${section}-${limit.key}`);
      // One that is being moved is its mover's.
      if (slider.dataset.isMoved) continue;
      slider.disabled = false;
      slider.value = Math.round(settings[section][limit.key] * limit.scale);
      slider.dispatchEvent(new Event("set"));
    }
  }
  byId("mode").disabled = false;
  if (document.activeElement !== byId("mode")) byId("mode").value = mode ?? "";
}

// Models and notes.

function standing(model) {
  if (!model.loaded) return model.here ? "on disk" : "is fetched when asked for";
  const words = [model.requests === 1 ? "open, 1 request" : `open, ${model.requests} requests`];
  if (model.closes_in_s !== null) words.push(`closes after ${duration(model.closes_in_s)} without one`);
  return words.join(", ");
}

/** As many entries as there are values, written by `write`. */
function drawList(list, values, entry, write) {
  while (list.children.length > values.length) list.lastChild.remove();
  while (list.children.length < values.length) list.append(entry());
  values.forEach((value, at) => write(list.children[at], value));
}

function modelEntry() {
  const entry = make("li");
  entry.append(make("span", "name"), make("span", "size"), make("span", "standing"));
  return entry;
}

function drawModels({ models }) {
  drawList(byId("models"), models, modelEntry, (entry, model) => {
    say(entry.children[0], model.name);
    entry.children[0].title = model.name;
    say(entry.children[1], bytes(model.bytes));
    say(entry.children[2], standing(model));
  });
}

function notes({ failures, devices, models, threads, not_enforced, not_seen, left_out, peers }) {
  const problem = (text) => ({ kind: "problem", text });
  return [
    ...failures.map((failure) => problem(`A thread ended: ${failure.thread}: ${failure.problem}`)),
    ...devices.filter((device) => device.lost).map((device) => problem(`Lost: ${device.device}: ${device.lost}`)),
    ...models.filter((model) => model.degraded).map((model) => problem(`${model.model}: ${model.degraded}`)),
    ...threads.flatMap(({ name, problems }) => problems.map((text) => problem(`Thread ${name}: ${text}`))),
    ...not_enforced.map((text) => problem(`Not held: ${text}`)),
    ...peers.map(({ pid, is_busy }) => ({ kind: "", text: `Beside it: gogrid ${pid}, ${is_busy ? "with requests" : "idle"}` })),
    ...left_out.map((text) => ({ kind: "", text: `Not used: ${text}` })),
    ...not_seen.map((text) => ({ kind: "", text: `Not seen: ${text}` })),
  ];
}

function drawNotes({ status }) {
  const all = notes(status);
  byId("notes-section").hidden = all.length === 0;
  drawList(byId("notes"), all, () => make("li"), (entry, note) => {
    entry.dataset.kind = note.kind;
    say(entry, note.text);
  });
}

followers.push((view) => {
  drawRuling(view);
  drawFigures(view);
  for (const memory of view.status.memories) drawMemory(memory, view.status);
  drawLimits(view);
  drawModels(view);
  drawNotes(view);
});
