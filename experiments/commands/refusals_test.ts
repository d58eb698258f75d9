/** Command lines that tasks refuse: the one line that says why, before anything is built or written; and their helps. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { writeInputs } from "./golden/inputs_testing.ts";
import { listFolder, moduleOf, runTask, withFolder } from "./testing.ts";

/** Arguments by task, `TMP/` standing for the folder of inputs. */
const REFUSED: { readonly [task: string]: readonly string[] } = {
  sweep: [
    "--gama 0.9",
    "word",
    "-- word",
    "--json=yes",
    "--tau 1 --tau 2",
    "--tau",
    "--tau x",
    "--warmup 1.5",
    "--invert maybe",
    "--prune-ratio 1",
    "--prune-ratio -0.1",
    "--gamma 1",
    "--tau 65",
    "--recent -1",
    "--threshold-window 0",
    "--method varience",
    "--threshold median",
    "--preset papr",
    "--features norms",
    "--seed -1",
    "--tail 0.4 --out TMP/none",
    "--tail 0.4 --model smollm2-135m --out TMP/none",
    "--schedule explicit",
    "--skip-ratios TMP/two_ratios.json --out TMP/none",
    "--skip-ratios TMP/words.json",
    "--method learned --warmup 4",
    "--context 1",
    "--context 100000 --out TMP/none",
    "--tokens 100 --out TMP/none",
    "--memory 2GB",
    "--text TMP/short.txt --out TMP/none",
    "--text TMP/none.txt",
    "--text TMP/latin.txt",
    "--text TMP/nothing",
    "--grid TMP/wrong_grid.json",
    "--grid TMP/wordy_grid.json",
    "--grid TMP/broken.json",
    "--model TMP/none.gguf --out TMP/none",
    "--model TMP/model.gguf --out TMP/none",
    "--model tinny --out TMP/none",
    "--backend gpu",
    "--threads 0",
    "--wgmma",
    "--wgmma --backend cuda",
    "--dtype q5_1",
    "--cache-dtype f64",
    "--matmul int4",
    "--matmul int16", // a study of an earlier version may contain it
    "--matmul bf16 --backend reference",
    "--matmul bf16 --backend wasm",
    "--matmul int8 --backend cuda",
    "--matmul fast --backend reference",
    "--resume",
    "--resume TMP/nothing",
    "--out TMP/used",
    "--out TMP/short.txt/deeper",
  ],
  score: [
    "",
    "--text TMP/text.txt --ids TMP/ids.json",
    "--text TMP/empty.txt",
    "--ids TMP/one.json",
    "--ids TMP/words.json",
    "--ids TMP/float.json",
    "--ids TMP/minus.json",
    "--ids TMP/high.json",
    "--ids TMP/wrong_grid.json",
    "--ids TMP/ids.json --phase both",
    "--ids TMP/ids.json --chunk 0",
    "--ids TMP/ids.json --tail 0.1",
    "--ids TMP/ids.json --method random,mean",
    "--ids TMP/ids.json --method oracle --phase decode",
    "--ids TMP/ids.json --threshold topk --chunk 2",
    "--ids TMP/ids.json --trace TMP/none.parquet",
    "--ids TMP/ids.json --method mean --trace TMP/nothing",
    "--replay TMP/none.parquet",
    "--replay TMP/text.txt",
    "--replay TMP/none.parquet --tau 1",
  ],
  heads: [
    "--method oracle",
    "--side key",
    "--kv-method received",
    "--resamples 0",
    "--resamples 99999999999",
    "--context 100000 --out TMP/none",
    "--text TMP/short.txt --out TMP/none",
  ],
  compare: [
    "--method key --tokens 2",
    "--invert --tokens 2",
    "--preset paper --tokens 2",
    "--methods random,nonsense",
    "--seeds 0",
    "--text TMP/short.txt --out TMP/none",
  ],
  filter: [
    "",
    "--kv TMP/none.safetensors",
    "--kv TMP/text.txt",
    "--kv TMP/dump.safetensors --method learned",
    "--kv TMP/dump.safetensors --method input-norm",
    "--kv TMP/dump.safetensors --method oracle",
    "--kv TMP/dump.safetensors --skip-ratio 1.5",
    "--kv TMP/dump.safetensors --layer -1",
    "--kv TMP/dump.safetensors --layer 16777216",
    "--kv TMP/dump.safetensors --gamma 1",
    "--kv TMP/dump.safetensors --text TMP/text.txt",
  ],
  eval: ["", "--data TMP/none", "--tasks nonsense", "--tasks needle --length 64 --out TMP/none"],
  generate: ["", "--prompt x --text TMP/text.txt", "--prompt x --temperature -1"],
  serve: ["--port 70000", "--host 0.0.0.0"],
  diff: ["", "TMP/none TMP/none"],
  report: ["", "TMP/none", "TMP/nothing", "TMP/nothing --outt TMP/none"],
};

/** A line without its folder, and without lists of methods and tasks, which grow. */
function steady(line: string, folder: string): string {
  return line.replaceAll(folder, "TMP").replaceAll(/(?:[a-z][\w -]*, ?){7,}[a-z][\w-]*/g, "<names>");
}

for (const [task, lines] of Object.entries(REFUSED)) {
  Deno.test(`${task} refuses wrong input in one line that names it, and writes nothing`, (t) =>
    withFolder(async (folder) => {
      writeInputs(folder);
      const before = listFolder(folder), said: string[] = [];
      for (const line of lines) {
        const args = line.split(" ").filter((word) => word !== "");
        const { code, stdout, stderr } = await runTask(
          task,
          ...args.map((arg) => arg.replace("TMP/", `${folder}/`)),
        );
        assertEquals([code, stdout, stderr.trimEnd().split("\n").length], [2, "", 1], `${line}: ${stderr}`);
        assertEquals(listFolder(folder), before, line);
        said.push(`${task} ${line}`.trimEnd(), `  ${steady(stderr.trimEnd(), folder)}`);
      }
      await t.assertSnapshot(said.join("\n"));
    }));
}

const { tasks }: { tasks: { [name: string]: string } } = JSON.parse(
  await Deno.readTextFile(new URL("../../deno.json", import.meta.url)),
);

Deno.test("every task prints its help, and every command refuses a flag that it lacks", async () => {
  const own = Object.keys(tasks).filter((name) => /^deno run [^&]*experiments\/\S+\.ts/.test(tasks[name]!));
  assert(own.length > 15, own.join());
  for (const name of own.filter((name) => !name.startsWith("test"))) {
    const path = moduleOf(name), { code, stdout, stderr } = await runTask(name, "--help");
    assertEquals([code, stderr], [0, ""], name);
    assert(stdout.startsWith(`Usage: deno task ${name}`), stdout);
    if (!path.startsWith("experiments/commands/")) continue; // some tools pass flags on
    const refused = await runTask(name, "--nonsense");
    assertEquals([refused.code, refused.stdout], [2, ""], name);
    assertMatch(refused.stderr, /^Cannot use (flag )?"--nonsense"/);
  }
});
