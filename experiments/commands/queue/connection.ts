/** The queue of trials on a Redis or Valkey server: where it is, and what is said where it cannot be had. */
import { Redis } from "ioredis";
import { PlaceLostError, UsageError } from "../../../lib/errors.ts";
import { readText } from "../cli/files.ts";
import type { RaceRequest, RunConditions, StudyFlags } from "../../../lib/sweep/mod.ts";
import type { OptionsRecord } from "../../../lib/methods/mod.ts";

/** The queue's name, within a prefix. */
export const QUEUE_NAME = "trials";

/** What keys of the queue begin with where nothing else is said. */
const DEFAULT_PREFIX = "tokenfilter";

export interface QueueAddress {
  /** `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS. */
  readonly url: string;
  /** What its keys begin with. */
  readonly prefix: string;
  /** Seconds that it may be away before work on it ends. */
  readonly patienceS: number;
}

export interface TrialJob {
  /** The sweep that it is of: several may be of one study, and each has its own results. */
  readonly sweep: string;
  /** Digest of the study's conditions, by which its description lies beside the queue. */
  readonly study: string;
  readonly digest: string;
  readonly options: OptionsRecord;
  /** The race that the sweep's trials run, if any. */
  readonly race?: RaceRequest;
}

/** What a worker must know of a study, and have itself. */
export interface QueuedStudy {
  readonly conditions: RunConditions;
  readonly flags: StudyFlags;
  /** SHA-256 of the sources that compute. */
  readonly codeSha256: string;
}

export interface JobProgress {
  /** Who is at it. */
  readonly owner: string;
  /** Finished share of its chunks. */
  readonly fraction?: number;
  /** Why that worker cannot take it. */
  readonly refused?: string;
}

export const studyKey = (prefix: string, study: string) => `${prefix}:study:${study}`;
/** Key of the list of a sweep's trials that have ended, where they race. */
export const endedKey = (prefix: string, sweep: string) => `${prefix}:ended:${sweep}`;
export const textKey = (prefix: string, sha256: string) => `${prefix}:text:${sha256}`;

/** Seconds that descriptions and texts are kept after their last use. */
export const KEEP_S = 30 * 24 * 3600;

/** Seconds that a server may be away where nothing else is said. */
const PATIENCE_S = 120;

/** Checks an address. @throws {UsageError} If it is none. */
export function readAddress(url: string, prefix = DEFAULT_PREFIX, patienceS = PATIENCE_S): QueueAddress {
  if (!/^[\w.-]+$/.test(prefix)) {
    throw new UsageError(`Cannot use --queue-prefix "${prefix}": expected letters, digits, . - and _`);
  }
  if (!URL.canParse(url) || !/^rediss?:$/.test(new URL(url).protocol) || new URL(url).hostname === "") {
    throw new UsageError(
      `Cannot use --queue: found no address, expected redis://[user:password@]host[:port] or rediss://…`,
    );
  }
  return { url, prefix, patienceS };
}

/** An address without its password. */
const shown = (url: string) => url.replace(/^(\w+:\/\/)[^/]*@/, "$1");

function explain(url: string, said: string): PlaceLostError {
  const reason = /WRONGPASS|NOAUTH|AUTH /.test(said)
    ? "the server refuses the user or password (write them as redis://user:password@host)"
    : /NOPERM/.test(said)
    ? `the server does not let this user in: ${said}`
    : /ECONNREFUSED|ENOTFOUND|ETIMEDOUT|EHOSTUNREACH|closed/.test(said)
    ? `there is no answer (${said || "closed"})`
    : said;
  return new PlaceLostError(`Cannot reach the queue at ${shown(url)}: ${reason}`);
}

/**
 * What TLS needs beside the address: the authority of DENO_CERT, which Deno itself does not tell connections of this kind.
 *
 * @throws {UsageError} If that file cannot be read.
 */
async function readTls(url: string): Promise<{ readonly tls?: { readonly ca: string } }> {
  const path = Deno.env.get("DENO_CERT");
  return url.startsWith("rediss:") && path ? { tls: { ca: await readText(path) } } : {};
}

type Tls = Awaited<ReturnType<typeof readTls>>;

/** Connections to a server: opened once it has answered, and given up together. */
export class Connections implements Disposable {
  readonly #url: string;
  readonly #tls: Tls;
  readonly #patienceMs: number;
  readonly #open: Redis[] = [];
  readonly #gone = Promise.withResolvers<never>();
  #lostAt: number | undefined;

  private constructor(url: string, tls: Tls, patienceS: number) {
    this.#url = url;
    this.#tls = tls;
    this.#patienceMs = 1000 * patienceS;
    this.#gone.promise.catch(() => {});
  }

  /** Rejects once the server has been away for too long. */
  get gone(): Promise<never> {
    return this.#gone.promise;
  }

  /** Asks a server for an answer. @throws {UsageError} If there is none. */
  static async open({ url, patienceS }: QueueAddress): Promise<Connections> {
    const tls = await readTls(url);
    const probe = new Redis(url, {
      ...tls,
      lazyConnect: true,
      retryStrategy: () => null,
      connectTimeout: 10_000,
    });
    let said = "";
    probe.on("error", (error) => said ||= error.message);
    try {
      await probe.connect();
      await probe.ping();
    } catch (error) {
      throw explain(url, said || (error as Error).message);
    } finally {
      probe.disconnect();
    }
    return new Connections(url, tls, patienceS);
  }

  /** A connection that waits for a server that is away, for as long as patience lasts. */
  connect(): Redis {
    let said = "";
    const redis = new Redis(this.#url, {
      ...this.#tls,
      maxRetriesPerRequest: null,
      retryStrategy: (times) => {
        this.#lostAt ??= Date.now();
        if (Date.now() - this.#lostAt > this.#patienceMs) {
          this.#gone.reject(explain(this.#url, said || "closed"));
          return null;
        }
        return Math.min(100 * times, 1000);
      },
    });
    redis.on("error", (error) => said = error.message);
    redis.on("ready", () => this.#lostAt = undefined);
    this.#open.push(redis);
    return redis;
  }

  [Symbol.dispose](): void {
    this.#open.forEach((redis) => redis.disconnect());
  }
}
