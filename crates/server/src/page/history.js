// The last hour, drawn; and the looks at the server, once a second while the page is seen.

const HOUR_S = 60 * 60;
const PLOT_HEIGHT = 88;

/** Samples of the last hour, the oldest first. */
let samples = [];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A plot whose right end is the latest sample. */
function plot(place, series, { most, write }) {
  const window = () => {
    const last = samples.at(-1)?.at ?? Date.now() / 1000;
    return [last - HOUR_S, last];
  };
  const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const axis = { stroke: colour("--muted"), font: "11px system-ui, sans-serif", ticks: { show: false } };
  const grid = { stroke: colour("--line"), width: 1 };
  return new uPlot(
    {
      width: Math.max(1, place.clientWidth),
      height: PLOT_HEIGHT,
      padding: [8, 14, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "hour" }, y: false, drag: { x: false, y: false }, points: { size: 5 } },
      scales: { x: { range: window }, y: { range: (_, __, max) => [0, most ?? Math.max(1, (max ?? 0) * 1.15)] } },
      axes: [
        { ...axis, size: 24, gap: 6, space: 70, grid: { show: false }, values: (_, splits) => splits.map(clock) },
        { ...axis, size: 34, gap: 4, space: 28, grid },
      ],
      series: [{}, ...series.map((one) => ({ width: 1.5, points: { show: false }, ...one }))],
      hooks: { setCursor: [(plot) => write(plot.cursor.idx)] },
    },
    [[], ...series.map(() => [])],
    place,
  );
}

const value = (id, text) => (at) => {
  const sample = samples[at ?? samples.length - 1];
  say(byId(id), sample ? text(sample) : "");
};
const writeRate = value("plot-rate-value", (sample) => sample.tokens_s.toFixed(1));
const writeShare = value("plot-share-value", (sample) => {
  const why = sample.reason ? ` (${sample.reason.replaceAll("_", " ")})` : "";
  return `${percent(sample.used_share)} of ${percent(sample.compute_share)}${why}`;
});

let plots = [];

function drawPlots() {
  for (const { plot } of plots) plot.destroy();
  const line = colour("--accent");
  const rate = plot(byId("plot-rate"), [{ stroke: line, fill: `${line}33` }], { write: writeRate });
  const shares = [{ stroke: line, fill: `${line}33` }, { stroke: colour("--limited") }];
  const share = plot(byId("plot-share"), shares, { most: 100, write: writeShare });
  plots = [
    { plot: rate, place: byId("plot-rate"), columns: [(sample) => sample.tokens_s] },
    {
      plot: share,
      place: byId("plot-share"),
      columns: [(sample) => sample.used_share * 100, (sample) => sample.compute_share * 100],
    },
  ];
  fillPlots();
}

function fillPlots() {
  const times = samples.map((sample) => sample.at);
  for (const { plot, columns } of plots) {
    plot.setData([times, ...columns.map((column) => samples.map(column))]);
  }
  writeRate(null);
  writeShare(null);
}

new ResizeObserver(() => {
  for (const { plot, place } of plots) {
    if (place.clientWidth > 0) plot.setSize({ width: place.clientWidth, height: PLOT_HEIGHT });
  }
}).observe(byId("plot-rate"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPlots);

followers.push(({ latest: sample }) => {
  if (!sample || sample.at <= (samples.at(-1)?.at ?? 0)) return;
  samples.push(sample);
  while (samples[0].at < sample.at - HOUR_S) samples.shift();
  fillPlots();
});

// Looking.

const LOOK_EVERY_MS = 1000;
let looking = null;
let looks = 0;
let told = 0;

async function look() {
  looks += 1;
  const number = looks;
  const view = await askJson("/gogrid/status");
  // An answer that was overtaken by a later one is of no use any more.
  if (number < told) return;
  told = number;
  tell(view);
}

async function lookAgain() {
  looking = null;
  if (document.hidden) return;
  try {
    await look();
  } catch (error) {
    byId("state").dataset.verdict = "lost";
    say(byId("state-words"), error.status ? error.message : "The server does not answer");
  }
  if (!document.hidden && looking === null) looking = setTimeout(lookAgain, LOOK_EVERY_MS);
}

/** From here on once a second, until the page is hidden. */
async function begin() {
  clearTimeout(looking);
  looking = null;
  try {
    samples = (await askJson("/gogrid/history")).samples;
    fillPlots();
  } catch {
    // The look that follows says so.
  }
  await lookAgain();
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(looking);
  else begin();
});

for (const view of ["chat", "machine"]) {
  byId(`view-${view}`).addEventListener("click", () => {
    document.body.dataset.view = view;
    for (const other of ["chat", "machine"]) {
      byId(`view-${other}`).setAttribute("aria-pressed", String(other === view));
    }
  });
}

drawPlots();
begin().then(listModels).catch((error) => say(byId("state-words"), error.message));
byId("message").focus();
