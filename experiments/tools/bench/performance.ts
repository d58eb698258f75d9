/**
 * The part of docs/explain/performance.md that is next to other engines, from committed results of `deno task bench --peers`.
 *
 * usage: deno run -A experiments/tools/bench/performance.ts [bench.json …]
 *
 * Each bench.json, as `--out DIR` leaves it, replaces the committed result of its model up to the same length, and the
 * part is written again.
 */
import { type BenchReport, tabulatePeers } from "../../../lib/plot/mod.ts";
import { writeWhole } from "../../commands/cli/files.ts";
import { formatMarkdown } from "../../commands/cli/output/table.ts";

const FOLDER = new URL("results/", import.meta.url),
  PAGE = new URL("../../../docs/explain/performance.md", import.meta.url);
const MARKS = ["<!-- of bench --peers: begin -->", "<!-- of bench --peers: end -->"] as const;

/** Its model's name without folders, and the longest length. */
function keyOf(
  { model = "tiny", peers = [] }: BenchReport,
): { readonly model: string; readonly longest: number } {
  const name = model.split("/").at(-1)!.replace(/\.gguf$/, "");
  return { model: name, longest: Math.max(...peers.map(({ tokens }) => tokens)) };
}

/** The committed results, by model and length. */
export async function readPeerResults(): Promise<BenchReport[]> {
  const names = await Array.fromAsync(Deno.readDir(FOLDER), ({ name }) => name);
  const results: BenchReport[] = await Promise.all(
    names.filter((name) => name.endsWith(".json")).map(async (name) =>
      JSON.parse(await Deno.readTextFile(new URL(name, FOLDER)))
    ),
  );
  return results.sort((a, b) => {
    const [one, other] = [keyOf(a), keyOf(b)];
    return one.model.localeCompare(other.model) || one.longest - other.longest;
  });
}

/** One result: its machine and backend, and its table. */
function describeResult(report: BenchReport): string {
  const { environment, peers = [], peak, turns = 1 } = report, { model, longest } = keyOf(report);
  const { version, backendDescription, deno, platform, startedAt, load } = environment;
  const facts = [
    `tokenfilter ${version}, ${backendDescription}`,
    `Deno ${deno}, ${platform}, ${startedAt.slice(0, 10)}`,
    `peak ${(peak.flopsPerSecond / 1e9).toFixed(0)} GFLOP/s and ${
      (peak.bytesPerSecond / 1e9).toFixed(1)
    } GB/s`,
    turns === 1 ? "one turn" : `medians of ${turns} turns`,
    ...(load === undefined ? [] : [`load of the machine before it ${load.toFixed(1)}`]),
  ];
  return `### ${model}, up to ${longest.toLocaleString("en")} tokens\n\n${facts.join(";\n")}.\n\n${
    formatMarkdown(tabulatePeers(peers))
  }`;
}

/** The part of the page. */
export function describePeers(results: readonly BenchReport[]): string {
  return `${MARKS[0]}\n${results.map(describeResult).join("\n\n")}\n${MARKS[1]}`;
}

/** A page with its part replaced. @throws {Error} If the page has no such part. */
export function withPart(page: string, part: string): string {
  const [begin, end] = MARKS.map((mark) => page.indexOf(mark)) as [number, number];
  if (begin < 0 || end < begin) {
    throw new Error(`Cannot write the part: found no "${MARKS[0]}" and "${MARKS[1]}" behind it in the page`);
  }
  return page.slice(0, begin) + part + page.slice(end + MARKS[1].length);
}

if (import.meta.main) {
  for (const path of Deno.args) {
    const report: BenchReport = JSON.parse(await Deno.readTextFile(path));
    if (report.peers === undefined) {
      throw new Error(`Cannot use "${path}": found no "peers", expected bench --peers`);
    }
    const { model, longest } = keyOf(report);
    await Deno.writeTextFile(
      new URL(`${model}-${longest}.json`, FOLDER),
      JSON.stringify(report, null, 2) + "\n",
    );
  }
  const page = await Deno.readTextFile(PAGE);
  await writeWhole(PAGE.pathname, withPart(page, describePeers(await readPeerResults())));
}
