// What the page does beyond showing: copies text, and draws charts of the figures that its tables hold.
"use strict";

document.documentElement.classList.add("scripted");

// ---- Copying ----

const said = document.getElementById("said");

async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Without TLS a browser gives no clipboard: the old way works there.
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser refuses");
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    let told = "Copied";
    try {
      await copy(document.getElementById(button.dataset.copy).textContent);
    } catch {
      told = "Not copied";
    }
    button.textContent = told;
    if (said) said.textContent = told;
    button.focus();
    setTimeout(() => { button.textContent = label; if (said) said.textContent = ""; }, 2000);
  });
}

// ---- Units, as the server writes them ----

function significant(value) {
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return String(Number(value.toFixed(Math.min(digits, 3))));
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${significant(value)} ${units[at]}`;
}

function cores(value) {
  const text = significant(value);
  return text === "1" ? "1 core" : `${text} cores`;
}

function seconds(value) {
  const total = Math.round(value);
  if (total < 60) return `${value < 10 ? significant(value) : total} s`;
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  if (hours > 0) return minutes > 0 ? `${hours} h ${minutes} min` : `${hours} h`;
  return rest > 0 ? `${minutes} min ${rest} s` : `${minutes} min`;
}

function time(value) {
  return new Date(value * 1000).toISOString().replace("T", " ").slice(0, 16) + " UTC";
}

// ---- Charts ----

const drawn = [];
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Where the axis of bytes has its lines: round in GiB, not in 10⁹. */
function byteSplits(_, __, low, high) {
  const about = Math.max((high - low) / 5, 1);
  let step = 2 ** Math.floor(Math.log2(about));
  if (about / step > 1.5) step *= 2;
  const splits = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) splits.push(at);
  return splits;
}

/** How far apart the lines of an axis of seconds may be. */
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

/** The day under its first time; days alone where the axis is long. */
function date(split, index, splits) {
  const text = (at) => new Date(at * 1000).toISOString();
  const day = text(split).slice(5, 10);
  if (splits.length > 1 && splits[1] - splits[0] >= 86400) return day;
  const same = index > 0 && text(splits[index - 1]).slice(5, 10) === day;
  return text(split).slice(11, 16) + (same ? "" : `\n${day}`);
}

function draw(figure) {
  const chart = JSON.parse(figure.dataset.chart);
  const box = figure.querySelector(".canvas");
  const legend = figure.querySelector(".legend");
  const show = chart.unit === "bytes" ? bytes : cores;
  const showX = chart.x === "time" ? time : seconds;
  const [first, last] = [chart.xs[0], chart.xs[chart.xs.length - 1]];
  const font = `12px ${style("sans")}`;
  const axis = { stroke: () => style("muted"), font, grid: { stroke: () => style("grid"), width: 1 }, ticks: { show: false } };
  const values = [];

  const series = chart.series.map((one) => ({
    label: one.label,
    stroke: () => style(one.kind),
    fill: one.filled ? () => style("used-soft") : undefined,
    width: one.dashed ? 1.5 : 2,
    dash: one.dashed ? [6, 4] : undefined,
    points: { show: Boolean(one.points), size: 6 },
    spanGaps: false,
  }));

  const options = {
    width: box.clientWidth,
    height: 220,
    cursor: { sync: chart.sync ? { key: chart.sync } : undefined, points: { size: 7 }, drag: { x: true, y: false } },
    legend: { show: false },
    scales: {
      x: { time: chart.x === "time" },
      y: { range: (_, __, high) => [0, (Number.isFinite(high) && high > 0 ? high : 1) * 1.08] },
    },
    tzDate: (stamp) => uPlot.tzDate(new Date(stamp * 1000), "UTC"),
    axes: [
      chart.x === "time"
        ? { ...axis, size: 46, values: (_, splits) => splits.map(date) }
        : { ...axis, size: 30, incrs: STEPS, values: (_, splits) => splits.map(seconds) },
      {
        ...axis,
        size: chart.unit === "bytes" ? 72 : 44,
        splits: chart.unit === "bytes" ? byteSplits : undefined,
        values: (_, splits) => splits.map((split) => (chart.unit === "bytes" ? bytes(split) : significant(split))),
      },
    ],
    series: [{}, ...series],
    hooks: {
      setCursor: [tell],
      draw: [marks],
      setScale: [(plot, key) => { if (key === "x") zoomed(plot); }],
    },
  };
  const plot = new uPlot(options, [chart.xs, ...chart.series.map((one) => one.values)], box);

  // The legend: which line is which, its value under the cursor, and a switch for each.
  chart.series.forEach((one, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const swatch = document.createElement("span");
    swatch.className = `swatch ${one.kind}${one.dashed ? " dashed" : ""}`;
    const value = document.createElement("span");
    value.className = "value";
    button.append(swatch, one.label, " ", value);
    button.addEventListener("click", () => {
      const shown = !plot.series[index + 1].show;
      plot.setSeries(index + 1, { show: shown });
      button.setAttribute("aria-pressed", String(shown));
    });
    legend.append(button);
    values.push(value);
  });
  const at = document.createElement("span");
  at.className = "at";
  const reset = document.createElement("button");
  reset.type = "button";
  reset.textContent = "Show all";
  reset.hidden = true;
  reset.addEventListener("click", () => whole());
  legend.append(at, reset);

  function tell(plot) {
    const index = plot.cursor.idx;
    const known = index !== null && index !== undefined;
    const x = chart.xs[index];
    const steps = known && chart.steps ? chart.steps.filter((step) => step.begin <= x && x <= step.end) : [];
    const named = steps.map((step) => `, ${step.name}`).join("");
    at.textContent = known ? `at ${showX(x)}${named}` : "";
    chart.series.forEach((one, which) => {
      const value = known ? one.values[index] : null;
      values[which].textContent = value === null || value === undefined ? "" : show(value);
    });
  }

  // Where the steps of the job begin. A name that would cover another one is left out: the table has all.
  function marks(plot) {
    if (!chart.steps) return;
    const { ctx, bbox } = plot;
    const [ratio, right] = [devicePixelRatio, bbox.left + bbox.width];
    ctx.save();
    ctx.font = `${11 * ratio}px ${style("sans")}`;
    ctx.fillStyle = style("muted");
    ctx.strokeStyle = style("muted");
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    ctx.lineWidth = ratio;
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    let free = bbox.left;
    for (const step of chart.steps) {
      const x = Math.round(plot.valToPos(step.begin, "x", true));
      if (x < bbox.left || x > right) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const width = ctx.measureText(step.name).width + 8 * ratio;
      if (x >= free && x + width <= right) {
        ctx.fillText(step.name, x + 4 * ratio, bbox.top + 11 * ratio);
        free = x + width;
      }
    }
    ctx.restore();
  }

  function zoomed(plot) {
    const { min, max } = plot.scales.x;
    reset.hidden = !(min > first || max < last);
  }
  function whole() { plot.setScale("x", { min: first, max: last }); }

  // The same by keyboard: arrows move the cursor, + and − zoom around it, 0 shows all.
  box.addEventListener("keydown", (event) => {
    const index = plot.cursor.idx ?? 0;
    const to = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: chart.xs.length - 1 }[event.key];
    if (to !== undefined) {
      const x = chart.xs[Math.min(Math.max(to, 0), chart.xs.length - 1)];
      plot.setCursor({ left: plot.valToPos(x, "x"), top: plot.bbox.height / devicePixelRatio / 2 });
    } else if (event.key === "+" || event.key === "-") {
      const { min, max } = plot.scales.x;
      const span = (max - min) * (event.key === "+" ? 0.5 : 2);
      const middle = chart.xs[index];
      plot.setScale("x", { min: Math.max(first, middle - span / 2), max: Math.min(last, middle + span / 2) });
    } else if (event.key === "0") {
      whole();
    } else {
      return;
    }
    event.preventDefault();
  });

  new ResizeObserver(() => {
    if (box.clientWidth > 0 && box.clientWidth !== plot.width) plot.setSize({ width: box.clientWidth, height: 220 });
  }).observe(box);
  drawn.push(plot);
  figure.dataset.drawn = "true";
}

if (window.uPlot) {
  // A chart is drawn when it comes near: a run may have a hundred.
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) { near.unobserve(target); draw(target); }
    }
  }, { rootMargin: "400px" });
  document.querySelectorAll("figure[data-chart]").forEach((figure) => near.observe(figure));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((plot) => plot.redraw()));
}
