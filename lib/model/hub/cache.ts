/**
 * The cache of Hugging Face's own tools, so that each finds the downloads of the others:
 *
 * ```
 * models--org--name/refs/<revision>             the commit that it was last
 * models--org--name/snapshots/<commit>/<file>   link to
 * models--org--name/blobs/<etag>                the file; <etag>.incomplete while it is downloaded
 * .locks/models--org--name/<etag>.lock          held by who downloads it
 * ```
 *
 * For data sets, "datasets" replaces "models". The requests are plain HTTPS. `@huggingface/hub` (2.17.5) writes this
 * layout too, but does not resume a broken download, check the downloaded bytes, or lock. It also puts a single file
 * under the commit that changed it last.
 */
import { ifThere, prepareCacheDir, writeAtomically } from "../../cache.ts";
import { UsageError } from "../../errors.ts";
import { blobOf, DIGEST, expectBlob } from "../formats/_blob.ts";
import { ask, digestOf, download, endpointOf, hfHome, type HubOptions, persist } from "./request.ts";
import { disposing } from "../../disposing.ts";

interface Described {
  /** Its name in the cache: SHA-256 of a large file, else git's digest. */
  readonly etag: string;
  readonly size: number;
}

export class RepositoryCache {
  readonly #repository: string;
  readonly #root: string;
  readonly #folder: string;
  private readonly options: HubOptions;

  /** @param repository `org/name` @throws {UsageError} If no variable gives the cache's folder. */
  constructor(repository: string, options: HubOptions, kind: "models" | "datasets" = "models") {
    this.options = options;
    // Errors and addresses name a data set as the hub's own do.
    this.#repository = kind === "models" ? repository : `${kind}/${repository}`;
    const home = hfHome();
    const root = options.hubCache || Deno.env.get("HF_HUB_CACHE") || Deno.env.get("HUGGINGFACE_HUB_CACHE") ||
      (home && `${home}/hub`);
    if (!root) {
      throw new UsageError(
        "Cannot choose the hub's cache: found no HOME, expected HF_HUB_CACHE, HF_HOME or HOME to be set",
      );
    }
    this.#root = root;
    this.#folder = `${kind}--${repository.replaceAll("/", "--")}`;
  }

  get #path(): string {
    return `${this.#root}/${this.#folder}`;
  }

  /** The commit of a revision at the time of the last request to the hub. */
  async knownCommit(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    return (await ifThere(Deno.readTextFile(`${this.#path}/refs/${revision}`)))?.trim();
  }

  async keepCommit(revision: string, commit: string): Promise<void> {
    if (isCommit(revision) || await this.knownCommit(revision) === commit) return;
    const path = `${this.#path}/refs/${revision}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await writeAtomically(path, commit);
  }

  snapshot(commit: string): string {
    return `${this.#path}/snapshots/${commit}`;
  }

  async filesOf(commit: string, below = ""): Promise<string[]> {
    const names: string[] = [], folder = `${this.snapshot(commit)}/${below}`;
    const entries = await ifThere(Array.fromAsync(Deno.readDir(folder)));
    for (const { name, isDirectory } of entries ?? []) {
      if (isDirectory) names.push(...await this.filesOf(commit, `${below}${name}/`));
      else if (await ifThere(Deno.stat(`${folder}${name}`)) !== undefined) names.push(`${below}${name}`);
    }
    return names;
  }

  /** Gets a commit's file, unless it is there. */
  async obtain(commit: string, file: string): Promise<void> {
    const path = `${this.snapshot(commit)}/${file}`;
    if (await ifThere(Deno.stat(path)) !== undefined) return;
    const place = file.split("/").map(encodeURIComponent).join("/");
    const url = `${endpointOf(this.options)}/${this.#repository}/resolve/${commit}/${place}`;
    const remote = await this.#describe(url);
    const blob = `${this.#path}/blobs/${remote.etag}`, lock = `${this.#root}/.locks/${this.#folder}`;
    for (const folder of [`${this.#path}/blobs`, lock]) await prepareCacheDir(folder, "HF_HUB_CACHE");
    await disposing(
      await Deno.open(`${lock}/${remote.etag}.lock`, { create: true, write: true }),
      async (held) => {
        await held.lock(true);
        if (await ifThere(Deno.stat(blob)) === undefined) {
          const partial = `${blob}.incomplete`, { etag: digest, size } = remote;
          await download(
            { url, repository: this.#repository, name: file, digest, size },
            partial,
            this.options,
          );
          await Deno.rename(partial, blob);
        }
        await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
        const up = "../".repeat(file.split("/").length + 1);
        const link = `${path}.${crypto.randomUUID().slice(0, 8)}`;
        await Deno.symlink(`${up}blobs/${remote.etag}`, link);
        await Deno.rename(link, path);
      },
    );
  }

  /**
   * Path of a commit's file, which is as it was downloaded: its name in the cache is its digest.
   *
   * @param isRead Whether the digests of large files are compared later, when these are read.
   * @throws {UsageError} If it is another one.
   */
  async expectWhole(commit: string, file: string, isRead = false): Promise<string> {
    const path = `${this.snapshot(commit)}/${file}`, blob = await blobOf(path);
    const isLarge = blob?.digest.length === 64;
    if (blob === undefined || isLarge && isRead) return path; // a cache without links has the file itself there
    const found = await digestOf(blob.path, (await Deno.stat(blob.path)).size, isLarge);
    expectBlob(`${this.#repository}/${file}`, blob, found);
    return path;
  }

  async #describe(url: string): Promise<Described> {
    const init = { method: "HEAD", redirect: "manual", headers: { "accept-encoding": "identity" } } as const;
    const headers = (at: string) =>
      persist(
        this.options,
        () => ask(at, this.#repository, this.options, init, ({ headers }) => Promise.resolve(headers)),
      );
    // The storage of large files is on another host, and the needed headers are in the redirect to it. A repository
    // that has been renamed redirects to the same host.
    let seen = await headers(url), at = new URL(url);
    for (let hops = 0; hops < 3; hops++) {
      const to = seen.get("location"), next = to?.startsWith("/") ? URL.parse(to, at) : null;
      if (next?.origin !== at.origin) break;
      at = next;
      seen = await headers(at.href);
    }
    const etag = (seen.get("x-linked-etag") ?? seen.get("etag") ?? "").replace(/^W\//, "").replaceAll(
      '"',
      "",
    );
    if (!DIGEST.test(etag)) {
      throw new UsageError(`Cannot get ${url}: found no digest of it, expected a hub that sends an ETag`);
    }
    const said = seen.get("x-linked-size") ?? seen.get("content-length"), size = Number(said);
    if (said === null || !/^\d+$/.test(said) || !Number.isSafeInteger(size)) {
      const found = said === null ? "no size" : `size "${said}"`;
      throw new UsageError(`Cannot get ${url}: found ${found}, expected a hub that sends its bytes`);
    }
    return { etag, size };
  }
}

export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}
