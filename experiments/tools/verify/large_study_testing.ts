/** Makes a study of 100,000 trials, then lists and plots it: `deno run -A … experiments/tools/verify/large_study_testing.ts [trials]`. */
import { makeSummary, makeTrial } from "../../../lib/plot/testing.ts";
import { finishedTrials, type RunConditions, StudyStore, type Trial } from "../../../lib/sweep/mod.ts";
import { runTask, withFolder } from "../../commands/testing.ts";

await withFolder(async (folder) => {
  const count = Number(Deno.args[0] ?? 100_000), path = `${folder}/study.db`;
  const conditions = { version: "0", model: "tiny", text: "made" } as RunConditions;
  {
    using store = StudyStore.create(path, { name: "large", conditions, runDigest: "d", flags: {} });
    const like = makeTrial({ fusion: "variance" }, 0.5, 50);
    const blocks = { sums: Array.from({ length: 64 }, (_, i) => 270.12345 + i), sizes: Array(64).fill(64) };
    const trials = Array.from({ length: count }, (_, i): Trial => ({
      ...like,
      ...{
        trial: `t${i}`,
        seed: i,
        perplexity: 45 + (i * 7919) % 100_003 / 3000,
        attentionFlopsAvoided: (i * 31) % 100,
      },
      lossBlocks: blocks,
    }));
    store.take(finishedTrials(trials));
    const { dense, environment } = makeSummary([]);
    store.set("dense", dense);
    store.set("environment", environment);
  }
  const began = performance.now();
  const { code, stdout, stderr } = await runTask("study", "show", path, "--plot", `${folder}/plot.html`);
  const seconds = (performance.now() - began) / 1000;
  if (code !== 0) throw new Error(stderr);
  const lines = stdout.split("\n").length, sizeMB = Deno.statSync(path).size / 1e6;
  console.log(
    `${count} trials (${sizeMB.toFixed(0)} MB): ${lines} lines and a page in ${seconds.toFixed(1)} s`,
  );
});
