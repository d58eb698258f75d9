/**
 * Runs the command lines of `cases_testing.ts` at one level of the native code, and prints what they answer: the
 * content of golden.json. A process of its own, since it sets variables of the environment.
 *
 * usage: deno run -A experiments/commands/golden/run_testing.ts avx2 >experiments/commands/golden/golden.json
 * A second argument, N, runs each N-th of the lines that need no other.
 */
import { fileURLToPath } from "node:url";
import { parquetReadObjects } from "hyparquet";
import { buildCpu } from "../../../build.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { exists } from "../cli/files.ts";
import { listFolder, runTask } from "../testing.ts";
import { linesOf } from "./cases_testing.ts";
import { writeInputs } from "./inputs_testing.ts";

/** What commands answer, and the tools that round in it. */
export interface Golden {
  readonly madeWith: { readonly level: string; readonly compiler: string; readonly v8: string };
  /** Lines by the command line, and figures of a page by its path and their names. */
  readonly cases: { readonly [name: string]: string | readonly string[] };
  /** Paths of all fields of JSON documents, by command and file, separated by spaces. */
  readonly fields: { readonly [document: string]: string };
}

// deno-lint-ignore no-explicit-any -- documents of all commands
type Json = any;

/** Keys of documents whose values differ from run to run. */
const VARYING = /timeMs$|PerSecond$|^(peakMemoryBytes|startedAt|finishedAt|deno|platform|version)$/i;
const DATA = fileURLToPath(new URL("../eval/testdata/items", import.meta.url));
const folder = await Deno.makeTempDir({ prefix: "tokenfilter-golden-" });

/** A text without folders and times. */
function steady(text: string): string {
  return text.replaceAll(folder, "TMP").replaceAll(
    /\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d\S*| UTC)?/g,
    "<when>",
  )
    .replaceAll(/^(.*\S) +time\n(.*-) +-+$/gm, "$1  time\n$2  ----") // a column of times: its head,
    .replaceAll(/^(.*\d%) +\d+%$/gm, "$1 <time>") // its rows
    .replaceAll(/, time \d+%/g, ", time <time>") // verdicts
    .replaceAll(/\d[\d.]* (tokens\/s|s\b)/g, "<time> $1");
}

const fields = new Map<string, Set<string>>();

/** Notes the paths of a document's fields. */
function noteFields(name: string, document: unknown): void {
  if (!fields.has(name)) fields.set(name, new Set());
  const note = (value: unknown, path: string): void => {
    const items = typeof value === "object" && value !== null ? Object.entries(value) : [];
    if (items.length === 0) fields.get(name)!.add(path);
    for (const [key, item] of items) {
      const inside = Array.isArray(value) ? `${path}[]` : path === "" ? key : `${path}.${key}`;
      note(item, inside);
    }
  };
  note(document, "");
}

const hash = async (value: unknown) => `#${(await sha256(JSON.stringify(value))).slice(0, 8)}`;
const mean = (values: readonly (number | null)[]) => {
  const known = values.filter((value) => value !== null);
  return known.reduce((sum, value) => sum + value, 0) / known.length;
};
/** How many of all decisions keep, and a hash of them, which no rounding changes. */
const kept = async (rows: readonly (number | readonly number[])[]) =>
  `${rows.flat().filter(Boolean).length}/${rows.flat().length} ${(await hash(rows)).replace("#", "=")}`;

/** What a document holds: numbers in all digits, decisions, and a hash of all of it. */
async function describe(document: Json): Promise<string | string[]> {
  const { nll, keep, kvKeep, kvBytesHeld, redundancy, threshold } = document;
  if (nll !== undefined) {
    const sides = [["queries", keep], ["keys", kvKeep]].filter(([, rows]) => rows?.length > 0);
    const decisions = await Promise.all(sides.map(async ([side, rows]) => `, ${side} ${await kept(rows)}`));
    return `loss ${mean(nll)} ${await hash(nll)}${decisions.join("")}${
      kvBytesHeld === undefined ? "" : `, ${kvBytesHeld} bytes`
    }`;
  }
  if (redundancy !== undefined) {
    return `redundancy ${mean(redundancy)}, kept ${await kept(keep)}, ${await hash([redundancy, threshold])}`;
  }
  const { trials = [], methods = [], results = [], overall, runs = [] } = document;
  return [
    ...(overall === undefined ? [`document ${await hash(document)}`] : []), // heads has all rules
    ...trials.map((t: Json) => `${t.trial} ${t.fusion}: ${t.nllDelta}`),
    ...methods.map((m: Json) =>
      `${m.name}: ${m.loss}, skipped ${m.achievedRatio}, evicted ${m.kvAchievedRatio}`
    ),
    ...results.map((r: Json) =>
      `${r.task} ${r.metric}${r.method === undefined ? "" : ` ${r.method}`}: ${
        r.value ?? `${r.dense.value}, ${r.filtered.value}`
      }`
    ),
    ...(overall?.rules ?? []).map((r: Json) => `${r.rule}: ${r.auroc}`),
    ...runs.map((r: Json) => `${r.name}: ${r.text}`),
  ];
}

/** All numbers of a figure: colors and marks follow from the list of methods. */
function numbersIn(value: unknown): number[] {
  if (typeof value === "number") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(numbersIn) : [];
}

/** What compares all rules in `heads`: one that comes in changes it. */
const ALL_RULES = /heads.html (which_rule|roc_curves|text)/;

/** The figures of a page by their names, and a hash of its visible text without its numbers. */
async function describePage(path: string): Promise<(readonly [name: string, content: string])[]> {
  const html = await Deno.readTextFile(path), place = steady(path);
  const data = JSON.parse(
    html.match(/<script type="application\/json" id="figures">(.*?)<\/script>/s)?.[1] ?? "[]",
  );
  const names = Array.from(
    html.matchAll(/class="plot" id="figure\d+" data-name="([^"]*)"/g),
    ([, name]) => name!,
  );
  const figures = await Promise.all(
    names.map(async (name, i) => {
      const numbers = numbersIn(data[i].data);
      return [
        `${place} ${name}`,
        `${numbers.length} numbers, mean ${mean(numbers)} ${await hash(numbers)}`,
      ] as const;
    }),
  );
  const visible = html.replaceAll(/<(script|style|svg)\b.*?<\/\1>/gs, "")
    .replaceAll(/<section>((?!<\/section>).)*class="plot".*?<\/section>/gs, "").replaceAll(/<[^>]*>/g, "\n");
  const words = steady(visible).replaceAll(/[\d.]+/g, "0").split(/\s*\n\s*/);
  const all = [
    ...figures,
    [`${place} text`, `${words.length} lines ${await hash(words)}`] as [string, string],
  ];
  return all.filter(([name]) => !ALL_RULES.test(name));
}

/** What the command left where `--out` or `--trace` points. */
async function describeFiles(
  task: string,
  args: readonly string[],
): Promise<(readonly [name: string, content: string])[]> {
  const [, path] = args.join(" ").match(/--(?:out|trace) (\S+)/) ?? [];
  if (path === undefined || !exists(path)) return [];
  const files = path.endsWith(".parquet") ? [path] : listFolder(path).map((name) => `${path}/${name}`);
  const described = files.map(async (file): Promise<(readonly [string, string])[]> => {
    if (file.endsWith(".html")) return await describePage(file);
    if (file.endsWith(".json") && task !== "eval") { // it names fields by tasks
      noteFields(`${task} ${file.slice(path.length + 1)}`, JSON.parse(await Deno.readTextFile(file)));
    }
    if (!file.endsWith(".parquet")) return [];
    const rows = await parquetReadObjects({ file: (await Deno.readFile(file)).buffer });
    return [[steady(file), `${rows.length} rows ${await hash(rows)}`]];
  });
  return (await Promise.all(described)).flat();
}

/** Runs a command line, and describes its answer. */
async function answer(line: string): Promise<(readonly [name: string, content: string | string[]])[]> {
  const [task, ...args] = line.replaceAll("TMP/", `${folder}/`).replace("DATA", DATA).split(" ");
  const shared = /diff|report/.test(task!)
    ? []
    : args.includes("--threads")
    ? ["--quiet"]
    : ["--quiet", "--threads", "1"];
  const { code, stdout, stderr } = await runTask(task!, ...args, ...shared);
  if (code !== 0) throw new Error(`Cannot run ${line}: found exit code ${code}, ${stderr}`);
  const document = line.includes("--json") &&
    JSON.parse(
      stdout,
      (key, value) => VARYING.test(key) ? undefined : typeof value === "string" ? steady(value) : value,
    );
  if (document && task !== "eval") noteFields(`${task} --json`, JSON.parse(stdout));
  const text = () => steady(stdout + stderr).trimEnd().split("\n");
  return [[line, document ? await describe(document) : text()], ...await describeFiles(task!, args)];
}

if (import.meta.main) {
  const [level, step = "1"] = Deno.args;
  if (level === undefined) throw new Error("Cannot run: found no level, expected one such as avx2");
  Deno.env.set("TOKENFILTER_BLAS", "none");
  Deno.env.set("TOKENFILTER_LEVEL", level);
  writeInputs(folder);
  const cases: (readonly [name: string, content: string | string[]])[] = [];
  for (const line of linesOf(Number(step))) cases.push(...await answer(line));
  await Deno.remove(folder, { recursive: true });
  const { manifest: { compiler } } = await buildCpu();
  const madeWith = { level, compiler, v8: Deno.version.v8 };
  const golden: Golden = {
    madeWith,
    cases: Object.fromEntries(cases),
    fields: Object.fromEntries(Array.from(fields, ([name, paths]) => [name, [...paths].sort().join(" ")])),
  };
  console.log(JSON.stringify(golden, null, 1));
}
