/** Makes the bundle of a run, `--bundle FILE.zip`: all that another machine needs to repeat it, and its results. */
import { UsageError } from "../../../lib/errors.ts";
import { TASKS } from "../../../lib/eval/tasks/mod.ts";
import { ownTasks } from "../../../lib/eval/tasks/own_task.ts";
import { sha256 } from "../../../lib/sha256.ts";
import type { StudyConditions } from "../../../lib/sweep/trials/store_records.ts";
import { describeRuntime, readVersion } from "../../../lib/version.ts";
import type { Declaration } from "../cli/command.ts";
import { exists, expectWritableFile, listPaths, readBytes } from "../cli/files.ts";
import type { FlagValues } from "../cli/flags/flag.ts";
import { joinValues, textOf } from "../cli/flags/parse.ts";
import { digestCode } from "../cli/machine/code_digest.ts";
import { fileOf, HUB } from "../task/data.ts";
import { listTaskFiles } from "../task/file.ts";
import {
  type BUNDLED,
  INPUTS,
  inResults,
  isInput,
  isLocal,
  MANIFEST,
  type Manifest,
  partsOf,
} from "./manifest.ts";
import { writeZip } from "./zip.ts";

const baseName = (path: string) => path.split(/[/\\]/).at(-1)!;

/** An import of another file, which exists while the code runs. */
const IMPORT = /^\s*(?:import|export)\s(?!type\b)[^;'"]*["'](\.{1,2}\/[^"']+)["']/m;

/** The files that a run reads, by their names in the bundle. */
class Inputs {
  readonly files = new Map<string, Uint8Array<ArrayBuffer>>();

  /** Adds the files that a flag names. @returns The value that names them in the bundle. */
  async add(flag: string, value: string): Promise<string> {
    if (flag === "data") return await this.#addData(value);
    const names: string[] = [];
    const paths = flag === "task-file"
      ? await listTaskFiles(value)
      : flag === "rule"
      ? listPaths(value)
      : [value];
    for (const [i, path] of paths.entries()) {
      const folder = `${INPUTS}/${flag}/${i}`, name = `${folder}/${baseName(path)}`;
      const bytes = await readBytes(path);
      const other = path.endsWith(".ts") && new TextDecoder().decode(bytes).match(IMPORT)?.[1];
      if (other) {
        throw new UsageError(
          `Cannot bundle "${path}": it imports ${other}, expected a file that needs no other`,
        );
      }
      this.files.set(name, bytes);
      if (flag === "task-file") await this.#addRows(path, i, folder);
      names.push(name);
    }
    return names.join(",");
  }

  /** Adds the rows of a task's file, whose place is relative to that file. */
  async #addRows(path: string, index: number, folder: string): Promise<void> {
    const { items } = ownTasks()[index]!.task, rows = items && "path" in items ? items.path : undefined;
    if (rows === undefined) return;
    const own = path.slice(0, path.length - baseName(path).length), name = rows.slice(own.length);
    if (!rows.startsWith(own) || /^[/\\]|^[a-z]:|(^|[/\\])\.\.?([/\\]|$)/i.test(name)) {
      throw new UsageError(
        `Cannot bundle "${path}": its rows are in "${rows}", expected them in its own folder`,
      );
    }
    this.files.set(`${folder}/${name}`, await readBytes(rows));
  }

  async #addData(folder: string): Promise<string> {
    if (folder === HUB) return folder;
    const names = [...TASKS, ...ownTasks().map(({ task }) => task)].flatMap((task) => fileOf(task) ?? []);
    for (const name of new Set(names)) {
      if (exists(`${folder}/${name}`)) {
        this.files.set(`${INPUTS}/data/${name}`, await readBytes(`${folder}/${name}`));
      }
    }
    return `${INPUTS}/data`;
  }
}

/** A bundle that is to be written when its run has ended. */
export interface OpenBundle {
  /**
   * Writes it.
   *
   * @param folder Folder of the results.
   * @param names Names of their files; the last one is the result.
   * @returns A line that names it.
   */
  close(folder: string, names: readonly string[], conditions: StudyConditions): Promise<string>;
}

/**
 * Reads the files that a run is about to read, so that a fault is found before the run.
 *
 * @throws {UsageError} If the bundle cannot be written, or a file cannot be taken into it.
 */
export async function openBundle(
  { name: command, flags }: Declaration,
  args: readonly string[],
  values: FlagValues,
): Promise<OpenBundle> {
  const path = textOf(values, "bundle")!, inputs = new Inputs(), kept: string[] = [];
  if (!path.endsWith(".zip")) {
    throw new UsageError(`Cannot use --bundle ${path}: expected a name that ends in .zip`);
  }
  expectWritableFile(path);
  for (const arg of joinValues(args, flags)) {
    const { name = "", value } = partsOf(arg) ?? {}, flag = flags[name]!;
    if (isLocal(name, flag)) continue;
    // Weights stay where they are: a model's folder or file is known by its name and digest.
    if (name === "model" && exists(value!)) kept.push(`--model=${baseName(value!.replace(/[/\\]+$/, ""))}`);
    else {kept.push(
        value !== undefined && isInput(name, flag) ? `--${name}=${await inputs.add(name, value)}` : arg,
      );}
  }
  const codeSha256 = await digestCode(), version = await readVersion();
  return {
    async close(folder, names, conditions) {
      const files = new Map(inputs.files), decided = textOf(values, "decisions");
      const decisions = decided && `decisions.${decided.split(".").at(-1)}`;
      for (const name of names) files.set(inResults(name), await readBytes(`${folder}/${name}`));
      if (decisions) files.set(inResults(decisions), await readBytes(decided));
      const digests = await Promise.all(
        [...files].map(async ([name, bytes]) => [name, await sha256(bytes)] as const),
      );
      const manifest: Manifest = {
        ...{ format: 1, command: command as (typeof BUNDLED)[number], args: kept, result: names.at(-1)! },
        ...(decisions && { decisions }),
        ...{ version, ...describeRuntime(), codeSha256, conditions, files: Object.fromEntries(digests) },
      };
      const text = new TextEncoder().encode(`${JSON.stringify(manifest, null, 2)}\n`);
      await writeZip(path, new Map([[MANIFEST, text], ...files]));
      return `Bundle: ${path} (deno task reproduce ${path})`;
    },
  };
}
