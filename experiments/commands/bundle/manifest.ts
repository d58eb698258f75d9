/** The list of a bundle's content, `bundle.json`: what ran, with which versions, and the SHA-256 of each file. */
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import type { StudyConditions } from "../../../lib/sweep/trials/store_records.ts";
import { parseJson } from "../cli/files.ts";
import type { Flag } from "../cli/flags/flag.ts";
import { QUEUE } from "../cli/flags/flags.ts";
import type { Files } from "./zip.ts";

export const MANIFEST = "bundle.json";

/** Folders of a bundle: files that the run reads, and those that it has written. */
export const INPUTS = "inputs", RESULTS = "results";

/** The commands that write bundles. */
export const BUNDLED = ["sweep", "compare", "eval", "heads"] as const;

export interface Manifest {
  readonly format: 1;
  readonly command: (typeof BUNDLED)[number];
  /** Its arguments but those of the place and of the output; files by their names in the bundle. */
  readonly args: readonly string[];
  /** Name of the file of its result. */
  readonly result: string;
  /** Name of the file of its decisions, where they were kept. */
  readonly decisions?: string;
  readonly version: string;
  readonly deno: string;
  readonly platform: string;
  /** Digest of the code that computes. */
  readonly codeSha256: string;
  /** The conditions that its numbers depend on. */
  readonly conditions: StudyConditions;
  /** SHA-256 of each file, by its name. */
  readonly files: { readonly [name: string]: string };
}

/** Flags of the machine and of the work's division, which change no number. */
const OF_MACHINE = [...Object.keys(QUEUE), "jobs", "threads", "memory", "offline"];

/** Whether a flag is about the place of a run and its output, so that no bundle has it. */
export const isLocal = (name: string, { subject }: Flag): boolean =>
  subject === "Results" || OF_MACHINE.includes(name);

/** Flags whose values are files that a bundle has. */
const INPUT_FLAGS = ["text", "calibration", "rule", "task-file", "space", "grid", "data"];

export const isInput = (name: string, { kind }: Flag): boolean =>
  kind === "ratios file" || INPUT_FLAGS.includes(name);

/** An argument of a flag in parts; undefined if it is none. */
export const partsOf = (arg: string): { readonly name: string; readonly value?: string } | undefined =>
  arg.match(/^--(?<name>[a-z][\w-]*)(?:=(?<value>.*))?$/s)?.groups as never;

/** Reads the list of a bundle, and compares each file with it. @throws {UsageError} Naming the file that is missing or another one. */
export async function readManifest(path: string, files: Files): Promise<Manifest> {
  const refuse = (found: string, expected = "what --bundle writes") =>
    new UsageError(`Cannot use "${path}": found ${found}, expected ${expected}`);
  const bytes = files.get(MANIFEST);
  if (bytes === undefined) throw refuse(`no ${MANIFEST} in it`);
  const manifest = parseJson(new TextDecoder().decode(bytes)) as Partial<Manifest> | null;
  const { command, args, result, decisions, files: listed } = Object(manifest) as Partial<Manifest>;
  const isManifest = BUNDLED.includes(command!) && Array.isArray(args) && typeof result === "string" &&
    args.every((arg) => typeof arg === "string") && typeof listed === "object" && listed !== null;
  if (!isManifest) throw refuse(`another ${MANIFEST}`);
  const names = [...Object.keys(listed), ...[result, ...decisions ? [decisions] : []].map(inResults)];
  const missing = names.find((name) => !files.has(name));
  if (missing !== undefined) throw refuse(`no ${missing} in it`, `the files that its ${MANIFEST} lists`);
  for (const [name, content] of files) {
    if (name === MANIFEST || listed[name] === await sha256(content)) continue;
    throw refuse(`another ${name} in it than its ${MANIFEST} lists`, "an unchanged bundle");
  }
  return manifest as Manifest;
}

export const inResults = (name: string): string => `${RESULTS}/${name}`;
