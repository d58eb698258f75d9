/** Repeats the run of a bundle, and compares its results: `deno task reproduce FILE.zip`. */
import { parquetReadObjects } from "hyparquet";
import { UsageError } from "../../../lib/errors.ts";
import { plural } from "../../../lib/plural.ts";
import { describeRuntime, readVersion } from "../../../lib/version.ts";
import type { Command } from "../cli/command.ts";
import { makeFolder, parseJson, readBytes, writeWhole } from "../cli/files.ts";
import { pick } from "../cli/flags/flag.ts";
import { MODEL } from "../cli/flags/flags.ts";
import { type FlagValues, textOf } from "../cli/flags/parse.ts";
import { ITEMS } from "../cli/flags/items.ts";
import { digestCode } from "../cli/machine/code_digest.ts";
import { readParquet } from "../cli/parquet.ts";
import { makeResultsFolder, quoteArgument, readDestination } from "../cli/run/resume.ts";
import { EXIT, writeLine } from "../cli/task.ts";
import { ARGUMENTS } from "../reproduce/flags.ts";
import { type Asked, plainCommand } from "../run.ts";
import { compareNumbers, largestDifference } from "./differences.ts";
import { INPUTS, inResults, isInput, isLocal, type Manifest, partsOf, readManifest } from "./manifest.ts";
import { type Files, readZip } from "./zip.ts";

/** Flags that may say it otherwise than the bundle: the model's place, and the machine. */
const OWN = { ...MODEL, ...pick(ITEMS, "data") };

/** Most differing numbers that are listed. */
const LISTED = 10;

const LOADED: { readonly [name in Manifest["command"]]: () => Promise<{ readonly command: Command }> } = {
  sweep: () => import("../sweep.ts"),
  compare: () => import("../compare.ts"),
  eval: () => import("../eval.ts"),
  heads: () => import("../heads.ts"),
};

/** The arguments of a bundle with the files of its folder. @throws {UsageError} If one writes elsewhere, or reads a file that is not there. */
function argumentsOf(
  path: string,
  { args, command: name }: Manifest,
  { flags }: Command,
  files: Files,
  folder: string,
  given: FlagValues,
): string[] {
  const kept = args.flatMap((arg) => {
    const { name: flag = arg, value } = partsOf(arg) ?? {}, known = flags[flag];
    if (known === undefined || isLocal(flag, known)) {
      throw new UsageError(`Cannot use "${path}": found the argument "${arg}", expected what ${name} reads`);
    }
    if (flag in OWN && given.has(flag)) return [];
    if (value === undefined || !isInput(flag, known) || flag === "data" && value === "hub") return [arg];
    const paths = value.split(`,${INPUTS}/`).map((part, i) => i === 0 ? part : `${INPUTS}/${part}`);
    const missing = paths.find((part) =>
      ![...files.keys()].some((file) => `${file}/`.startsWith(`${part}/`))
    );
    if (missing === undefined) return [`--${flag}=${paths.map((part) => `${folder}/${part}`).join(",")}`];
    throw new UsageError(`Cannot use "${path}": found no ${missing} in it, which its arguments name`);
  });
  const own = Object.keys(OWN).filter((flag) => given.has(flag)).map((flag) => {
    const [value] = given.get(flag)!;
    return value === true ? `--${flag}` : `--${flag}=${value}`;
  });
  return [...kept, ...own];
}

/** A file of results as data; undefined if it is neither JSON nor Parquet. */
const dataOf = async (name: string, bytes: Uint8Array<ArrayBuffer>): Promise<unknown> =>
  name.endsWith(".parquet")
    ? await readParquet(bytes, parquetReadObjects)
    : parseJson(new TextDecoder().decode(bytes));

/** Conditions and versions that are others now. */
async function listConditions(manifest: Manifest, before: unknown, after: unknown): Promise<string[]> {
  const environmentOf = (result: unknown) =>
    Object(Object(result).environment) as { [name: string]: unknown };
  const now = { ...describeRuntime(), version: await readVersion(), codeSha256: await digestCode() };
  const was = { ...environmentOf(before), ...manifest }, is = { ...environmentOf(after), ...now };
  const names = Object.keys({ ...environmentOf(before), ...now });
  return names.filter((name) => !/^(startedAt|runDigest|peakMemoryBytes)$/.test(name)).flatMap((name) => {
    const [a, b] = [was, is].map((of) => JSON.stringify((of as { [name: string]: unknown })[name]));
    return a === b ? [] : [`${name}: ${a} in the bundle, ${b} here`];
  });
}

async function work({ path, files, manifest }: Awaited<ReturnType<typeof readFlags>>, asked: Asked) {
  const { values, progress } = asked, { result, decisions } = manifest;
  const { named, resumes } = readDestination(values, result), { command } = await LOADED[manifest.command]();
  const folder = named ?? makeResultsFolder(),
    args = argumentsOf(path, manifest, command, files, folder, values);
  for (const [name, bytes] of files) {
    if (!name.startsWith(`${INPUTS}/`)) continue;
    makeFolder(`${folder}/${name.replace(/\/[^/]*$/, "")}`);
    await writeWhole(`${folder}/${name}`, bytes);
    if (name.endsWith(".ts")) progress.line(`The bundle has code, which runs: ${folder}/${name}`);
  }
  const all = [
    ...args,
    ...(decisions ? [`--decisions=${folder}/${decisions}`] : []),
    ...(values.has("quiet") ? ["--quiet"] : []),
    `--${resumes ? "resume" : "out"}=${folder}`,
  ];
  progress.line(`Repeats: deno task ${manifest.command} ${all.map(quoteArgument).join(" ")}`);
  const code = await command.main(all);
  if (code !== EXIT.ok) return code;
  const lines: string[] = [];
  let isEqual = true;
  for (const name of [result, ...decisions ? [decisions] : []]) {
    const both = await Promise.all([files.get(inResults(name))!, await readBytes(`${folder}/${name}`)]
      .map((bytes) => dataOf(name, bytes))) as [unknown, unknown];
    const { count, differing } = compareNumbers(...both);
    isEqual &&= differing.length === 0;
    lines.push(
      differing.length === 0
        ? `${name}: all ${plural(count, "number")} are those of the bundle.`
        : `${name}: ${differing.length} of ${plural(count, "number")} differ, by at most ` +
          `${largestDifference(differing).toPrecision(2)} of their size.`,
      ...differing.slice(0, LISTED).map(({ place, values: [a, b] }) =>
        `  ${place}: ${a ?? "nothing"} in the bundle, ${b ?? "nothing"} here`
      ),
      ...(differing.length > LISTED ? [`  … and ${differing.length - LISTED} more`] : []),
    );
    if (name === result) lines.push(...await listConditions(manifest, ...both));
  }
  writeLine(Deno.stdout, lines.join("\n"));
  return isEqual ? EXIT.ok : EXIT.failed;
}

async function readFlags({ values }: Asked) {
  const path = textOf(values, "recipe")!, files = await readZip(path);
  return { path, files, manifest: await readManifest(path, files) };
}

/** Repeats a bundle. */
export const repetition = plainCommand({
  ...ARGUMENTS,
  summary: "Repeats the run of a bundle.",
  usage: "FILE.zip [flags]",
  permissions: "",
  flags: { ...OWN, ...pick(ARGUMENTS.flags, "recipe", "out", "resume", "quiet") },
  read: readFlags,
  work,
});
