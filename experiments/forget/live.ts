/** Any text, live: two methods on one text, each with a worker of its own. */
import { bytesOf, urlOf } from "./assets.ts";
import type { Answered, Asked, Opened, Ran, Request } from "./messages.ts";
import { byId, CacheView, make, percent, signed } from "./view.ts";

/** WebAssembly has 4 GiB of memory, and a text needs some of it. */
const MOST_BYTES = 3.5 * 2 ** 30;
/** Settings that a link carries, by the ids of their controls, and their defaults. */
const SETTINGS = {
  a: "key",
  b: "random",
  side: "key",
  whole: "none",
  ratio: "0.5",
  scope: "all",
  text: byId("text").value,
};
type Settings = typeof SETTINGS;

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`;
const say = (id: "status" | "error" | "model" | "span", text: string) => void (byId(id).textContent = text);
const read = () => Object.fromEntries(Object.keys(SETTINGS).map((id) => [id, byId(id).value])) as Settings;

/** One method: its list, its worker, and its column. */
class Column {
  readonly list: HTMLSelectElement;
  readonly #help = make("span", { className: "note" });
  readonly #view: CacheView;
  #worker: Worker | undefined;
  #answers: ((answer: Answered) => void)[] = [];
  #next: Asked | undefined;
  #ran: Ran | undefined;

  constructor(id: "a" | "b") {
    this.list = make("select", { id, ariaLabel: `${id === "a" ? "First" : "Second"} method` });
    this.#view = new CacheView(byId(`live-${id}`), (scope) => {
      byId("scope").value = scope;
      byId("scope").dispatchEvent(new Event("input"));
    });
    this.#view.place.querySelector(".head")!.append(this.list, this.#help);
  }

  /** Sends a request to the worker, which answers each in turn. */
  async ask(request: Request): Promise<Answered> {
    if (this.#worker === undefined) {
      this.#worker = new Worker(await urlOf("worker.js"));
      this.#worker.onmessage = ({ data }) => this.#answers.shift()?.(data);
      this.#worker.onerror = ({ message = "Cannot start the worker" }) =>
        this.#answers.splice(0).forEach((answer) => answer({ kind: "refused", message, isOver: true }));
    }
    this.#worker.postMessage(request);
    return await new Promise((resolve) => this.#answers.push(resolve));
  }

  offer(methods: Opened["methods"]["key"], wanted: string): void {
    const { value } = this.list, names = methods.map(([name]) => name);
    this.list.replaceChildren(...methods.map(([name, title]) => Object.assign(new Option(name), { title })));
    this.list.value = [value, wanted, "random"].find((name) => names.includes(name))!;
  }

  /** Runs what was asked for last, as soon as the worker is free. */
  async run(asked: Omit<Asked, "method">, hear: (answer: Answered) => void): Promise<void> {
    this.#help.textContent = this.list.selectedOptions[0]?.title ?? "";
    this.#next = { ...asked, method: this.list.value };
    if (this.#answers.length > 0) return;
    for (let next: Asked | undefined; (next = this.#next) !== undefined;) {
      this.#next = undefined;
      const answer = await this.ask({ kind: "run", asked: next });
      if (answer.kind === "ran") this.draw(this.#ran = answer);
      hear(answer);
    }
  }

  close(): void {
    this.#worker?.terminate();
    this.#worker = this.#next = undefined;
    this.#answers = [];
  }

  draw(ran: Ran | undefined = this.#ran): void {
    if (ran === undefined) return;
    const { losses: [full, own], cache, work, asked } = ran;
    this.#view.tell([
      ["added loss, nats per token", signed(own - full, 3)],
      ["perplexity, full → now", `${Math.exp(full).toFixed(1)} → ${Math.exp(own).toFixed(1)}`],
      ["of the cache held", percent(cache)],
      ["of attention’s work done", percent(work)],
    ]);
    this.#view.place.dataset["ratio"] = String(asked.ratio);
    this.#view.show(ran, byId("scope").value, byId("heads").checked);
  }
}

/** The section. @returns Its settings, for a link. */
export function openLive(link: URLSearchParams, changed: () => void): () => Partial<Settings> {
  const columns = (["a", "b"] as const).map((id) => new Column(id));
  const wanted: Settings = { ...SETTINGS, ...Object.fromEntries(link) };
  let opened: Opened | undefined, wasm: Promise<ArrayBuffer> | undefined;

  async function open(name: string, bytes: Promise<ArrayBuffer>, about: string): Promise<void> {
    say("error", "");
    say("status", `Opening ${name} …`);
    try {
      const model = await bytes, library = await (wasm ??= bytesOf("tokenfilter.wasm"));
      const request = { kind: "open", name, model, wasm: library } as const;
      for (const answer of await Promise.all(columns.map((own) => own.ask(request)))) {
        if (answer.kind === "refused") throw new Error(answer.message);
        if (answer.kind === "opened") opened = answer;
      }
      const { layers, kvHeads, backend, milliseconds } = opened!;
      const size = `${layers} layers of ${kvHeads} KV heads, ${megabytes(model.byteLength)}`;
      say("model", `${name}: ${size}; ${about}. ${backend}; ready in ${milliseconds.toFixed(0)} ms.`);
      byId("tiny").hidden = name === "tiny";
      offer();
    } catch (error) {
      say("error", (error as Error).message);
      say("status", "");
      return;
    }
    run();
  }
  const openTiny = () => open("tiny", bytesOf("tiny.gguf"), "built in");

  function openFile(file: File | undefined): void {
    byId("file").value = "";
    if (file === undefined) return;
    const { name, size } = file,
      most = `at most ${megabytes(MOST_BYTES)}, since WebAssembly has 4 GiB of memory`;
    if (size <= MOST_BYTES) void open(name, file.arrayBuffer(), "your file, which stays in this page");
    else say("error", `Cannot open "${name}": found ${megabytes(size)}, expected ${most}`);
  }

  /** Fills the lists that depend on the model and on the side. */
  function offer(): void {
    const { methods, layers, kvHeads } = opened!, isKey = byId("side").value === "key";
    for (const own of columns) own.offer(methods[isKey ? "key" : "query"], wanted[own.list.id as "a" | "b"]);
    byId("whole").disabled = !isKey;
    const list = byId("scope"), value = list.children.length > 1 ? list.value : wanted.scope, names = ["all"];
    for (let layer = 0; layer < layers; layer++) {
      names.push(`${layer}`, ...Array.from({ length: kvHeads }, (_, head) => `${layer}.${head}`));
    }
    const nameOf = (name: string) => name === "all" ? "all layers" : `layer ${name.replace(".", ", head ")}`;
    list.replaceChildren(...names.map((name) => new Option(nameOf(name), name)));
    list.value = names.includes(value) ? value : "all";
  }

  function run(): void {
    const { text, side, whole, ratio } = read(), asked = { text, side, whole, ratio: Number(ratio) };
    byId("ratio-value").textContent = asked.ratio.toFixed(2);
    for (const own of columns) void own.run(asked as Asked, hear);
    changed();
  }

  function hear(told: Answered): void {
    if (told.kind === "refused") {
      say("error", told.message);
      if (!told.isOver) return;
      // The memory of a kernel that has failed is not to be trusted: fresh workers take the place of these.
      columns.forEach((own) => own.close());
      void openTiny().then(() => say("error", told.message));
    } else if (told.kind === "ran") {
      const { tokens: { length }, cut, span, isGuess } = told, found = `found ${length + cut} tokens`;
      const refusal =
        `Cannot read all of the text: ${found}, expected at most ${length}; the last ${cut} are left out`;
      say("error", cut === 0 ? "" : refusal);
      const guess = isGuess ? " This model does not copy: which of its heads retrieve is a guess." : "";
      say("status", `${length} tokens.${guess}`);
      say("span", `first ${span} and the last ${span} tokens always stay, in blocks of ${span}`);
    }
  }

  for (const [id, value] of Object.entries(wanted)) {
    if (!Object.hasOwn(SETTINGS, id)) continue;
    byId(id).value = value;
    byId(id).addEventListener("input", () => {
      if (id === "side") offer();
      if (id !== "scope") return run();
      columns.forEach((own) => own.draw());
      changed();
    });
  }
  byId("heads").checked = link.has("heads");
  byId("heads").addEventListener("input", () => (columns.forEach((own) => own.draw()), changed()));
  byId("file").addEventListener("change", () => openFile(byId("file").files?.[0]));
  byId("tiny").addEventListener("click", openTiny);
  for (const kind of ["dragover", "dragleave", "drop"] as const) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("drop", kind === "dragover");
      if (kind === "drop") openFile(event.dataTransfer?.files[0]);
    });
  }
  void openTiny();
  return () => {
    const { text, ...settings } = read();
    return { ...settings, ...text !== SETTINGS.text && { text }, ...byId("heads").checked && { heads: "1" } };
  };
}
