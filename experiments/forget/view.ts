/// <reference lib="dom" />
/** A cache as words that pale and a map that empties, with pointer and arrow keys over both. */
import type { Grid } from "./messages.ts";

/** Added loss in nats above which a word counts as predicted worse. */
const LOST = 0.5;
/** Steps in the map: rows and tokens. */
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] } as const;

/** Heads of a cache, [from, to) of [layers, kvHeads], and their name. */
type Scope = readonly [from: number, to: number, name: string];

export const byId = <E extends HTMLElement = HTMLInputElement>(id: string): E =>
  document.getElementById(id) as E;
export const percent = (share: number): string => `${(100 * share).toFixed(0)}%`;
export const signed = (value: number, digits: number): string =>
  `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  own: Partial<HTMLElementTagNameMap[K]>,
  ...inside: readonly Node[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(tag), own);
  made.append(...inside);
  return made;
}

/** The scope of `all`, of layer `4`, or of head `4.1`. */
function scopeOf(text: string, { layers, kvHeads }: Grid): Scope {
  const [layer, head] = text.split(".").map(Number) as [number, number?];
  if (!(layer < layers)) return [0, layers * kvHeads, "all layers"];
  const from = layer * kvHeads + (head ?? 0), to = from + (head === undefined ? kvHeads : 1);
  return [from, to, `layer ${layer}${head === undefined ? "" : `, head ${head}`}`];
}

/** Mean over a scope's heads of what each has of a token. */
function shareOf({ held, tokens }: Grid, [from, to]: Scope, token: number): number {
  let sum = 0;
  for (let row = from; row < to; row++) sum += held[row * tokens.length + token]!;
  return sum / (to - from);
}

/** A column: its numbers, its words, and its map. */
export class CacheView {
  readonly place: HTMLElement;
  #grid: Grid | undefined;
  #scope = "all";
  #showsHeads = false;
  #row = 0;
  #token = 0;
  readonly #choose: ((scope: string) => void) | undefined;

  /** @param choose Called with the scope of a row that is chosen. */
  constructor(place: HTMLElement, choose?: (scope: string) => void) {
    this.place = place;
    this.#choose = choose;
    place.append(byId<HTMLTemplateElement & HTMLInputElement>("column").content.cloneNode(true));
    const map = this.#part(".map"), canvas = this.#part("canvas"), words = this.#part(".tokens");
    if (choose) map.ariaLabel += ", Enter shows a row in the words";
    map.addEventListener("keydown", (event) => this.#press(event));
    map.addEventListener("focus", () => this.#point(this.#row, this.#token));
    canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => {
      const { clientWidth, clientHeight } = canvas, { length } = this.#grid?.tokens ?? [];
      const row = this.#grid && Math.floor(offsetY / clientHeight * this.#rows.length);
      this.#point(row, Math.floor(offsetX / clientWidth * length));
    });
    canvas.addEventListener("click", () => this.#chooseRow());
    words.addEventListener("pointerover", ({ target }) => {
      this.#point(undefined, Array.prototype.indexOf.call(words.children, target));
    });
    new ResizeObserver(() => this.#drawMap()).observe(map);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#drawMap());
  }

  #part<E extends HTMLElement>(selector: string): E {
    return this.place.querySelector<E>(selector)!;
  }

  show(grid: Grid, scope: string, showsHeads: boolean): void {
    this.#grid = grid;
    this.#scope = scope;
    this.#showsHeads = showsHeads;
    this.#drawWords(grid);
    this.#drawMap();
  }

  /** Sets the numbers: name, value, and a class. */
  tell(cards: readonly (readonly [name: string, value: string, kind?: string])[]): void {
    this.#part(".cards").replaceChildren(
      ...cards.map(([name, value, className = ""]) =>
        make("div", { className }, make("dt", { textContent: name }), make("dd", { textContent: value }))
      ),
    );
  }

  /** Names of the map's rows, as scopes. */
  get #rows(): string[] {
    const { layers, kvHeads } = this.#grid!, each = this.#showsHeads ? kvHeads : 1;
    return Array.from(
      { length: layers * each },
      (_, row) => each === 1 ? `${row}` : `${Math.floor(row / each)}.${row % each}`,
    );
  }

  #drawWords(grid: Grid): void {
    const { tokens, added, marked = [0, 0] } = grid, words = this.#part(".tokens"), gone: string[] = [];
    const scope = scopeOf(this.#scope, grid);
    while (words.children.length > tokens.length) words.lastElementChild!.remove();
    while (words.children.length < tokens.length) words.append(make("span", {}));
    tokens.forEach((text, t) => {
      const word = words.children[t] as HTMLElement, share = shareOf(grid, scope, t), isGone = share < 0.5;
      const isLost = (added?.[t] ?? 0) > LOST, isMarked = t >= marked[0] && t < marked[1];
      const shown = text === "<s>" ? "" : text;
      if (word.textContent !== shown) word.textContent = shown;
      word.style.setProperty("--s", share.toFixed(3));
      word.className = `token${isGone ? " gone" : ""}${isLost ? " lost" : ""}${isMarked ? " needle" : ""}`;
      if (isGone && /\w/.test(text)) gone.push(text.trim());
    });
    this.#part(".summary").textContent = `${gone.length} words are gone from most heads of ${scope[2]}: ` +
      gone.slice(0, 40).join(", ");
  }

  #drawMap(): void {
    const grid = this.#grid, canvas = this.#part<HTMLCanvasElement>("canvas"), scale = devicePixelRatio;
    if (grid === undefined) return;
    const { tokens: { length }, layers, whole, marked } = grid, rows = this.#rows;
    const each = rows.length / layers;
    const rowHeight = rows.length <= 12 ? 18 : rows.length <= 32 ? 9 : 4, height = rows.length * rowHeight;
    canvas.style.height = `${height}px`;
    const width = canvas.clientWidth, step = width / length, gap = step > 5 ? 1 : -0.5;
    Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
    const context = canvas.getContext("2d")!;
    // A canvas knows no variables: an element tells what a colour is here.
    const colorOf = (name: string) => (canvas.style.color = `var(${name})`, getComputedStyle(canvas).color);
    const cell = colorOf("--cell"), own = colorOf("--whole"), mark = colorOf("--good");
    context.scale(scale, scale);
    rows.forEach((name, row) => {
      const scope = scopeOf(name, grid);
      const high = rowHeight - ((row + 1) % each > 0 ? 0 : rowHeight > 6 ? 2 : 1);
      context.fillStyle = whole.subarray(scope[0], scope[1]).every((one) => one === 1) ? own : cell;
      for (let t = 0; t < length; t++) {
        context.globalAlpha = shareOf(grid, scope, t);
        context.fillRect(t * step, row * rowHeight, step - gap, high);
      }
    });
    context.globalAlpha = 1;
    context.strokeStyle = mark;
    context.lineWidth = 2;
    if (marked) context.strokeRect(marked[0] * step, 1, (marked[1] - marked[0]) * step, height - 2);
    // Names of all layers, or of every fifth where they would not fit.
    const every = rowHeight * each >= 11 ? 1 : 5;
    this.#part(".names").replaceChildren(...Array.from({ length: Math.ceil(layers / every) }, (_, i) => {
      const name = make("span", { textContent: `layer ${i * every}` });
      name.style.top = `${(i * every + 0.5) * each * rowHeight}px`;
      return name;
    }));
  }

  /** Points at a token, in a row of the map or in the words. */
  #point(row: number | undefined, token: number): void {
    const grid = this.#grid, words = this.#part(".tokens");
    if (grid?.tokens[token] === undefined) return;
    words.querySelector(".near")?.classList.remove("near");
    words.children[token]!.classList.add("near");
    this.#token = token;
    if (row !== undefined) this.#row = Math.max(0, Math.min(row, this.#rows.length - 1));
    const scope = scopeOf(row === undefined ? this.#scope : this.#rows[this.#row]!, grid);
    const share = shareOf(grid, scope, token), added = grid.added?.[token];
    this.#part(".readout").textContent = `“${grid.tokens[token]!.trim()}”, token ${token}, ${scope[2]}: ` +
      (share === 1 ? "held" : share === 0 ? "gone" : `held by ${percent(share)} of the heads`) +
      (added === undefined ? "" : `; its own loss ${signed(added, 2)} nats`);
  }

  #chooseRow(): void {
    const name = this.#grid && this.#rows[this.#row];
    if (name !== undefined) this.#choose?.(name === this.#scope ? "all" : name);
  }

  #press(event: KeyboardEvent): void {
    const step = STEPS[event.key as keyof typeof STEPS], last = (this.#grid?.tokens.length ?? 0) - 1;
    if (event.key === "Enter" || event.key === " ") this.#chooseRow();
    else if (!step) return;
    else this.#point(this.#row + step[0], Math.max(0, Math.min(this.#token + step[1], last)));
    event.preventDefault();
  }
}
