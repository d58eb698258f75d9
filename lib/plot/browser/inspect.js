/** What a page of plots looks like from the inside. Runs in the browser: it must not use anything from outside itself. */

/**
 * Counts the plots of the page and says what a reader would find wrong with them.
 *
 * @returns {{ expected: number, drawn: number, problems: string[] }} Places for plots, those that show something, and
 * a line for each label that lies upon another or is cut off, each plot without content, and a page wider than its window.
 */
export function inspectPage() {
  /** Pixels by which boxes may lie upon each other. */
  const SLACK = 1.5;
  const problems = [];
  const places = [...document.querySelectorAll(".plot, .tokenfilter-plot, .js-plotly-plot")]
    .filter((place) => !place.closest("svg"));
  let drawn = 0;
  for (const [i, place] of places.entries()) {
    const name = nameOf(place, i);
    if (!place.classList.contains("js-plotly-plot") || place.querySelector("svg.main-svg") === null) {
      problems.push(`${name}: not drawn`);
      continue;
    }
    const labels = labelsOf(place);
    if (hasContent(place, labels)) drawn++;
    else problems.push(`${name}: drawn without any data`);
    checkLabels(name, place, labels);
    checkTitles(name, labels);
  }
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth + 1) {
    problems.push(`the page is ${scrollWidth} px wide in a window of ${clientWidth} px`);
  }
  return { expected: places.length, drawn, problems };

  function nameOf(place, i) {
    const frame = place.closest("section, .tokenfilter-figure");
    const title = frame?.querySelector("h2, div")?.textContent?.trim();
    return `plot ${i + 1}${title ? ` "${title.slice(0, 60)}"` : ""}`;
  }

  /** Paths, images or texts with data; an empty figure says in its place what is missing. */
  function hasContent(place, labels) {
    if (place._fullData.length === 0) return labels.some(({ kind }) => kind === "annotation");
    const marks = place.querySelectorAll(
      ".scatterlayer path, .scatterlayer text, .barlayer path, .heatmaplayer image, .contourlayer path, " +
        ".shapelayer path, .boxlayer path, .violinlayer path, .imagelayer image, .table-control-view text",
    );
    return [...marks].some((mark) =>
      mark.tagName === "path"
        ? (mark.getAttribute("d") ?? "").length > 4
        : mark.getBoundingClientRect().width > 0
    );
  }

  /** Every visible text of a plot, as the four corners of its letters on the screen. */
  function labelsOf(place) {
    const labels = [];
    for (const text of place.querySelectorAll("svg.main-svg text")) {
      if (text.closest(".hoverlayer, .modebar, defs") || text.textContent.trim() === "") {
        continue;
      }
      if (!isVisible(text, place)) continue;
      const box = text.getBBox(), matrix = text.getScreenCTM();
      if (box.width === 0 || matrix === null) continue;
      // A box holds room above and below the letters.
      const lines = Math.max(1, text.querySelectorAll("tspan.line").length), trim = 0.17 * box.height / lines;
      const corners = [[0, trim], [box.width, trim], [box.width, box.height - trim], [0, box.height - trim]]
        .map(([x, y]) => new DOMPoint(box.x + x, box.y + y).matrixTransform(matrix));
      const kind = text.closest(".annotation") ? "annotation" : "text";
      labels.push({
        words: text.textContent.trim(),
        corners,
        kind,
        axis: axisOf(text),
        group: text.closest(".annotation") ?? text,
      });
    }
    return labels;
  }

  /** Of an axis's title or tick label, which of the two it is and the axis's name (`x`, `y2`); undefined of other texts. */
  function axisOf(text) {
    const [, titled] = (text.getAttribute("class") ?? "").match(/^([xy]\d*)title$/) ?? [];
    if (titled !== undefined) return { name: titled, part: "title" };
    const [, ticked] =
      (text.closest("g[class$='tick']")?.getAttribute("class") ?? "").match(/^([xy]\d*)tick$/) ?? [];
    return ticked === undefined ? undefined : { name: ticked, part: "tick" };
  }

  /** Titles that stand between the labels of their own axis, where they read as one of them. */
  function checkTitles(name, labels) {
    for (const title of labels.filter(({ axis }) => axis?.part === "title")) {
      const across = title.axis.name[0] === "x" ? "y" : "x";
      const span = ({ corners }) => [
        Math.min(...corners.map((p) => p[across])),
        Math.max(...corners.map((p) => p[across])),
      ];
      const own = span(title);
      const ticks = labels.filter(({ axis }) => axis?.part === "tick" && axis.name === title.axis.name).map(
        span,
      );
      const depth = Math.max(
        0,
        ...ticks.map(([low, high]) => Math.min(high, own[1]) - Math.max(low, own[0])),
      );
      if (depth <= SLACK) continue;
      problems.push(
        `${name}: "${title.words}" stands in the row of its axis's labels, by ${depth.toFixed(1)} px`,
      );
    }
  }

  function isVisible(element, place) {
    for (let at = element; at && at !== place; at = at.parentElement) {
      const { display, visibility, opacity } = getComputedStyle(at);
      if (display === "none" || visibility === "hidden" || Number(opacity) === 0) return false;
    }
    return true;
  }

  function checkLabels(name, place, labels) {
    const frame = place.getBoundingClientRect();
    for (const [i, label] of labels.entries()) {
      const xs = label.corners.map((p) => p.x), ys = label.corners.map((p) => p.y);
      const out = Math.max(
        frame.left - Math.min(...xs),
        Math.max(...xs) - frame.right,
        frame.top - Math.min(...ys),
        Math.max(...ys) - frame.bottom,
      );
      if (out > SLACK) problems.push(`${name}: "${label.words}" is cut off by ${out.toFixed(0)} px`);
      for (const other of labels.slice(i + 1)) {
        if (label.group === other.group) continue;
        const depth = overlap(label.corners, other.corners);
        if (depth > SLACK) {
          problems.push(`${name}: "${label.words}" and "${other.words}" overlap by ${depth.toFixed(1)} px`);
        }
      }
    }
  }

  /** How far two rectangles of any angle lie in each other: the least depth over the directions of their sides. */
  function overlap(a, b) {
    let least = Infinity;
    for (const corners of [a, b]) {
      for (const k of [0, 1]) {
        const dx = corners[k + 1].x - corners[k].x, dy = corners[k + 1].y - corners[k].y;
        const length = Math.hypot(dx, dy) || 1;
        const along = (p) => (p.x * dx + p.y * dy) / length;
        const [ai, bi] = [a.map(along), b.map(along)];
        const depth = Math.min(Math.max(...ai), Math.max(...bi)) - Math.max(Math.min(...ai), Math.min(...bi));
        least = Math.min(least, depth);
      }
    }
    return least;
  }
}
