/**
 * A sweep over a queue whose server is killed and started again twice, while one worker is paused beyond its lease:
 * `deno run -A … experiments/tools/verify/queue_faults.ts [trials] [workers]`. Its results are compared with a sweep's without a
 * queue.
 */
import { RedisServer, startWorker } from "../../commands/queue/queue_testing.ts";
import { delay, readResults, readTrials } from "../../commands/study/study_testing.ts";
import { finish, runTask, spawnTask, withFolder } from "../../commands/testing.ts";

const [trials, workers] = [500, 4].map((byDefault, i) => Number(Deno.args[i] ?? byDefault)) as [
  number,
  number,
];
const LEASE_S = 5;

await withFolder(async (folder) => {
  const seeds = Array.from({ length: trials }, (_, i) => i).join(",");
  const small = ["--context", "64", "--tokens", "128", "--warmup", "8", "--threads", "1"];
  const args = [...small, "--method", "random", "--seed", seeds, "--quiet"];
  await using server = await RedisServer.start(folder);
  const whole = await runTask("sweep", ...args, "--out", `${folder}/whole`);
  if (whole.code !== 0) throw new Error(whole.stderr);
  const out = `${folder}/queued`,
    sweep = await spawnTask("sweep", [...args, "--queue", server.url, "--out", out]);
  const ended = finish(sweep);
  const started = await Promise.all(Array.from({ length: workers }, () => startWorker(server.url, LEASE_S)));
  const workersEnd = started.map(finish);
  const share = async (part: number) => {
    while (readTrials(out).length < part * trials) await delay(100);
  };
  await share(0.1);
  started[0]!.kill("SIGSTOP");
  await delay(4000 * LEASE_S);
  started[0]!.kill("SIGCONT");
  for (const part of [0.4, 0.7]) {
    await share(part);
    await server.restart(3000);
  }
  const { code, stderr } = await ended;
  for (const worker of started) worker.kill("SIGTERM");
  const ends = await Promise.all(workersEnd);
  const expected = readResults(`${folder}/whole/study.db`), found = readResults(`${out}/study.db`);
  const unlike = [...expected].filter(([trial, result]) =>
    JSON.stringify(found.get(trial)) !== JSON.stringify(result)
  );
  console.log(
    `${workers} workers, 1 paused for ${4 * LEASE_S} s, 2 restarts of the server: exit ${code} ${stderr}, ` +
      `workers' exits ${ends.map(({ code }) => code)}, ${found.size} results, ${unlike.length} unlike`,
  );
  Deno.exitCode = code === 0 && found.size === trials && unlike.length === 0 ? 0 : 1;
});
