/**
 * Tests that a digest detects faults. It puts each into a copy of the tree, one at a time, and compares the digest of
 * some runs there with that of the same runs without the fault.
 *
 * ```sh
 * deno run -A experiments/tools/digest/faults.ts   # or: … faults.ts rope
 * ```
 */
import { listTree } from "../machine/checkout.ts";
import { openTasks, ROOT } from "./execute.ts";

/** A fault. It is found by its text, which occurs once in the sources. */
export interface Fault {
  readonly name: string;
  /** Texts, each with its replacement. */
  readonly changes: readonly (readonly [from: string, to: string])[];
  /** Runs that must see it: a part of their names. */
  readonly runs: string;
}

/** The faults. */
export const FAULTS: readonly Fault[] = [
  {
    name: "attention scale 1/headDim",
    changes: [["attentionScale ?? 1 / Math.sqrt(headDim)", "attentionScale ?? 1 / headDim"]],
    runs: "score --chunk 7",
  },
  {
    name: "norms of attention and MLP swapped",
    changes: [['attnNorm: norm("attn_norm.weight",', 'attnNorm: norm("ffn_norm.weight",'], [
      'ffnNorm: norm("ffn_norm.weight",',
      'ffnNorm: norm("attn_norm.weight",',
    ]],
    runs: "score --chunk 7",
  },
  {
    name: "rope base 9,999",
    changes: [[
      'theta = reader.positive("rope.freq_base"',
      'theta = 0.9999 * reader.positive("rope.freq_base"',
    ]],
    runs: "score --chunk 7",
  },
  {
    name: "recent window one short, reference",
    changes: [["distance <= args.recent", "distance < args.recent"]],
    runs: "score --backend reference --tokens 64 --warmup 12 --method variance",
  },
  {
    name: "recent window one long, CPU kernel",
    changes: [[
      "job.num_recent, position - job.recent_window - 1)",
      "job.num_recent, position - job.recent_window - 2)",
    ]],
    runs: "score --recent 3",
  },
  {
    name: "quantile without interpolation, CPU kernel",
    changes: [[
      "interpolate(sorted_[below], sorted_[above], position - ",
      "interpolate(sorted_[below], sorted_[above], 0 * position - 0 * ",
    ]],
    runs: "score --method variance --threshold window",
  },
  {
    name: "budget paid back twice as fast, reference",
    changes: [["const BUDGET_HORIZON = 16;", "const BUDGET_HORIZON = 8;"]],
    runs: "score --backend reference --tokens 64 --warmup 12 --method mean",
  },
  {
    name: "weights of keys and values swapped in variance, reference",
    changes: [["wK * k + (1 - wK) * v", "(1 - wK) * k + wK * v"]],
    runs: "score --backend reference --tokens 64 --warmup 12 --method variance",
  },
  {
    name: "default number of seeds",
    changes: [[
      'readCount(values, "seeds", 1, MAX_SEEDS) ?? 5',
      'readCount(values, "seeds", 1, MAX_SEEDS) ?? 4',
    ]],
    runs: "compare --json",
  },
  {
    name: "exit code 1 for bad input",
    changes: [["usage: 2,", "usage: 1,"]],
    runs: "refused: score --ids TMP/one.json",
  },
  {
    name: "a field of a trial's record dropped",
    changes: [['kvBytesAvoided: sum(usages, "kvBytesAvoided") / count,', ""]],
    runs: "sweep --grid",
  },
  {
    name: "a word of a flag's help",
    changes: [[
      "ratio of attention to skip after the warm-up",
      "ratio of attention to keep after the warm-up",
    ]],
    runs: "sweep --help",
  },
];

/** Texts of the sources that faults may be put in, by path. */
export async function readSources(root: string, paths: readonly string[]): Promise<Map<string, string>> {
  const sources = paths.filter((path) =>
    /\.(ts|h|cuh|cpp|cu)$/.test(path) &&
    !/_test\.ts$|testing|^experiments\/tools\/(digest|mutants)\//.test(path)
  );
  return new Map(
    await Promise.all(
      sources.map(async (path) => [path, await Deno.readTextFile(`${root}/${path}`)] as const),
    ),
  );
}

/** Files as a fault leaves them. @throws {RangeError} If its text does not stand there once. */
export function applyFault(
  { name, changes }: Fault,
  sources: ReadonlyMap<string, string>,
): Map<string, string> {
  const changed = new Map<string, string>();
  for (const [from, to] of changes) {
    const places = [...sources].filter(([, text]) => text.includes(from));
    const [path, text] = places[0] ?? ["", ""];
    if (places.length !== 1 || text.split(from).length !== 2) {
      throw new RangeError(
        `Cannot plant "${name}": found "${from}" in ${places.length} files, expected it once`,
      );
    }
    changed.set(path, (changed.get(path) ?? text).replace(from, () => to));
  }
  return changed;
}

/** Plants the faults whose name holds a part. @returns Names of those that a digest misses. */
async function plantFaults(part: string): Promise<string[]> {
  const folder = await Deno.makeTempDir({ prefix: "tokenfilter-faults-" });
  const missed: string[] = [];
  try {
    const tree = await listTree(ROOT.slice(0, -1)), root = `${folder}/tree`;
    for (const { from, to } of tree) {
      await Deno.mkdir(`${root}/${to}`.replace(/[^/]*$/, ""), { recursive: true });
      await Deno.copyFile(from, `${root}/${to}`);
    }
    const tasks = await openTasks(`${root}/`), sources = await readSources(root, tree.map(({ to }) => to));
    const digest = async (...args: string[]) => await tasks.run({ task: "digest" }, args, {}, 3600);
    for (const fault of FAULTS.filter(({ name }) => name.includes(part))) {
      const changed = applyFault(fault, sources), before = `${folder}/before.json`;
      const own = ["--only", fault.runs, "--out"];
      const sound = await digest(...own, before);
      for (const [path, text] of changed) await Deno.writeTextFile(`${root}/${path}`, text);
      const { code, stdout } = await digest(...own, `${folder}/after.json`, "--against", before);
      for (const path of changed.keys()) await Deno.writeTextFile(`${root}/${path}`, sources.get(path)!);
      const seen = sound.code === 0 && code === 1;
      if (!seen) missed.push(fault.name);
      const [, run = "", part = ""] = stdout.match(/\n(.+)\n {2}(.+)\n {4}before/) ?? [];
      console.log(`${seen ? "seen" : `missed (${sound.stderr}${stdout})`}: ${fault.name}: ${run}: ${part}`);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  return missed;
}

if (import.meta.main && (await plantFaults(Deno.args[0] ?? "")).length > 0) Deno.exit(1);
