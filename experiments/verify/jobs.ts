/**
 * Time and memory of a sweep by one process and by two, with one thread each:
 * `deno run -A … experiments/verify/jobs.ts [model] [trials] [tokens]`. The processes are those of `deno task sweep`.
 * Memory is what all of them together occupy, at its most (Linux): each one's own pages (`Anonymous` in its smaps), and
 * the pages of each file that any of them maps, once: as many as the one that holds most of them has. Beside the time by
 * the clock stands the processor time of the busiest process, which other work on the machine leaves as it is.
 */
import { taskArguments } from "../cli/deno.ts";
import { finish, withFolder } from "../testing.ts";

const [model = "smollm2-135m", trials = "12", tokens = "512"] = Deno.args;

/** A process and all that it has started. */
function family(pid: number): number[] {
  const children = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).split(" ").filter((word) =>
    word !== ""
  );
  return [pid, ...children.flatMap((child) => family(Number(child)))];
}

/** Megabytes of processes: their own, and what they share. */
function memoryOf(pids: readonly number[]): { readonly own: number; readonly shared: number } {
  let own = 0;
  const files = new Map<string, number>();
  for (const pid of pids) {
    let path = "";
    const ofThis = new Map<string, number>();
    for (const line of Deno.readTextFileSync(`/proc/${pid}/smaps`).split("\n")) {
      const mapping = line.match(/^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$/);
      const [, field, kB] = line.match(/^(Rss|Anonymous): +(\d+) kB/) ?? [];
      if (mapping) path = mapping[1]!;
      else if (field === "Anonymous") own += Number(kB) / 1024;
      if (field && path.startsWith("/")) {
        const sign = field === "Rss" ? 1 : -1; // pages of a file that were written to are the process's own
        ofThis.set(path, (ofThis.get(path) ?? 0) + sign * Number(kB) / 1024);
      }
    }
    for (const [file, MB] of ofThis) files.set(file, Math.max(files.get(file) ?? 0, MB));
  }
  return { own, shared: [...files.values()].reduce((a, b) => a + b, 0) };
}

/** The same of a process and all that it has started; nothing where one has just ended. */
function memoryNow(pid: number): { readonly own: number; readonly shared: number } {
  try {
    return memoryOf(family(pid));
  } catch {
    return { own: 0, shared: 0 };
  }
}

/** Processor seconds of a process so far, its threads together (100 ticks a second). */
function cpuSeconds(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

const runs = new Map<
  number,
  { readonly seconds: number; readonly busiest: number; readonly own: number; readonly shared: number }
>();
for (const jobs of [1, 2]) {
  await withFolder(async (folder) => {
    const seeds = Array.from({ length: Number(trials) }, (_, i) => i).join(",");
    const args = [
      ...["--model", model, "--tokens", tokens, "--context", "256", "--fusion", "random", "--seed", seeds],
      ...["--threads", "1", "--jobs", `${jobs}`, "--quiet", "--out", `${folder}/out`],
    ];
    const child = new Deno.Command(Deno.execPath(), {
      args: [...await taskArguments("sweep"), ...args],
      cwd: new URL("../../", import.meta.url),
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const began = performance.now();
    let most = { own: 0, shared: 0 };
    let busiest = 0;
    const timer = setInterval(() => {
      try {
        busiest = Math.max(busiest, ...family(child.pid).map(cpuSeconds));
      } catch {
        // one has just ended
      }
      const now = memoryNow(child.pid);
      if (now.own + now.shared > most.own + most.shared) most = now;
    }, 250);
    const { code, stderr } = await finish(child);
    clearInterval(timer);
    if (code !== 0) throw new Error(stderr);
    runs.set(jobs, { seconds: (performance.now() - began) / 1000, busiest, ...most });
  });
}
const [one, two] = [runs.get(1)!, runs.get(2)!];
for (const [jobs, { seconds, busiest, own, shared }] of runs) {
  const time = `${seconds.toFixed(1)} s (busiest process ${busiest.toFixed(1)} s)`;
  const memory = `${(own + shared).toFixed(0)} MB (${own.toFixed(0)} their own, ${
    shared.toFixed(0)
  } of files)`;
  console.log(`${jobs} jobs: ${time}, ${memory}`);
}
const ratio = (a: number, b: number) => (a / b).toFixed(2);
console.log(
  `2 of 1: ${ratio(two.seconds, one.seconds)} of the time (${
    ratio(two.busiest, one.busiest)
  } of the busiest), ` +
    `${ratio(two.own + two.shared, one.own + one.shared)} of the memory`,
);
