/**
 * Kills the workers of a study at random and holds its results against an undisturbed sweep's:
 * `deno run -A … experiments/verify/kill_workers.ts [trials] [workers] [kills of each]`.
 */
import { uniform } from "../../lib/random.ts";
import { prepareStudy, readResults, runKilled } from "../study_testing.ts";

const [trials, workers, kills] = [500, 4, 20].map((byDefault, i) => Number(Deno.args[i] ?? byDefault)) as [
  number,
  number,
  number,
];
const folder = await Deno.makeTempDir();
try {
  const seeds = Array.from({ length: trials }, (_, i) => i).join(",");
  const small = ["--context", "64", "--tokens", "256", "--warmup", "8", "--threads", "1"];
  const path = await prepareStudy(folder, [...small, "--fusion", "random", "--seed", seeds]);
  console.log(`${trials} trials undisturbed; now ${workers} workers, each killed ${kills} times`);
  let draws = 0n;
  const killed = await runKilled(path, { workers, kills, mostMs: 3000, random: () => uniform(draws++) });
  const whole = readResults(`${folder}/whole/study.db`), found = readResults(path);
  const unlike = [...whole].filter(([trial, result]) =>
    JSON.stringify(found.get(trial)) !== JSON.stringify(result)
  );
  console.log(`${killed} kills: ${found.size} results, ${unlike.length} unlike the undisturbed run's`);
  Deno.exitCode = found.size === trials && unlike.length === 0 ? 0 : 1;
} finally {
  await Deno.remove(folder, { recursive: true });
}
