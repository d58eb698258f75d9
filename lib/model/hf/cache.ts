/**
 * The cache of Hugging Face's own tools, so that each finds what the others have downloaded:
 *
 * ```
 * models--org--name/refs/<revision>             the commit that it was last
 * models--org--name/snapshots/<commit>/<file>   link to
 * models--org--name/blobs/<etag>                the file; <etag>.incomplete while it is downloaded
 * .locks/models--org--name/<etag>.lock          held by who downloads it
 * ```
 *
 * Of data sets "datasets" stands for "models". Plain HTTPS: `@huggingface/hub` (2.17.5) writes this layout too, but neither goes on with a broken download, nor checks
 * what it got, nor locks, and puts a single file under the commit that changed it last.
 */
import { createHash } from "node:crypto";
import { ifThere, writeAtomically } from "../../cache.ts";
import { UsageError } from "../../errors.ts";
import { ask, endpointOf, hfHome, type HubOptions, persist, TryAgain } from "./request.ts";

/** What the hub says of a file. */
interface RemoteFile {
  /** Its name in the cache: SHA-256 of a large file, else git's digest. */
  readonly etag: string;
  readonly size: number | undefined;
}

/** One repository's part of the cache. */
export class RepositoryCache {
  readonly #repository: string;
  readonly #options: HubOptions;
  readonly #root: string;
  readonly #folder: string;

  /** @param repository `org/name` */
  constructor(repository: string, options: HubOptions, kind: "models" | "datasets" = "models") {
    // Errors and addresses name a data set as the hub's own do.
    this.#repository = kind === "models" ? repository : `${kind}/${repository}`;
    this.#options = options;
    this.#root = options.hubCache ??
      (Deno.env.get("HF_HUB_CACHE") || Deno.env.get("HUGGINGFACE_HUB_CACHE") || `${hfHome()}/hub`);
    this.#folder = `${kind}--${repository.replaceAll("/", "--")}`;
  }

  get #path(): string {
    return `${this.#root}/${this.#folder}`;
  }

  /** The commit of a revision, as it was when somebody last asked the hub. */
  async knownCommit(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    return (await ifThere(Deno.readTextFile(`${this.#path}/refs/${revision}`)))?.trim();
  }

  /** Keeps the commit of a revision. */
  async keepCommit(revision: string, commit: string): Promise<void> {
    if (isCommit(revision) || await this.knownCommit(revision) === commit) return;
    const path = `${this.#path}/refs/${revision}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await writeAtomically(path, commit);
  }

  /** Folder of a commit's files. */
  snapshot(commit: string): string {
    return `${this.#path}/snapshots/${commit}`;
  }

  /** Names of a commit's files that are there. */
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
    const url = `${endpointOf(this.#options)}/${this.#repository}/resolve/${commit}/${
      file.split("/").map(encodeURIComponent).join("/")
    }`;
    const remote = await this.#describe(url);
    const blob = `${this.#path}/blobs/${remote.etag}`, lock = `${this.#root}/.locks/${this.#folder}`;
    await Deno.mkdir(`${this.#path}/blobs`, { recursive: true });
    await Deno.mkdir(lock, { recursive: true });
    using held = await Deno.open(`${lock}/${remote.etag}.lock`, { create: true, write: true });
    await held.lock(true);
    if (await ifThere(Deno.stat(blob)) === undefined) await this.#download(url, file, remote, blob);
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    const up = "../".repeat(file.split("/").length + 1);
    const link = `${path}.${crypto.randomUUID().slice(0, 8)}`;
    await Deno.symlink(`${up}blobs/${remote.etag}`, link);
    await Deno.rename(link, path);
  }

  /** Asks for a file's digest and size. */
  async #describe(url: string): Promise<RemoteFile> {
    const init = { method: "HEAD", redirect: "manual", headers: { "accept-encoding": "identity" } } as const;
    const headers = (at: string) =>
      persist(
        this.#options,
        () => ask(at, this.#repository, this.#options, init, ({ headers }) => Promise.resolve(headers)),
      );
    let seen = await headers(url);
    // The storage of large files is on another host, and what is wanted stands in the redirect to it; a repository that
    // has been renamed is found on the same one.
    for (let hops = 0, to = seen.get("location"); to?.startsWith("/") && hops < 3; hops++) {
      seen = await headers(new URL(to, url).href);
      to = seen.get("location");
    }
    const etag = (seen.get("x-linked-etag") ?? seen.get("etag") ?? "").replace(/^W\//, "").replaceAll(
      '"',
      "",
    );
    if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(etag)) {
      throw new UsageError(`Cannot get ${url}: found no digest of it, expected a hub that sends an ETag`);
    }
    const size = seen.get("x-linked-size") ?? seen.get("content-length");
    return { etag, size: size === null ? undefined : Number(size) };
  }

  /** Downloads a blob; what an earlier try left is gone on with. */
  async #download(url: string, file: string, remote: RemoteFile, blob: string): Promise<void> {
    const partial = `${blob}.incomplete`, { onProgress } = this.#options, { size } = remote;
    let wrong = 0;
    await persist(this.#options, async (cameFurther) => {
      let doneBytes = (await ifThere(Deno.stat(partial)))?.size ?? 0;
      if (size !== undefined && doneBytes > size) await Deno.remove(partial), doneBytes = 0;
      if (doneBytes === 0 || doneBytes !== size) {
        const headers: Record<string, string> = { "accept-encoding": "identity" };
        if (doneBytes > 0) headers.range = `bytes=${doneBytes}-`;
        await ask(url, this.#repository, this.#options, { headers }, async (response, alive) => {
          const goesOn = response.status === 206 &&
            response.headers.get("content-range")?.startsWith(`bytes ${doneBytes}-`);
          if (response.status === 206 && !goesOn) {
            throw new TryAgain("found another range than was asked for");
          }
          if (!goesOn) doneBytes = 0;
          using out = await Deno.open(partial, {
            create: true,
            write: true,
            append: goesOn,
            truncate: !goesOn,
          });
          for await (const chunk of response.body ?? []) {
            alive();
            for (let at = 0; at < chunk.length;) at += await out.write(chunk.subarray(at));
            doneBytes += chunk.length;
            cameFurther();
            if (doneBytes > (size ?? Infinity)) break;
            const source = new URL(url).host, totalBytes = size ?? doneBytes;
            onProgress?.({ stage: "download", source, doneBytes, totalBytes });
          }
        });
      }
      if (size !== undefined && doneBytes < size) {
        throw new TryAgain(`found ${doneBytes} bytes of ${file}, expected ${size}`);
      }
      const found = await digestOf(partial, doneBytes, remote.etag.length === 64);
      if (found === remote.etag) return;
      await Deno.remove(partial);
      if (++wrong === 2) {
        throw new UsageError(
          `Cannot get ${url}: found a file of digest ${found} twice, expected ${remote.etag}: is there a proxy between?`,
        );
      }
      throw new TryAgain(`found digest ${found} of ${file}, expected ${remote.etag}`);
    });
    await Deno.rename(partial, blob);
  }
}

/** Whether a revision is a commit's own name. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** SHA-256 of a file in hex, or git's digest of it. */
async function digestOf(path: string, size: number, isSha256: boolean): Promise<string> {
  const hash = createHash(isSha256 ? "sha256" : "sha1");
  if (!isSha256) hash.update(`blob ${size}\0`);
  for await (const chunk of (await Deno.open(path)).readable) hash.update(chunk);
  return hash.digest("hex");
}
