/** The queue's server, Redis or Valkey: its address, its longest absence, and messages about its absence. */
import { Redis, type RedisOptions } from "ioredis";
import { PlaceLostError, UsageError } from "../../../lib/errors.ts";
import { readText } from "../cli/files.ts";
import { decodePercent } from "../cli/machine/http.ts";

/** Default prefix of the queue's keys. */
const DEFAULT_PREFIX = "tokenfilter";

export interface QueueAddress {
  /** Its address without user and password, as shown to users. */
  readonly place: string;
  /** The same for the client, with them. */
  readonly options: Pick<RedisOptions, "host" | "port" | "db" | "username" | "password"> & {
    readonly isTls: boolean;
  };
  /** Prefix of its keys. */
  readonly prefix: string;
  /** Seconds that it may be away before work on it ends. */
  readonly patienceS: number;
}

/** Seconds that a server may be away by default. */
const PATIENCE_S = 120;

const DEFAULT_PORT = 6379;

/** The variable that has the queue's password. */
const PASSWORD = "TOKENFILTER_QUEUE_PASSWORD";

/** The password of a file, else of the variable. @throws {UsageError} If the file cannot be read, or is empty. */
async function readPassword(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return Deno.env.get(PASSWORD) || undefined;
  const password = (await readText(file)).trim();
  if (password === "") {
    throw new UsageError(`Cannot use --queue-password-file "${file}": found no password there`);
  }
  return password;
}

/** Values of the flags besides the address. */
interface AddressFlags {
  readonly prefix?: string | undefined;
  readonly patienceS?: number | undefined;
  readonly passwordFile?: string | undefined;
}

/** Reads an address. @throws {UsageError} If it is none. The message does not repeat it: it may contain a password. */
export async function readAddress(
  url: string,
  { prefix = DEFAULT_PREFIX, patienceS = PATIENCE_S, passwordFile }: AddressFlags = {},
): Promise<QueueAddress> {
  if (!/^[\w.-]+$/.test(prefix)) {
    throw new UsageError(`Cannot use --queue-prefix "${prefix}": expected letters, digits, . - and _`);
  }
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  // A password that contains / ? or # makes the host end too early.
  const isAddress = parsed !== undefined && /^rediss?:$/.test(parsed.protocol) && parsed.hostname !== "" &&
    /^(\/\d*)?$/.test(parsed.pathname) && parsed.search === "" && parsed.hash === "";
  if (!isAddress) {
    throw new UsageError(
      "Cannot use --queue: found no address, expected redis://[user@]host[:port][/database] or rediss://… " +
        `(its password goes into ${PASSWORD}, or --queue-password-file)`,
    );
  }
  const { protocol, host, hostname, port, pathname, username, password: own } = parsed;
  if (own !== "" && passwordFile !== undefined) {
    throw new UsageError(
      "Cannot use --queue-password-file: found a password in the address, expected one of them",
    );
  }
  const password = own === "" ? await readPassword(passwordFile) : decodePercent(own);
  return {
    place: `${protocol}//${host}${pathname}`,
    options: {
      host: hostname.replaceAll(/[[\]]/g, ""),
      port: Number(port || DEFAULT_PORT),
      db: Number(pathname.slice(1)),
      isTls: protocol === "rediss:",
      ...(username !== "" && { username: decodePercent(username) }),
      ...(password !== undefined && { password }),
    },
    prefix,
    patienceS,
  };
}

function explain(place: string, said: string): PlaceLostError {
  const reason = /WRONGPASS|NOAUTH|AUTH /.test(said)
    ? `the server refuses the user or password (redis://user@host, and the password in ${PASSWORD})`
    : /NOPERM/.test(said)
    ? `the server does not let this user in: ${said}`
    : /DB index/.test(said)
    ? `the server has no such database (${said})`
    : /ECONNREFUSED|ECONNRESET|EPIPE|ENOTFOUND|ETIMEDOUT|EHOSTUNREACH|closed|silent/.test(said)
    ? `there is no answer (${said || "closed"})`
    : said;
  return new PlaceLostError(`Cannot reach the queue at ${place}: ${reason}`);
}

/**
 * Options of TLS besides the address: the authority of DENO_CERT, which Deno does not apply to connections of this
 * kind.
 *
 * @throws {UsageError} If that file cannot be read.
 */
async function readTls(isTls: boolean): Promise<Pick<RedisOptions, "tls">> {
  const path = Deno.env.get("DENO_CERT");
  return isTls ? { tls: path ? { ca: await readText(path) } : {} } : {};
}

/** Milliseconds that a server has for its first answer. */
const ANSWER_MS = 10_000;

/** Milliseconds between two pings of the server. */
const PULSE_MS = 1000;

/** Missed pings after which a server counts as away: one answer may be late if this process had no turn. */
const LEAST_MISSED = 3;

/** Waits for a step, at most `ms`. @returns Whether it has ended by then. @throws As the step. */
export async function endsWithin(ms: number, step: Promise<unknown>): Promise<boolean> {
  const late = Promise.withResolvers<boolean>(), timer = setTimeout(() => late.resolve(false), ms);
  try {
    return await Promise.race([step.then(() => true), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Connections to a server: opened once it has answered, and given up together once it has been away for too long. */
export class Connections implements Disposable {
  readonly address: QueueAddress;
  readonly #options: RedisOptions;
  readonly #open: Redis[] = [];
  readonly #gone = Promise.withResolvers<never>();
  readonly #pulse: ReturnType<typeof setInterval>;
  /** The last error of the server or the connection. */
  #said = "";

  private constructor(address: QueueAddress, options: RedisOptions) {
    this.address = address;
    this.#options = options;
    this.#gone.promise.catch(() => {});
    this.#pulse = this.#watch();
  }

  /** Rejects once the server has been away for too long: closed, or without an answer. */
  get gone(): Promise<never> {
    return this.#gone.promise;
  }

  /** Asks a server for an answer. @throws {UsageError} If there is none, or it has no such database. */
  static async open(address: QueueAddress): Promise<Connections> {
    const { isTls, db, ...place } = address.options;
    const options = { ...place, ...await readTls(isTls) };
    const probe = new Redis({
      ...options,
      lazyConnect: true,
      retryStrategy: () => null,
      connectTimeout: ANSWER_MS,
    });
    let said = "";
    probe.on("error", (error) => said ||= error.message);
    try {
      const answer = probe.connect().then(() => probe.select(db ?? 0));
      if (!await endsWithin(ANSWER_MS, answer)) throw new Error(`silent for ${ANSWER_MS / 1000} s`);
    } catch (error) {
      throw explain(address.place, said || (error as Error).message);
    } finally {
      probe.disconnect();
    }
    return new Connections(address, { ...options, db: db ?? 0 });
  }

  /** A connection that waits for a server that is away, for as long as patience lasts. */
  connect(): Redis {
    const redis = new Redis({
      ...this.#options,
      maxRetriesPerRequest: null,
      retryStrategy: (times) => Math.min(100 * times, 1000),
    });
    redis.on("error", (error) => this.#said = error.message);
    this.#open.push(redis);
    return redis;
  }

  /** The message of an error of the server or its client, in one line; other errors unchanged. */
  explain(error: unknown): unknown {
    const { name, message } = error as Error;
    return name === "ReplyError" || /Connection is closed/.test(message)
      ? explain(this.address.place, message)
      : error;
  }

  /** Waits for a step, unless the server disappears or the signal comes before. @throws As the step, in words. */
  async orGone<T>(step: Promise<T>, signal: AbortSignal): Promise<T> {
    const told = Promise.withResolvers<never>(), tell = () => told.reject(signal.reason);
    signal.addEventListener("abort", tell);
    try {
      signal.throwIfAborted();
      return await Promise.race([step, this.gone, told.promise]);
    } catch (error) {
      throw this.explain(error);
    } finally {
      signal.removeEventListener("abort", tell);
    }
  }

  /** Pings the server again and again. */
  #watch(): ReturnType<typeof setInterval> {
    const redis = this.connect(), patienceMs = 1000 * this.address.patienceS;
    let answeredAt = performance.now(), missed = 0, isAsked = false;
    const ask = async () => {
      isAsked = true;
      try {
        await redis.ping();
        answeredAt = performance.now();
        missed = 0;
        this.#said = "";
      } catch (error) {
        this.#said = (error as Error).message;
      }
      isAsked = false;
    };
    return setInterval(() => {
      if (!isAsked) void ask();
      const awayMs = performance.now() - answeredAt;
      if (++missed < LEAST_MISSED || awayMs <= patienceMs) return;
      const why = this.#said || `silent for ${Math.round(awayMs / 1000)} s`;
      this.#gone.reject(explain(this.address.place, why));
    }, Math.min(PULSE_MS, patienceMs / (LEAST_MISSED + 1)));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#pulse);
    this.#open.forEach((redis) => redis.disconnect());
  }
}
