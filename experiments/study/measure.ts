/**
 * Runs the study of README.md: comparisons of all methods under one budget, part by part, each a `deno task compare`.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/study/measure.ts DATA WORK [PART…]
 *
 * DATA holds the JSONL files of the tasks, wikitext2-test.txt, and book-long.txt, which offline methods are fitted on.
 * WORK keeps what is at work: run the same command again to go on with what was interrupted. A part that is over goes to
 * results/, in one line of JSON; those that are there are not run again.
 */
import { exists } from "../cli/files.ts";
import { readStdFlags } from "../cli/deno.ts";

/** Methods that need nothing but the model. */
const ONLINE = "paper,variance,learned,keys,local,random,random-protected,periodic";
/** Rivals that drop keys and values. */
const EVICTING =
  "streaming,h2o,tova,snapkv,expected-attention,leverage,lagkv,curdkv,keydiff-cache,keydiff,cur,knorm";
/** Rivals that are fitted on a text; here on a book, which is no text of the judged kind. */
const FITTED = "attention-drop,mlp-drop,shortgpt,flap,wanda-sp,slimgpt-style";

/** A part: flags of a comparison. */
export interface Part {
  readonly methods: string;
  readonly ratios: string;
  readonly flags: readonly string[];
  /** Whether methods are fitted on the book. */
  readonly isFitted?: true;
}

const text = (methods: string, ratios: string, tokens: number): Part => ({
  ...{ methods, ratios },
  flags: ["--tokens", `${tokens}`],
});
/** Items are short: filtering begins early, and blocks are small, else nothing would be filtered. */
const SHORT = ["--filter-from", "8", "--recent", "4", "--block", "4", "--warmup", "32"];
const items = (methods: string, ratios: string, tasks: string, count: number): Part => ({
  ...{ methods, ratios },
  flags: ["--tokens", "512", "--tasks", tasks, "--items", `${count}`, ...SHORT],
});

/** Methods that can filter within an item of some thirty tokens. */
const WITHIN_ITEMS = "variance,learned,value,random,random-protected,h2o,tova,snapkv,lagkv,keydiff,cur,knorm";

/** The parts, in the order in which they are run: what is short comes first. */
export const PARTS: { readonly [name: string]: Part } = {
  "text_short_0.5": text(`${ONLINE},${EVICTING}`, "0.5", 2048),
  "fitted_short_0.5": { ...text(FITTED, "0.5", 2048), isFitted: true },
  "items_short_0.5": items(WITHIN_ITEMS, "0.5", "arc_easy,piqa", 40),
  "text_0.2_0.5": text(`${ONLINE},${EVICTING}`, "0.2,0.5", 8192),
  "fitted_0.2_0.5": { ...text(`${FITTED},sleb`, "0.2,0.5", 8192), isFitted: true },
  "items_0.5": items(WITHIN_ITEMS, "0.5", "arc_easy,hellaswag,piqa,winogrande", 100),
  "needle_0.5": {
    ...{ methods: "keys,local,random,streaming,h2o,tova,snapkv,lagkv,keydiff-cache", ratios: "0.5" },
    flags: ["--tokens", "512", "--tasks", "needle_multivalue", "--length", "1024", "--items", "20"],
  },
  "text_0.3_0.4": text(`${ONLINE},${EVICTING}`, "0.3,0.4", 8192),
  "items_0.2": items(WITHIN_ITEMS, "0.2", "arc_easy,hellaswag,piqa,winogrande", 100),
};

const ROOT = new URL("../../", import.meta.url), RESULTS = new URL("results/", import.meta.url);

/** Runs a part to its end. @returns The exit code. */
async function measure(name: string, data: string, work: string): Promise<number> {
  const part = PARTS[name]!, folder = `${work}/${name}`;
  const hasItems = part.flags.includes("--tasks");
  const args = [
    ...["run", "-A", "--no-check", ...await readStdFlags(), "experiments/compare.ts"],
    ...["--model", "smollm2-135m", "--text", `${data}/wikitext2-test.txt`, "--seeds", "2"],
    ...["--methods", part.methods, "--ratios", part.ratios, ...part.flags],
    ...(hasItems ? ["--data", data] : []),
    ...(part.isFitted ? ["--calibration", `${data}/book-long.txt`, "--calibration-domain", "other"] : []),
    ...[exists(`${folder}/methods.jsonl`) ? "--resume" : "--out", folder],
  ];
  if (!exists(`${folder}/compare.json`)) {
    const child = new Deno.Command(Deno.execPath(), { args, cwd: ROOT, stdin: "null", stdout: "null" })
      .spawn();
    const stop = () => child.kill("SIGINT"); // it keeps what is finished
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, stop);
    const { code } = await child.status;
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.removeSignalListener(signal, stop);
    if (code !== 0) return code;
  }
  const result = JSON.parse(await Deno.readTextFile(`${folder}/compare.json`));
  await Deno.mkdir(RESULTS, { recursive: true });
  await Deno.writeTextFile(new URL(`${name}.json`, RESULTS), JSON.stringify(result) + "\n");
  return 0;
}

if (import.meta.main) {
  const [data, work, ...chosen] = Deno.args;
  if (data === undefined || work === undefined || chosen.some((name) => !Object.hasOwn(PARTS, name))) {
    console.error(`Cannot run the study: expected DATA WORK [PART…], parts ${Object.keys(PARTS).join(", ")}`);
    Deno.exit(2);
  }
  for (const name of chosen.length > 0 ? chosen : Object.keys(PARTS)) {
    if (exists(new URL(`${name}.json`, RESULTS))) continue;
    const code = await measure(name, data, work);
    if (code !== 0) Deno.exit(code);
  }
}
