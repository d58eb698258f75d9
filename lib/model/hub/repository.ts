/** Models by their name on the Hugging Face hub: `org/name[@revision][:file]`. */
import { UsageError } from "../../errors.ts";
import { sayNearest } from "../../nearest.ts";
import { isObject } from "../formats/_keyed_file.ts";
import { partPaths } from "../formats/gguf.ts";
import { isCommit, RepositoryCache } from "./cache.ts";
import { ask, endpointOf, type HubOptions, HubUnreachableError, persist, readBody } from "./request.ts";

interface HubName {
  /** `org/name` */
  readonly repository: string;
  /** A branch, tag or commit. */
  readonly revision: string;
  /** One GGUF file of it; undefined: its folder of safetensors. */
  readonly file: string | undefined;
}

/** Takes a name apart; undefined where it is none. */
export function parseHubName(text: string): HubName | undefined {
  const part = String.raw`[A-Za-z0-9][\w.-]*`;
  const found = new RegExp(`^(${part}/${part})(?:@([\\w./-]+))?(?::(.+))?$`).exec(text);
  if (found === null || (/\.gguf$/i.test(found[1]!) && found[3] === undefined)) return undefined;
  const [, repository, revision = "main", file] = found;
  if (![revision, ...(file === undefined ? [] : [file])].every(isPlainPath)) return undefined;
  return { repository: repository!, revision, file };
}

/** Bytes of a repository's list of files: the longest have about 100,000. */
const MOST_LIST_BYTES = 2 ** 24;

/** How long a hub may be silent where the cache has all that is wanted. */
const SHORT_PATIENCE_MS = 3000;

const FOLDER_FILES =
  /^(config|generation_config|tokenizer|tokenizer_config|tekken|special_tokens_map|added_tokens|model\.safetensors\.index)\.json$|^tokenizer\.model$|^chat_template\.jinja$|^model(-\d{5}-of-\d{5})?\.safetensors$/;

/** The wanted files of a repository, chosen from the names of its files. */
function choose({ repository, file }: HubName, names: readonly string[]): string[] {
  const fail = (message: string) => new UsageError(`Cannot use "${repository}" of the hub: ${message}`);
  if (file !== undefined) {
    const wanted = partPaths(file) ?? [file], lost = wanted.find((name) => !names.includes(name));
    if (lost === undefined) return wanted;
    throw fail(
      `found no file "${lost}"${sayNearest(lost, names.filter((name) => /\.gguf$/i.test(name)), "; ")}`,
    );
  }
  const folder = names.filter((name) => FOLDER_FILES.test(name));
  if (folder.includes("config.json") && folder.some((name) => name.endsWith(".safetensors"))) return folder;
  const gguf = names.filter((name) => /\.gguf$/i.test(name));
  if (gguf.length === 1) return gguf;
  throw gguf.length === 0
    ? fail("found neither safetensors with a config.json nor a .gguf file, expected one of these")
    : fail(`found ${gguf.length} .gguf files, expected one: name it, as "${repository}:${gguf[0]}"`);
}

/**
 * Path of a model's folder or file in the hub's cache, downloaded where it is not there.
 *
 * @throws {UsageError} If the hub refuses, cannot be reached and the cache has not got it, or has nothing that runs here; or
 * if a file in the cache is not as it was downloaded.
 */
export async function obtainFromHub(
  name: HubName,
  options: HubOptions & { onNotice?: (notice: string) => void },
) {
  const { repository, revision } = name, cache = new RepositoryCache(repository, options);
  const known = await cache.knownCommit(revision);
  const cached = known === undefined ? [] : await cache.filesOf(known);
  const offline = isOffline(options), isWhole = isComplete(name, cached);
  let commit = known, files: string[] | undefined;
  if (!offline && !(isCommit(revision) && isWhole)) {
    try {
      const { sha, names } = await listFiles(name, options, isWhole);
      files = choose(name, names);
      for (const file of files) await cache.obtain(sha, file);
      await cache.keepCommit(revision, sha);
      commit = sha;
    } catch (error) {
      if (!(error instanceof HubUnreachableError)) throw error;
      if (!isWhole) {
        throw new UsageError(
          `Cannot get "${repository}" from the hub: ${error.message}; check the network and try again (what has come is kept)`,
        );
      }
      options.onNotice?.(
        `The hub cannot be reached (${error.message}): taking "${repository}" as it was last.`,
      );
      files = undefined;
    }
  }
  if (files === undefined) {
    if (commit === undefined || !isWhole) {
      throw new UsageError(
        `Cannot use "${repository}@${revision}" offline: found it not whole in the cache, expected it there; leave out ` +
          "--offline and HF_HUB_OFFLINE once",
      );
    }
    files = choose(name, cached);
  }
  for (const file of files) await cache.expectWhole(commit!, file, true);
  const snapshot = cache.snapshot(commit!);
  return /\.gguf$/i.test(files[0]!) ? `${snapshot}/${files[0]}` : snapshot;
}

const isOffline = ({ offline }: HubOptions): boolean =>
  offline ?? /^(1|true|yes|on)$/i.test(Deno.env.get("HF_HUB_OFFLINE") ?? "");

/**
 * Paths of a data set's files in the hub's cache, downloaded where they are not there.
 *
 * @param commit A commit, which never changes: files in the cache are used without a request.
 * @throws {UsageError} If the hub refuses, cannot be reached, or is not to be asked, and a file is not in the cache; or if
 * one there is not as it was downloaded.
 */
export async function obtainDataset(
  repository: string,
  commit: string,
  files: readonly string[],
  options: HubOptions = {},
): Promise<string[]> {
  const cache = new RepositoryCache(repository, options, "datasets"), known = await cache.filesOf(commit);
  const lost = files.filter((file) => !known.includes(file));
  if (lost.length > 0 && isOffline(options)) {
    throw new UsageError(
      `Cannot use the data set "${repository}" offline: found no ${lost[0]} in the cache; ` +
        "leave out --offline and HF_HUB_OFFLINE once, or give --data a folder",
    );
  }
  for (const file of lost) {
    try {
      await cache.obtain(commit, file);
    } catch (error) {
      if (!(error instanceof HubUnreachableError)) throw error;
      throw new UsageError(
        `Cannot get the data set "${repository}" from the hub: ${error.message}; check the network and try again, or ` +
          "give --data a folder",
      );
    }
  }
  return await Promise.all(files.map((file) => cache.expectWhole(commit, file)));
}

/** Whether files that are there make a model; a folder's index is looked at when it is read. */
function isComplete(name: HubName, files: readonly string[]): boolean {
  try {
    const chosen = choose(name, files), count = /-of-(\d{5})\.safetensors$/.exec(chosen.join("\n"))?.[1];
    return count === undefined ||
      chosen.filter((file) => file.endsWith(`-of-${count}.safetensors`)).length === Number(count);
  } catch (error) {
    if (error instanceof UsageError) return false;
    throw error;
  }
}

/** @param isWhole Whether the cache has all that is wanted: the hub is then asked once, for a moment. */
async function listFiles({ repository, revision }: HubName, options: HubOptions, isWhole: boolean) {
  const url = `${endpointOf(options)}/api/models/${repository}/revision/${encodeURIComponent(revision)}`;
  const { stallMs = Infinity } = options;
  const asked = isWhole ? { ...options, stallMs: Math.min(stallMs, SHORT_PATIENCE_MS) } : options;
  const list = () =>
    ask(
      url,
      repository,
      asked,
      {},
      async (response, alive): Promise<unknown> =>
        JSON.parse(await (await readBody(response, url, MOST_LIST_BYTES, alive)).text()),
    );
  const answer = await persist(asked, list, isWhole ? 1 : undefined);
  const { sha, siblings } = isObject(answer) ? answer : {};
  const names = Array.isArray(siblings)
    ? siblings.map((file) => isObject(file) ? file["rfilename"] : undefined)
    : [];
  if (typeof sha !== "string" || !isCommit(sha) || !names.every((name) => typeof name === "string")) {
    throw new UsageError(`Cannot read ${url}: found no commit and files, expected a Hugging Face hub`);
  }
  return { sha, names: names.filter(isPlainPath) };
}

/** Whether a name leads to a place below its folder, and is none that no file can have. */
function isPlainPath(path: string): boolean {
  return !/[\\\0]/.test(path) && path.length <= 1000 &&
    path.split("/").every((part) =>
      part !== "" && part !== "." && part !== ".." && new TextEncoder().encode(part).length <= 200
    );
}
