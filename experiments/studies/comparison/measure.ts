/**
 * Runs the study of README.md: comparisons of all methods under one budget, part by part, each a `deno task compare`.
 *
 * usage: deno run -A experiments/studies/comparison/measure.ts DATA WORK [PART…]
 *
 * DATA holds the JSONL files of the tasks, wikitext2-test.txt, and book-long.txt, which offline methods are fitted on.
 * WORK holds unfinished parts: run the same command again to resume them. A finished part is written to results/, as
 * one line of JSON, and is not run again.
 */
import { fileURLToPath } from "node:url";
import { exists } from "../../commands/cli/files.ts";
import type { Comparison } from "../../../lib/sweep/mod.ts";

/** Methods that need only the model. */
const ONLINE = "paper,variance,learned,keys,local,random,random-protected,periodic";
/** Baseline methods that evict keys and values. */
const EVICTING =
  "streaming,h2o,tova,snapkv,expected-attention,leverage,lagkv,curdkv,keydiff-cache,keydiff,cur,knorm";
/** Other rules, and bounds that are non-causal. */
const MORE = "oracle,foresight,leave-one-out,missed,received,keydiff-merge,input-norm,random-protected";
/** Methods that run at several ratios. */
const SEVERAL =
  "paper,variance,learned,keys,local,random-protected,streaming,h2o,tova,snapkv,lagkv,keydiff,cur,knorm";
/** Methods that alter the model once, fitted on a book, a text of another kind; and the one that does so online. */
const FITTED = "attention-drop,mlp-drop,shortgpt,flap,wanda-sp";
const PROMPT = "probe-pruning";

/** A part: flags of a comparison. */
export interface Part {
  readonly methods: string;
  /** None where flags hold those of the layers. */
  readonly ratios?: string;
  readonly flags: readonly string[];
  /** Default: smollm2-135m. */
  readonly model?: string;
  /** Default: wikitext2-test.txt. */
  readonly text?: string;
  /** Whether methods are fitted on the book. */
  readonly isFitted?: true;
}

const text = (methods: string, ratios: string, tokens: number): Part => ({
  ...{ methods, ratios },
  flags: ["--tokens", `${tokens}`, "--seeds", "2"],
});
/** Items, after the shortest text that a comparison takes; by default one seed of the random baseline. */
const items = (
  methods: string,
  ratios: string,
  tasks: string,
  count: number,
  flags: string[],
  seeds = 1,
) => ({
  ...{ methods, ratios },
  flags: [...["--tokens", "512", "--seeds", `${seeds}`, "--tasks", tasks, "--items", `${count}`], ...flags],
});
/** Items are short: with longer windows and blocks, or a later start, nothing would be filtered. */
const SHORT = ["--filter-from", "8", "--recent", "4", "--block", "4", "--warmup", "32"];
/** Methods that skip queries, and those that drop keys; the paper's criterion (`variance`) is among both. */
const QUERIES = "paper,variance,learned,random-protected";
const KEYS = "variance,random-protected,streaming,h2o,tova,snapkv,lagkv,keydiff,cur,knorm";
/** Fewer of them, on more items. */
const FEWER_KEYS = KEYS.replace(",lagkv", "").replace(",cur,knorm", "");
/** On long items every method has its own windows, blocks and warm-up. */
const LONG = "paper,learned,keys,local,random-protected,streaming,tova,snapkv,keydiff";
const queries = (ratios: string, tasks: string, count: number) => items(QUERIES, ratios, tasks, count, SHORT);
/** The same, with the best of the fitted methods. */
const queriesAndFitted = (ratios: string, tasks: string, count: number): Part => ({
  ...items(`${QUERIES},attention-drop`, ratios, tasks, count, SHORT),
  isFitted: true,
});
const keys = (ratios: string, tasks: string, count: number, methods = KEYS) =>
  items(methods, ratios, tasks, count, [...SHORT, "--side", "key"]);
/**
 * Eviction of a fraction of the keys. `all`: from all layers equally. Otherwise some layers keep every key, and the
 * others evict more, to the same total (ratios/). These full-cache layers are retrieval layers (`recall`, found on a
 * novel by ../cheap_skips/layers.ts), the layers that matter most to running text (`text`), or random ones (`other`).
 */
const layers = (which: "all" | "recall" | "other" | "text", share: string, length: number, count: number) => {
  const methods = `variance,leave-one-out,random-protected${length === 512 ? ",received,keydiff" : ""}`;
  const own = ["--length", `${length}`, "--side", "key", "--recent", "32", "--warmup", "64"];
  const { ratios, ...part } = items(methods, share, "needle", count, own);
  if (which === "all") return { ...part, ratios };
  const file = fileURLToPath(new URL(`ratios/${which}_${share}.json`, import.meta.url));
  return { ...part, flags: [...part.flags, "--skip-ratios", file] };
};
/** Methods that evict keys and values; all have the same window and warm-up, and so one random baseline. */
const EQUAL_KEYS =
  "variance,key,leave-one-out,streaming,h2o,tova,snapkv,lagkv,expected-attention,keydiff,keydiff-cache,knorm,random-protected";
/** Fewer of them, for several ratios and for Gemma 3 270M, whose forward pass takes more than twice the time. */
const FEWER_EQUAL_KEYS = "variance,leave-one-out,snapkv,keydiff-cache,random-protected";
/** `variance` becomes the same as `paper` once all have its recent window, and is not run. */
const FEWER_QUERIES = "paper,variance,random-protected";
/** 32,768 tokens of a text in chunks that each begin with BOS, with five seeds of the random baseline. */
const large = (
  side: "queries" | "keys",
  file: string,
  context: number,
  methods: string,
  ratios = "0.5",
): Part => ({
  ...{ methods, ratios, text: file },
  flags: [
    ...["--task", "perplexity_bos", "--context", `${context}`, "--tokens", "32768", "--seeds", "5"],
    ...side === "queries" ? [] : ["--side", "key", "--recent", "32", "--warmup", "64"],
  ],
});
/** 500 items of each task that the full model does not guess, with three seeds of the random baseline. */
const manyItems = (side: "queries" | "keys", methods: string) =>
  items(methods, "0.5", "arc_easy,piqa,lambada_openai,hellaswag", 500, [
    ...SHORT,
    ...side === "queries" ? [] : ["--side", "key"],
  ], 3);
/** A part on a model whose layers have windows of their own; `local` is refused there. A chunk has up to 2.1 GB of logits. */
const gemma = (part: Part): Part => ({
  ...part,
  flags: [...part.flags, "--memory", "3G"],
  model: "gemma3-270m",
});

const WIKITEXT = "wikitext2-test.txt", MESSAGES = "messages.txt";

/** The parts, in the order in which they are run. */
export const PARTS: { readonly [name: string]: Part } = {
  "wikitext2_queries_2048_0.5": large("queries", WIKITEXT, 2048, QUERIES),
  "wikitext2_keys_2048_0.5": large("keys", WIKITEXT, 2048, EQUAL_KEYS),
  "messages_queries_2048_0.5": large("queries", MESSAGES, 2048, QUERIES),
  "messages_keys_2048_0.5": large("keys", MESSAGES, 2048, EQUAL_KEYS),
  "wikitext2_queries_512_0.5": large("queries", WIKITEXT, 512, QUERIES),
  "wikitext2_keys_512_0.5": large("keys", WIKITEXT, 512, EQUAL_KEYS),
  "messages_queries_512_0.5": large("queries", MESSAGES, 512, QUERIES),
  "messages_keys_512_0.5": large("keys", MESSAGES, 512, EQUAL_KEYS),
  "gemma_wikitext2_keys_2048_0.5": gemma(large("keys", WIKITEXT, 2048, FEWER_EQUAL_KEYS)),
  "gemma_messages_keys_2048_0.5": gemma(large("keys", MESSAGES, 2048, FEWER_EQUAL_KEYS)),
  "gemma_wikitext2_keys_512_0.5": gemma(large("keys", WIKITEXT, 512, FEWER_EQUAL_KEYS)),
  "gemma_messages_keys_512_0.5": gemma(large("keys", MESSAGES, 512, FEWER_EQUAL_KEYS)),
  "gemma_wikitext2_queries_2048_0.5": gemma(large("queries", WIKITEXT, 2048, QUERIES)),
  "gemma_messages_queries_2048_0.5": gemma(large("queries", MESSAGES, 2048, QUERIES)),
  "gemma_wikitext2_queries_512_0.5": gemma(large("queries", WIKITEXT, 512, QUERIES)),
  "gemma_messages_queries_512_0.5": gemma(large("queries", MESSAGES, 512, QUERIES)),
  "wikitext2_keys_2048_0.25_0.75": large("keys", WIKITEXT, 2048, FEWER_EQUAL_KEYS, "0.25,0.75"),
  "wikitext2_queries_2048_0.25_0.75": large("queries", WIKITEXT, 2048, FEWER_QUERIES, "0.25,0.75"),
  "items_500_queries_0.5": manyItems("queries", "variance,learned,random-protected"),
  "items_500_keys_0.5": manyItems(
    "keys",
    "variance,leave-one-out,tova,snapkv,keydiff-cache,random-protected",
  ),
  "text_short_0.5": text(`${ONLINE},${EVICTING}`, "0.5", 2048),
  "text_more_0.5": text(MORE, "0.5", 2048),
  "guessed_keys_0.5": keys("0.5", "arc_challenge,openbookqa", 200, FEWER_KEYS),
  "text_0.2_0.4": text(SEVERAL, "0.2,0.3,0.4", 2048),
  "fitted_0.2_0.5": { ...text(FITTED, "0.2,0.5", 2048), isFitted: true },
  "in_style_0.2_0.5": text(PROMPT, "0.2,0.5", 2048),
  "boolq_queries_0.5": queriesAndFitted("0.5", "boolq", 100),
  "boolq_keys_0.5": keys("0.5", "boolq", 100, FEWER_KEYS),
  "mmlu_queries_0.5": queries("0.5", "mmlu", 48),
  "mmlu_keys_0.5": keys("0.5", "mmlu", 48, FEWER_KEYS),
  "needle_0.5": items(LONG, "0.5", "needle", 12, ["--length", "512"]),
  "needle_all_0.5": layers("all", "0.5", 512, 24),
  "needle_recall_0.5": layers("recall", "0.5", 512, 24),
  "needle_other_0.5": layers("other", "0.5", 512, 24),
  "needle_text_0.5": layers("text", "0.5", 512, 24),
  "needle_all_0.75": layers("all", "0.75", 512, 24),
  "needle_recall_0.75": layers("recall", "0.75", 512, 24),
  "needle_all_0.5_2048": layers("all", "0.5", 2048, 12),
  "needle_recall_0.5_2048": layers("recall", "0.5", 2048, 12),
  "needle_all_0.75_2048": layers("all", "0.75", 2048, 12),
  "needle_recall_0.75_2048": layers("recall", "0.75", 2048, 12),
  "local_0.3_0.5": text("local,keydiff,random-protected", "0.3,0.5", 2048),
  "sleb_0.2_0.5": {
    ...text("sleb,shortgpt", "0.2,0.5", 2048),
    flags: ["--tokens", "2048", "--seeds", "2", "--calibration-tokens", "256"],
    isFitted: true,
  },
  "gemma_queries_0.5": gemma(queries("0.5", "arc_easy,piqa", 30)),
  "gemma_keys_0.5": gemma(keys("0.5", "arc_easy,piqa", 30)),
};

const ROOT = new URL("../../../", import.meta.url), RESULTS = new URL("results/", import.meta.url);

/** The file of a part: those of Gemma and of needles have a folder each. */
export const fileOf = (part: string): URL =>
  new URL(`${part.replace(/^(gemma|needle)_/, "$1/")}.json`, RESULTS);

/** A comparison in one line, with numbers of six digits and without its pairs, whose number grows as the square. */
export const shorten = ({ pairs: _, ...rest }: Comparison): string =>
  JSON.stringify(
    rest,
    (_, value) =>
      typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value,
  ) + "\n";

/** Runs a part to its end. @returns The exit code. */
async function measure(name: string, data: string, work: string): Promise<number> {
  const part = PARTS[name]!, folder = `${work}/${name}`;
  const hasItems = part.flags.includes("--tasks");
  const args = [
    ...["run", "-A", "--no-check", "experiments/commands/compare.ts"],
    ...[
      "--model",
      part.model ?? "smollm2-135m",
      "--text",
      `${data}/${part.text ?? "wikitext2-test.txt"}`,
      "--threads",
      "1",
    ],
    ...["--methods", part.methods, ...part.flags],
    ...(part.ratios === undefined ? [] : ["--ratios", part.ratios]),
    ...(hasItems ? ["--data", data] : []),
    ...(part.isFitted ? ["--calibration", `${data}/book-long.txt`, "--calibration-domain", "other"] : []),
    ...[exists(`${folder}/study.db`) ? "--resume" : "--out", folder],
  ];
  if (!exists(`${folder}/compare.json`)) {
    const child = new Deno.Command(Deno.execPath(), { args, cwd: ROOT, stdin: "null", stdout: "null" })
      .spawn();
    const stop = () => child.kill("SIGINT"); // it keeps finished work
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, stop);
    const { code } = await child.status;
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.removeSignalListener(signal, stop);
    if (code !== 0) return code;
  }
  const result = JSON.parse(await Deno.readTextFile(`${folder}/compare.json`));
  await Deno.mkdir(new URL(".", fileOf(name)), { recursive: true });
  await Deno.writeTextFile(fileOf(name), shorten(result));
  return 0;
}

if (import.meta.main) {
  const [data, work, ...chosen] = Deno.args;
  if (data === undefined || work === undefined || chosen.some((name) => !Object.hasOwn(PARTS, name))) {
    console.error(`Cannot run the study: expected DATA WORK [PART…], parts ${Object.keys(PARTS).join(", ")}`);
    Deno.exit(2);
  }
  for (const name of chosen.length > 0 ? chosen : Object.keys(PARTS)) {
    if (exists(fileOf(name))) continue;
    const code = await measure(name, data, work);
    if (code !== 0) Deno.exit(code);
  }
}
