/** Commands on `tiny` answer as golden.json says: numbers, decisions, tables and figures. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { cpuLevels } from "../../../ffi/mod.ts";
import { IN_SLOW_TIER, RUNS_SLOW, unless } from "../../../lib/testing.ts";
import type { Golden } from "./run_testing.ts";

const SCRIPT = fileURLToPath(new URL("./run_testing.ts", import.meta.url));
const golden: Golden = JSON.parse(await Deno.readTextFile(new URL("./golden.json", import.meta.url)));
const levels = await cpuLevels(), best = levels.at(-1)!;

/** Numbers that arithmetic has made, and hashes of them. */
const DECIMAL = /[-+]?\d+\.\d+(?:e[-+]?\d+)?/g, HASH = /#[0-9a-f]{8}/g;

/** Whether lines differ by rounding at most: another level or compiler adds in another order. */
function isNear(found: string, expected: string): boolean {
  const frame = (line: string) =>
    line.replaceAll(HASH, "#").replaceAll(DECIMAL, "0").replaceAll(/ +|-+/g, " ");
  const numbers = (line: string) => line.match(DECIMAL) ?? [], others = numbers(found);
  return frame(found) === frame(expected) && numbers(expected).every((digits, i) => {
    const x = Number(digits), decimals = digits.match(/\.(\d+)/)![1]!.length;
    return Math.abs(Number(others[i]) - x) <= 1e-6 + 1e-5 * Math.abs(x) + 10 ** -decimals;
  });
}

/**
 * Runs command lines at a level: all, or each `step`-th of those that need no other. Numbers have all digits of golden.json
 * where its tools made them.
 */
async function check(level: string, step = 1): Promise<void> {
  const args = ["run", "-A", SCRIPT, level, `${step}`];
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
  assert(success, new TextDecoder().decode(stderr));
  const { madeWith, cases, fields }: Golden = JSON.parse(new TextDecoder().decode(stdout));
  const isExact = JSON.stringify(madeWith) === JSON.stringify(golden.madeWith);
  const found: [name: string, lines: string[]][] = [], expected: typeof found = [];
  for (const [name, golds] of Object.entries(golden.cases)) {
    if (step > 1 && !(name in cases)) continue;
    const lines = [cases[name] ?? []].flat(),
      isIn = (line: string, list: readonly string[]) =>
        list.some((other) => line === other || !isExact && isNear(other, line));
    // Lines may come in: those of another rule.
    const lost = [golds].flat().filter((line) => !isIn(line, lines));
    if (lost.length === 0) continue;
    found.push([name, lines.filter((line) => !isIn(line, [golds].flat()))]);
    expected.push([name, lost]);
  }
  assertEquals(found, expected);
  const documents = step === 1 ? Object.entries(golden.fields) : [];
  const lost = documents.map(([document, paths]) => [
    document,
    paths.split(" ").filter((path) => !fields[document]?.split(" ").includes(path)),
  ]);
  assertEquals(lost.filter(([, paths]) => paths!.length > 0), [], "fields that documents no longer have");
  // Figures may come in. A new command line is to be in golden.json.
  const more = Object.keys(cases).filter((name) => !(name in golden.cases) && !name.startsWith("TMP/"));
  assertEquals(more, [], `run ${SCRIPT}`);
}

// The fast tier runs a third of the lines that need no other.
Deno.test("commands answer as golden.json says, at the level of this machine", () =>
  check(best, RUNS_SLOW ? 1 : 3));

// Without fused multiply-add, a rounded cache holds other numbers: level base is compared op by op, in kernels/.
for (const level of levels.filter((level) => level !== best && level === golden.madeWith.level)) {
  Deno.test({
    ...unless(IN_SLOW_TIER, `commands answer as golden.json says, at ${level}`),
    fn: () => check(level),
  });
}
