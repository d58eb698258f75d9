/**
 * Kills the workers of a study at random and compares its results with an undisturbed sweep's. With `tpe`, workers
 * propose the trials, and the undisturbed sweep runs the proposed ones.
 *
 * usage: deno run -A … experiments/tools/verify/kill_workers.ts [trials] [workers] [kills of each] [tpe]
 */
import { uniform } from "../../../lib/random.ts";
import { StudyStore } from "../../../lib/sweep/mod.ts";
import {
  prepareSearch,
  prepareStudy,
  readResults,
  repeatTrials,
  runKilled,
} from "../../commands/study/study_testing.ts";

const [trials, workers, kills] = [500, 4, 20].map((byDefault, i) => Number(Deno.args[i] ?? byDefault)) as [
  number,
  number,
  number,
];
const proposes = Deno.args[3] === "tpe", folder = await Deno.makeTempDir();
try {
  const seeds = Array.from({ length: trials }, (_, i) => i).join(",");
  const small = ["--context", "64", "--tokens", "256", "--threads", "1"];
  const path = proposes
    ? await prepareSearch(folder, [...small, "--space", "docs/spaces/tiny.json", "--trials", `${trials}`])
    : await prepareStudy(folder, [...small, "--warmup", "8", "--method", "random", "--seed", seeds]);
  console.log(`${trials} trials; now ${workers} workers, each killed ${kills} times`);
  let draws = 0n;
  const killed = await runKilled(path, {
    workers,
    kills,
    mostMs: 1000,
    atWork: true,
    random: () => uniform(draws++),
  });
  const whole = readResults(proposes ? await repeatTrials(folder, path) : `${folder}/whole/study.db`);
  const found = readResults(path);
  const unlike = [...whole].filter(([trial, result]) =>
    JSON.stringify(found.get(trial)) !== JSON.stringify(result)
  );
  let isWhole = found.size === trials;
  if (proposes) {
    using store = StudyStore.open(path);
    const proposals = store.proposals(), runnable = proposals.flatMap(({ digest }) => digest ?? []);
    isWhole = proposals.length === trials && found.size === new Set(runnable).size;
    const repeats = runnable.length - new Set(runnable).size;
    console.log(`${proposals.length} proposals, ${trials - runnable.length} refused, ${repeats} repeated`);
  }
  console.log(`${killed} kills: ${found.size} results, ${unlike.length} unlike the undisturbed run's`);
  Deno.exitCode = isWhole && found.size === whole.size && unlike.length === 0 ? 0 : 1;
} finally {
  await Deno.remove(folder, { recursive: true });
}
