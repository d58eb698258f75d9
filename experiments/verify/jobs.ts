/**
 * Time and memory of a sweep by one process and by two, with one thread each:
 * `deno run -A … experiments/verify/jobs.ts [model] [trials] [tokens]`. Memory is the sum of all processes' proportional
 * set sizes, at its most (Linux).
 */
import { finish, spawnTask, withFolder } from "../testing.ts";

const [model = "smollm2-135m", trials = "12", tokens = "512"] = Deno.args;

/** A process and all that it has started. */
function family(pid: number): number[] {
  const children = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).split(" ").filter((word) =>
    word !== ""
  );
  return [pid, ...children.flatMap((child) => family(Number(child)))];
}

function memoryMB(pid: number): number {
  try {
    const kB = family(pid).map((each) =>
      Number(Deno.readTextFileSync(`/proc/${each}/smaps_rollup`).match(/^Pss: +(\d+) kB/m)?.[1] ?? 0)
    );
    return kB.reduce((a, b) => a + b) / 1024;
  } catch {
    return 0; // one has ended meanwhile
  }
}

const runs = new Map<number, { readonly seconds: number; readonly most: number }>();
for (const jobs of [1, 2]) {
  await withFolder(async (folder) => {
    const seeds = Array.from({ length: Number(trials) }, (_, i) => i).join(",");
    const child = await spawnTask("sweep", [
      ...[
        "--model",
        model,
        "--tokens",
        tokens,
        "--context",
        "256",
        "--fusion",
        "random",
        "--seed",
        seeds,
        "--quiet",
      ],
      ...["--threads", "1", "--jobs", `${jobs}`, "--out", `${folder}/out`],
    ]);
    const began = performance.now();
    let most = 0;
    const timer = setInterval(() => most = Math.max(most, memoryMB(child.pid)), 250);
    const { code, stderr } = await finish(child);
    clearInterval(timer);
    if (code !== 0) throw new Error(stderr);
    runs.set(jobs, { seconds: (performance.now() - began) / 1000, most });
  });
}
const [one, two] = [runs.get(1)!, runs.get(2)!], ratio = (a: number, b: number) => (a / b).toFixed(2);
for (const [jobs, { seconds, most }] of runs) {
  console.log(`${jobs} jobs: ${seconds.toFixed(1)} s, ${most.toFixed(0)} MB`);
}
console.log(
  `2 of 1: ${ratio(two.seconds, one.seconds)} of the time, ${ratio(two.most, one.most)} of the memory`,
);
