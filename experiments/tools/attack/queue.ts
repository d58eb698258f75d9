/**
 * Attacks on a sweep over a queue: its server hangs and is emptied, others poison its jobs and forge its results. All results
 * must be those of a sweep without a queue: `deno run -A … experiments/tools/attack/queue.ts [trials]`.
 */
import { type Job, Queue, Worker } from "bullmq";
import { StudyStore, type Trial } from "../../../lib/sweep/mod.ts";
import { Connections, readAddress } from "../../commands/queue/connection.ts";
import { QUEUE_NAME, type TrialJob } from "../../commands/queue/job.ts";
import { RedisServer, startWorker } from "../../commands/queue/queue_testing.ts";
import { delay, readResults, readTrials } from "../../commands/study/study_testing.ts";
import { finish, type Finished, runTask, spawnTask, withFolder } from "../../commands/testing.ts";
import { FORGERIES, POISONS, type Target } from "./queue_cases.ts";

const LEASE_S = 2;
const FEWEST = Object.keys(POISONS).length;

/** A sweep that is attacked. */
interface Attacked {
  readonly server: RedisServer;
  readonly out: string;
  /** Starts the sweep, or resumes it. */
  sweep(...more: string[]): Promise<Deno.ChildProcess>;
  worker(...more: string[]): Promise<Deno.ChildProcess>;
  /** Waits until a number of trials are finished. */
  reach(count: number): Promise<void>;
  /** Lets workers and sweep end. @returns The exit code and output of the sweep */
  end(sweep: Promise<Finished>, ...workers: readonly Deno.ChildProcess[]): Promise<Finished>;
}

type Attack = (attacked: Attacked) => Promise<string>;

const seconds = (since: number) => ((performance.now() - since) / 1000).toFixed(1);

function expect(what: string, { code, stderr }: Finished, expected: number): void {
  if (code !== expected || /^\s+at /m.test(stderr)) throw new Error(`${what}: exit code ${code}: ${stderr}`);
}

/** The server stops answering: for a while, for longer than patience, and while signals come. */
const hang: Attack = async ({ server, sweep, worker, reach, end, out }) => {
  const patient = await sweep("--patience", "60"), patientEnds = finish(patient);
  const busy = await worker(), busyEnds = finish(busy);
  await reach(2);
  server.hang();
  await delay(4000);
  server.goOn();
  await reach(4);
  server.hang();
  let told = performance.now();
  busy.kill("SIGTERM");
  await delay(100);
  busy.kill("SIGTERM");
  await busyEnds;
  const workerS = seconds(told);
  told = performance.now();
  patient.kill("SIGINT");
  expect("a sweep that is told to end", await patientEnds, 130);
  const sweepS = seconds(told);
  server.goOn();
  const short = ["--patience", "2"];
  const impatient = finish(await sweep("--resume", out, ...short)),
    helper = await worker(...short),
    helped = finish(helper);
  const kept = readTrials(out).length;
  await reach(kept + 1);
  const hung = performance.now();
  server.hang();
  expect("a sweep whose server hangs", await impatient, 2);
  expect("a worker whose server hangs", await helped, 2);
  const awayS = seconds(hung);
  server.goOn();
  const last = finish(await sweep("--resume", out));
  expect("the sweep after that", await end(last, await worker()), 0);
  return `4 s survived; signals end a worker in ${workerS} s, the sweep in ${sweepS} s; patience 2 in ${awayS} s`;
};

/** The server comes back without its data, and is emptied while it runs. */
const empty: Attack = async ({ server, sweep, worker, reach, end }) => {
  const sweeping = finish(await sweep()), workers = [await worker(), await worker()];
  await reach(2);
  await server.restart(300);
  await reach(4);
  using connections = await Connections.open(await readAddress(server.url));
  await connections.connect().flushall();
  const ended = await end(sweeping, ...workers);
  expect("the sweep", ended, 0);
  return `${ended.stderr.match(/The queue has lost/g)?.length ?? 0} times put there again`;
};

/** The sweep's jobs, once they are in the queue. */
async function target(connections: Connections, out: string, count: number): Promise<Target> {
  const redis = connections.connect(), { prefix } = connections.address;
  const queue = new Queue(QUEUE_NAME, { connection: redis, prefix });
  queue.on("error", () => {});
  while (await queue.getWaitingCount() < count) await delay(20);
  using store = StudyStore.open(`${out}/study.db`);
  return { queue, redis, sweep: store.get("queued")!, ids: await queue.getRanges(["waiting"], 0, -1) };
}

/** Others write to the queue. */
const poison: Attack = async ({ server, out, sweep, worker, end }) => {
  const sweeping = finish(await sweep());
  using connections = await Connections.open(await readAddress(server.url));
  const attacked = await target(connections, out, FEWEST), { queue } = attacked;
  const ways = Object.values(POISONS);
  for (const [i, put] of ways.entries()) await put(attacked, attacked.ids[i]!);
  const ended = await end(sweeping, await worker(), await worker());
  expect("the sweep", ended, 0);
  const again = await finish(await sweep("--resume", out));
  expect("the sweep once more", again, 0);
  const left = (await queue.getRanges(["failed", "delayed", "waiting", "active"], 0, -1)).length;
  return `${ways.length} ways, ${left} jobs of others left as they are`;
};

/** Another client answers instead of workers. */
function forge(results: ReadonlyMap<string, object>): Attack {
  return async ({ server, out, sweep, worker, end }) => {
    const sweeping = finish(await sweep()), ways = Object.values(FORGERIES);
    const all = [...results.values()] as Trial[];
    using connections = await Connections.open(await readAddress(server.url));
    await target(connections, out, FEWEST);
    const { prefix } = connections.address, connection = connections.connect();
    const forger = new Worker<TrialJob>(QUEUE_NAME, null, { connection, prefix });
    forger.on("error", () => {});
    for (const way of ways) {
      const job = await forger.getNextJob("forger") as Job<TrialJob>, { digest } = job.data;
      const record = { ...results.get(digest), timeMs: 1, denseTimeMs: 1, finishedAt: "now" } as Trial;
      await job.moveToCompleted(way(record, all.find(({ trial }) => trial !== digest)!), "forger", false);
    }
    const ended = await end(sweeping, await worker(), await worker());
    await forger.close();
    expect("the sweep", ended, 0);
    const refused = ended.stderr.match(/Refuses a result/g)?.length ?? 0;
    if (refused < ways.length) {
      throw new Error(`${refused} of ${ways.length} forged results were refused: ${ended.stderr}`);
    }
    return `${ways.length} kinds, ${refused} results refused`;
  };
}

/** Runs attacks on a sweep of a number of trials. @param tell Takes a line for each @throws If one succeeded */
export async function attackQueue(trials: number, tell: (line: string) => void, only = /./): Promise<void> {
  await withFolder(async (folder) => {
    const seeds = Array.from({ length: Math.max(trials, FEWEST) }, (_, i) => i).join(",");
    const small = "--context 64 --tokens 64 --warmup 8 --threads 1 --method random --seed";
    const args = [...small.split(" "), seeds];
    const whole = await runTask("sweep", ...args, "--quiet", "--jobs", "1", "--out", `${folder}/whole`);
    if (whole.code !== 0) throw new Error(whole.stderr);
    const results = readResults(`${folder}/whole/study.db`);
    const attacks = { hang, empty, poison, forge: forge(results) };
    for (const [name, attack] of Object.entries(attacks).filter(([name]) => only.test(name))) {
      const place = `${folder}/${name}`, out = `${place}/out`, began = performance.now();
      Deno.mkdirSync(place);
      await using server = await RedisServer.start(place, [], "127.0.0.1", name !== "empty");
      const said = await attack({
        server,
        out,
        sweep: (...more) =>
          spawnTask("sweep", [
            ...args,
            "--queue",
            server.url,
            ...more.includes("--resume") ? [] : ["--out", out],
            ...more,
          ]),
        worker: (...more) => startWorker(server.url, LEASE_S, ...more),
        async reach(count) {
          while (readTrials(out).length < count) await delay(20);
        },
        async end(sweep, ...workers) {
          const ends = workers.map(finish), ended = await sweep;
          for (const worker of workers) worker.kill("SIGTERM");
          for (const end of await Promise.all(ends)) expect("a worker", end, 0);
          return ended;
        },
      });
      const found = readResults(`${out}/study.db`);
      const unlike = [...results].filter(([trial, result]) =>
        JSON.stringify(found.get(trial)) !== JSON.stringify(result)
      );
      if (found.size !== results.size || unlike.length > 0) {
        throw new Error(`${name}: ${found.size} of ${results.size} results, ${unlike.length} unlike`);
      }
      tell(`${name}: ${found.size} of ${results.size} results equal; ${said}; ${seconds(began)} s`);
    }
  });
}

if (import.meta.main) {
  await attackQueue(Number(Deno.args[0] ?? 100), console.log, new RegExp(Deno.args[1] ?? "."));
}
