/** The text itself: each token tinted by its redundancy, and marked where its attention was skipped. */
import { midranks } from "../../../stats/ranking.ts";
import { hash, type MediaBundle } from "../../figure/display.ts";
import { Html, markup, scriptJson } from "../../figure/html.ts";
import { renderPage } from "../../figure/page.ts";
import { shorten } from "../../figure/parts.ts";
import { type LayerTrace, numbersOf, positionsOf } from "./layer_trace.ts";
import { showToken, type TimelineLayer } from "./score_timeline.ts";

interface TokenMapLayer extends Omit<TimelineLayer, "position" | "skipped"> {
  /** Fraction of the layer's other scores that lie below the token's, ties by half; in [0, 1]. */
  readonly rank: readonly (number | null)[];
}

/** @internal The numbers of the plot. */
export interface TokenMapParts {
  readonly texts: readonly string[];
  readonly position: readonly number[];
  /** Tokens at the start of the sequence that were kept whatever their score. */
  readonly warmup: number;
  /** Those that are filtered. */
  readonly layers: readonly TokenMapLayer[];
  /** Number of these layers that skip the token. */
  readonly skips: readonly number[];
}

/**
 * Gathers the decisions of layers about the tokens of one text.
 *
 * @param texts One a token.
 * @param options `warmup`: tokens at the start of the sequence that were kept (default 0).
 * @throws {RangeError} If a layer has another number of tokens than there are texts.
 */
export function collectTokenMap(
  traces: readonly Pick<LayerTrace, "layer" | "position" | "redundancy" | "threshold" | "keep">[],
  texts: readonly string[],
  { warmup = 0 }: { readonly warmup?: number } = {},
): TokenMapParts {
  for (const { layer, keep } of traces) {
    if (keep.length !== texts.length) {
      throw new RangeError(
        `Cannot show the text of layer ${layer}: found ${keep.length} tokens, expected ${texts.length}, one a text`,
      );
    }
  }
  const layers = traces.map((trace) => {
    const redundancy = numbersOf(trace.redundancy);
    return {
      layer: trace.layer,
      redundancy,
      rank: rankOf(redundancy),
      threshold: numbersOf(trace.threshold),
      keep: Array.from(trace.keep, (k) => k === 1),
    };
  });
  return {
    texts,
    position: traces.length === 0 ? texts.map((_, t) => t) : positionsOf(traces[0]!),
    warmup,
    layers,
    skips: texts.map((_, t) => layers.filter(({ keep }) => !keep[t]).length),
  };
}

function rankOf(values: readonly (number | null)[]): (number | null)[] {
  const defined = values.filter((x) => x !== null), most = defined.length - 1;
  const ranks = midranks(Float64Array.from(defined)).values();
  return values.map((x) => x === null ? null : most === 0 ? 0.5 : (ranks.next().value! - 1) / most);
}

/** Colours that can be read on light and on dark ground, so that the text fits in any page. */
const STYLE = markup`<style>
.tokenfilter-tokens .text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2; margin: 8px 0;
  max-height: 32em; overflow-y: auto; padding: 2px; }
.tokenfilter-tokens .text span, .tokenfilter-tokens .key span { border-radius: 3px; padding: 2px 0; cursor: default;
  background: rgba(60, 130, 187, var(--a, 0)); }
.tokenfilter-tokens .skip { text-decoration: line-through 1.5px #e0661f; box-shadow: inset 0 0 0 1px #e0661f; }
.tokenfilter-tokens .warm { border-bottom: 2px dotted #808a94; }
.tokenfilter-tokens .bar { display: flex; flex-wrap: wrap; gap: 4px 18px; align-items: center; font-size: 0.85em; }
.tokenfilter-tokens .key span { padding: 2px 5px; }
.tokenfilter-tokens .detail { font-size: 0.85em; min-height: 3em; }
.tokenfilter-tokens select { font: inherit; }
.tokenfilter-tokens s { text-decoration: none; }
</style>`;

/** Shows the decisions of the chosen layer, and all numbers of the token that is pointed at. */
const SCRIPT = `function showTokens(root, map) {
  var spans = Array.from(root.querySelectorAll(".text span")), select = root.querySelector("select");
  var detail = root.querySelector(".detail"), count = map.layers.length;
  function number(x) { return x === null ? "none" : String(x); }
  function paint() {
    var layer = map.layers[select.value];
    spans.forEach(function (span, t) {
      var fraction = layer ? layer.rank[t] : map.skips[t] / count;
      span.style.setProperty("--a", (0.6 * (fraction || 0)).toFixed(3));
      span.classList.toggle("skip", layer ? !layer.keep[t] : 2 * map.skips[t] > count);
    });
    root.querySelector(".low").textContent = layer ? "lowest score" : "skipped nowhere";
    root.querySelector(".high").textContent = layer ? "highest score" : "in every layer";
    root.querySelector(".key .skip").textContent = layer ? "skipped" : "skipped in most layers";
  }
  function describe(event) {
    var t = spans.indexOf(event.target.closest("span"));
    if (t < 0) return;
    var layer = map.layers[select.value], words = "Token " + map.position[t] + ", “" + map.shown[t] + "”: ";
    if (layer) {
      words += (layer.keep[t] ? "kept" : "skipped") + " in layer " + layer.layer + "; score " +
        number(layer.redundancy[t]) + ", threshold " + number(layer.threshold[t]) +
        (map.position[t] < map.warmup ? " (warm-up: kept in any case)" : "") + ".";
    } else {
      var own = map.layers.filter(function (l) { return !l.keep[t]; }).map(function (l) { return l.layer; });
      words += own.length ? "skipped in " + own.length + " of " + count + " layers: " + own.join(", ") + "."
        : "kept in all " + count + " layers.";
    }
    detail.textContent = words;
  }
  select.addEventListener("change", paint);
  root.querySelector(".text").addEventListener("pointerover", describe);
  root.querySelector(".text").addEventListener("click", describe);
  select.disabled = false;
  paint();
}`;

/**
 * @internal A text with the filter's decisions. It shows itself in a notebook and saves itself as a page, as a figure
 * does. Without scripts it shows the sum over the layers.
 *
 * @example
 * ```ts
 * import { collectTokenMap, plotTokenMap } from "@tokenfilter/tokenfilter/plot";
 * const trace = { layer: 5, redundancy: [NaN, 0.9], threshold: [NaN, 0.5], keep: [1, 0] };
 * const map = plotTokenMap(collectTokenMap([trace], ["One", " two"]));
 * console.assert(map.toText() === "One[ two]");
 * ```
 */
export class TokenMap {
  readonly title = "Which tokens were skipped";
  readonly caption: string;
  private readonly parts: TokenMapParts;

  constructor(caption: string, parts: TokenMapParts) {
    this.caption = caption;
    this.parts = parts;
  }

  toJson(): TokenMapParts {
    return this.parts;
  }

  /** The text, tokens that most layers skip in brackets. */
  toText(): string {
    const { texts, skips, layers } = this.parts;
    return texts.map((text, t) => isSkipped(skips[t]!, layers.length) ? `[${text}]` : text).join("");
  }

  /** The text as a part of a page, title and caption not included. Skipped tokens are struck without styles too. */
  toHtml(): Html {
    const { texts, position, warmup, layers, skips } = this.parts;
    if (texts.length === 0 || layers.length === 0) {
      return markup`<p class="muted">No decisions: filter a text with at least one filtered layer.</p>`;
    }
    const shown = texts.map(showToken);
    const data = {
      position,
      warmup,
      skips,
      shown,
      layers: layers.map(({ layer, redundancy, rank, threshold, keep }) => ({
        layer,
        redundancy: shorten(redundancy),
        rank: shorten(rank, 2),
        threshold: shorten(threshold),
        keep: keep.map(Number),
      })),
    };
    const id = `tokenfilter-tokens-${hash(JSON.stringify(data))}`;
    const options = layers.map(({ layer }, i) => markup`<option value="${i}">layer ${layer}</option>`);
    return markup`${STYLE}<div class="tokenfilter-tokens" id="${id}">
<div class="bar"><label>Show <select disabled><option value="all">all layers</option>${options}</select></label>
${this.#key()}</div>
<div class="text">${this.#text()}</div>
<div class="detail" aria-live="polite">Point at a token, or tap it, to see its score.</div>
</div>
${
      Html.program(`(function () {
${SCRIPT}
var map = ${scriptJson(data)};
document.querySelectorAll("#${id}").forEach(function (root) {
  if (root.dataset.ready) return;
  root.dataset.ready = "1";
  showTokens(root, map);
});
})();`)
    }`;
  }

  #key(): Html {
    const { position, warmup } = this.parts;
    return markup`<span class="key"><span class="low" style="--a: 0">skipped nowhere</span><span style="--a: 0.2">&nbsp;</span><span
 style="--a: 0.4">&nbsp;</span><span class="high" style="--a: 0.6">in every layer</span></span>
<span class="key"><span class="skip">skipped in most layers</span></span>${
      position[0]! < warmup && markup`\n<span class="key"><span class="warm">warm-up, kept</span></span>`
    }`;
  }

  /** The tokens, tinted by the fraction of layers that skip them. */
  #text(): Html[] {
    const { texts, position, warmup, layers, skips } = this.parts, count = layers.length;
    return texts.map((text, t) => {
      const isOut = isSkipped(skips[t]!, count), isWarm = position[t]! < warmup;
      const names = [...isOut ? ["skip"] : [], ...isWarm ? ["warm"] : []].join(" ");
      const title = `token ${position[t]}, “${showToken(text)}”: skipped in ${skips[t]} of ${count} layers`;
      const words = text.replaceAll("\n", "⏎\n") || "∅", share = (0.6 * skips[t]! / count).toFixed(3);
      return markup`<span${names && markup` class="${names}"`} style="--a: ${share}" title="${title}">${
        isOut ? markup`<s>${words}</s>` : words
      }</span>`;
    });
  }

  toSection(): Html {
    return markup`<h2>${this.title}</h2><p class="muted">${this.caption}</p>${this.toHtml()}`;
  }

  /**
   * Writes a page that needs nothing but itself.
   *
   * @throws {Deno.errors.NotFound} If the folder does not exist.
   */
  async saveHtml(path: string): Promise<void> {
    await Deno.writeTextFile(
      path,
      renderPage({ title: this.title, sections: [this.toSection()], plotly: "" }),
    );
  }

  /** The map in a notebook: HTML that loads nothing, and the text. */
  [Symbol.for("Jupyter.display")](): MediaBundle {
    const html = markup`<div style="font-weight: 600">${this.title}</div>
<div style="font-size: 0.85em; opacity: 0.8; max-width: 100ch">${this.caption}</div>
${this.toHtml()}`;
    return {
      "text/html": String(html),
      "text/plain": `${this.title}.\n${this.toText()}`,
    };
  }
}

function isSkipped(skips: number, layers: number): boolean {
  return 2 * skips > layers;
}

/** Shows a text. */
export function plotTokenMap(parts: TokenMapParts): TokenMap {
  const { layers, texts } = parts;
  const decided = texts.map((_, t) => t).filter((t) => parts.position[t]! >= parts.warmup);
  const skipped = decided.reduce((sum, t) => sum + parts.skips[t]!, 0);
  const share = decided.length * layers.length === 0
    ? ""
    : ` ${(100 * skipped / (decided.length * layers.length)).toFixed(0)}% of the decisions shown skip.`;
  return new TokenMap(
    "The bluer a token, the more of the filtered layers skip its attention; with one layer chosen, the higher its " +
      `score there. Struck and outlined: skipped.${share}`,
    parts,
  );
}
