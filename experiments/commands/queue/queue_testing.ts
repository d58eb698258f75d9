/** A redis-server of one's own that can be killed and started again, and workers on its queue. */
import { delay } from "../study/study_testing.ts";
import { spawnTask } from "../testing.ts";

/** Why tests of the queue cannot run here. */
export const NEEDS_REDIS = !await hasProgram("redis-server") && "needs redis-server";

/** Whether a program is there. */
export async function hasProgram(name: string, asked = "--version"): Promise<boolean> {
  try {
    return (await new Deno.Command(name, { args: [asked], stdout: "null", stderr: "null" }).output())
      .success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** A port without a listener, below those that systems give to port 0: no other test is given it meanwhile. */
export function freePort(): number {
  for (;;) {
    const port = 10_000 + Math.floor(20_000 * Math.random());
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}

/** A server with a password, whose data are on disk before it answers. */
export class RedisServer implements AsyncDisposable {
  readonly url: string;
  readonly #args: readonly string[];
  readonly #prefix: readonly string[];
  #child: Deno.ChildProcess;

  private constructor(url: string, args: readonly string[], prefix: readonly string[]) {
    this.url = url;
    this.#args = args;
    this.#prefix = prefix;
    this.#child = this.#spawn();
  }

  /**
   * Starts one.
   *
   * @param prefix A command that runs it elsewhere, as `ip netns exec NAME`
   * @param host Where it listens
   * @param isDurable Whether it has its data after it was killed
   */
  static async start(
    folder: string,
    prefix: readonly string[] = [],
    host = "127.0.0.1",
    isDurable = true,
  ): Promise<RedisServer> {
    const port = freePort(), password = "a-password";
    const args = ["--port", port, "--bind", host, "--dir", folder, "--requirepass", password, "--save", ""];
    const durable = isDurable ? ["--appendonly", "yes", "--appendfsync", "always"] : [];
    const url = `redis://default:${password}@${host}:${port}`;
    const server = new RedisServer(url, [...args, ...durable].map(String), prefix);
    await server.#answers();
    return server;
  }

  #spawn(): Deno.ChildProcess {
    const [program, ...args] = [...this.#prefix, "redis-server", ...this.#args] as [string, ...string[]];
    return new Deno.Command(program, { args, stdin: "null", stdout: "null", stderr: "null" }).spawn();
  }

  /** Waits until it answers. */
  async #answers(): Promise<void> {
    const port = new URL(this.url).port,
      cli = ["redis-cli", "-h", new URL(this.url).hostname, "-p", port, "ping"];
    for (;;) {
      const [program, ...args] = [...this.#prefix, ...cli] as [string, ...string[]];
      const { stdout } = await new Deno.Command(program, { args, stderr: "null" }).output();
      if (/NOAUTH|PONG/.test(new TextDecoder().decode(stdout))) return;
      await delay(20);
    }
  }

  /** Kills it, leaves it away for a while, and starts it again on its data. */
  async restart(awayMs: number): Promise<void> {
    await this.kill();
    await delay(awayMs);
    await this.revive();
  }

  /** Starts it again on its data, after {@linkcode RedisServer.kill}. */
  async revive(): Promise<void> {
    this.#child = this.#spawn();
    await this.#answers();
  }

  /** Stops it where it is: connections stay open, and nothing is answered. */
  hang(): void {
    this.#child.kill("SIGSTOP");
  }

  /** Goes on after {@linkcode RedisServer.hang}. */
  goOn(): void {
    this.#child.kill("SIGCONT");
  }

  /** Kills it. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill().catch(() => {});
  }
}

/** Starts a worker on a queue. */
export function startWorker(url: string, leaseS: number, ...more: string[]): Deno.ChildProcess {
  return spawnTask("worker", ["--queue", url, "--threads", "1", "--lease", `${leaseS}`, ...more]);
}
