// What the chat and the machine's view share: the server, its key, and its latest status.

const byId = (id) => document.getElementById(id);

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Sets a text only where it differs, so that nothing is laid out again for nothing. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const KEY_NAME = "gogrid-key";
const shownKey = { value: sessionStorage.getItem(KEY_NAME) || "" };

/** Resolves when a key was given. */
let keyGiven = null;

class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Asks the server. A key that it wants is asked for, and the question put again. */
async function ask(path, options = {}) {
  for (;;) {
    const used = shownKey.value;
    const headers = used ? { Authorization: `Bearer ${used}` } : {};
    if (options.body) headers["Content-Type"] = "application/json";
    const response = await fetch(path, { ...options, headers, cache: "no-store" });
    if (response.ok) return response;
    if (response.status !== 401) throw await problemOf(response);
    // Another question may have had a new key given meanwhile.
    if (used === shownKey.value) await givenKey(used !== "");
  }
}

const askJson = async (path) => (await ask(path)).json();
const post = (path, body = {}) => ask(path, { method: "POST", body: JSON.stringify(body) });

async function problemOf(response) {
  const text = await response.text();
  let message = text.slice(0, 500) || response.statusText;
  try {
    message = JSON.parse(text).error.message;
  } catch {
    // Not an error in the server's shape, but of something in between.
  }
  return new ServerError(response.status, message);
}

function givenKey(wasRefused) {
  byId("key-problem").hidden = !wasRefused;
  if (!keyGiven) {
    keyGiven = new Promise((resolve) => {
      byId("key-form").onsubmit = (event) => {
        event.preventDefault();
        shownKey.value = byId("key").value.trim();
        sessionStorage.setItem(KEY_NAME, shownKey.value);
        byId("key").value = "";
        byId("key-dialog").close();
        keyGiven = null;
        resolve();
      };
    });
    byId("key-dialog").showModal();
  }
  return keyGiven;
}

// Without a key there is nothing to see behind the dialog.
byId("key-dialog").addEventListener("cancel", (event) => event.preventDefault());

/** The server's latest answer, or null while there is none; those who follow it hear of each. */
const latest = { view: null };
const followers = [];

function tell(view) {
  latest.view = view;
  for (const follow of followers) follow(view);
}

const percent = (share) => `${Math.round(share * 100)} %`;

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (count >= 1024 && at < units.length - 1) {
    count /= 1024;
    at += 1;
  }
  return `${count >= 100 || at === 0 ? count.toFixed(0) : count.toFixed(1)} ${units[at]}`;
}

function duration(seconds) {
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/** Why the machine is stopped, in the server's words; nothing where it runs. */
function whyStopped(view) {
  return view && view.status.ruling.verdict === "shut" ? view.why.join("; ") : "";
}
