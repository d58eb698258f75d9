/** Draws mutants of one scope by a seed, at most one per line, and lists those that are known to be equivalent. */
import { createHash } from "node:crypto";
import { UsageError } from "../../../lib/errors.ts";
import { listMutations, type Mutation } from "./operators.ts";

/** A mutation of a file of the tree. */
export interface Mutant extends Mutation {
  /** Path from the root. */
  readonly file: string;
  /** The line's text, without the space around it. */
  readonly source: string;
}

/** A mutant that no test can detect. It is identified by its texts, so that it may move within its file. */
export interface Equivalent {
  readonly file: string;
  /** Text of the line. */
  readonly source: string;
  readonly before: string;
  readonly after: string;
  /** The reason why no test can detect it. */
  readonly reason: string;
}

/** Files that a tree's mutants are made of: names of scopes, or paths of files and folders, `:LINE` behind a file. */
export const SCOPES = ["ts", "cpu"] as const;

/** TypeScript that is no test, no helper of tests, and no check, attack, benchmark or study that is run by hand. */
export function isMutableTypeScript(path: string): boolean {
  return /^(lib|ffi|experiments)\/.*\.ts$/.test(path) &&
    !/(_test|(^|[/_])testing|\/cases|^experiments\/(tools\/bench\/serve|studies\/\w+\/(measure|ablation|gemma)))\.ts$/
      .test(
        path,
      ) &&
    !/\/testdata\/|^experiments\/tools\/(attack|verify)\//.test(path);
}

/**
 * Every mutant of a scope.
 *
 * @param files Files of the tree that can be mutated.
 * @throws {UsageError} If a path of the scope names none of them, or a line has no mutant.
 */
export async function listMutants(
  scope: readonly string[],
  files: readonly string[],
  read: (path: string) => Promise<string>,
): Promise<Mutant[]> {
  const found: Mutant[] = [];
  for (const path of files) {
    const asked = scope.filter((each) => isIn(path, each));
    if (asked.length === 0) continue;
    const text = await read(path), lines = text.split("\n");
    const mutants = (await listMutations(path, text)).map((mutation) => ({
      ...mutation,
      file: path,
      source: lines[mutation.line - 1]!.trim(),
    }));
    const whole = asked.some((each) => !/:\d+$/.test(each));
    found.push(...mutants.filter(({ line }) => whole || asked.includes(`${path}:${line}`)));
  }
  for (const each of scope) {
    const [, line] = each.match(/:(\d+)$/) ?? [];
    if (found.some(({ file, line: at }) => isIn(file, each) && (line === undefined || at === Number(line)))) {
      continue;
    }
    throw new UsageError(
      `Cannot mutate "${each}": found nothing there, expected ${SCOPES.join(", ")} or a path`,
    );
  }
  return found;
}

/** Whether a file belongs to one part of a scope. */
export function isIn(path: string, part: string): boolean {
  if (part === "ts") return path.endsWith(".ts");
  if (part === "cpu") return path.startsWith("kernels/");
  const place = part.replace(/^\.\//, "").replace(/:\d+$|\/+$/, "");
  return path === place || path.startsWith(`${place}/`);
}

/**
 * Draws mutants, one per line at most. A line's lot depends only on its text and its file, so a change elsewhere leaves
 * the sample unchanged.
 */
export function drawMutants(mutants: readonly Mutant[], seed: string, count: number): Mutant[] {
  const lines = new Map<string, Mutant[]>();
  for (const mutant of mutants) {
    const place = `${mutant.file}:${mutant.line}`;
    lines.set(place, [...lines.get(place) ?? [], mutant]);
  }
  const seen = new Map<string, number>();
  const drawn = [...lines.values()].map((choices) => {
    const { file, source } = choices[0]!, text = `${file}\n${source}`, times = seen.get(text) ?? 0;
    seen.set(text, times + 1);
    const lot = createHash("sha256").update(`${seed}\n${text}\n${times}`).digest();
    return { lot: lot.toString("hex"), mutant: choices[lot.readUInt32LE(28) % choices.length]! };
  });
  return drawn.sort((a, b) => a.lot < b.lot ? -1 : 1).slice(0, count).map(({ mutant }) => mutant);
}

/** Whether an entry of the list is this mutant. */
export function isSame(mutant: Mutant, listed: Equivalent): boolean {
  return (["file", "source", "before", "after"] as const).every((key) => mutant[key] === listed[key]);
}

/** Entries of the list that match no mutant of the given files. */
export function findStale(listed: readonly Equivalent[], mutants: readonly Mutant[]): Equivalent[] {
  return listed.filter((entry) => !mutants.some((mutant) => isSame(mutant, entry)));
}
