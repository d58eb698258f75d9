/** A model's file that processes have mapped, and that changes under them. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { NEEDS_LINUX, unless } from "../../../lib/testing.ts";
import { readTrials } from "../study/study_testing.ts";
import { spawnTask, withFolder } from "../testing.ts";

const tiny = new URL("../../../lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url);
const ARGS = [
  "--context",
  "64",
  "--tokens",
  "128",
  "--warmup",
  "8",
  "--threads",
  "1",
  "--method",
  "random",
  "--jobs",
  "1",
];
const SEEDS = Array.from({ length: 200 }, (_, i) => i).join(",");

/** The outcome of a sweep whose model's file changes after its first finished trial. */
async function sweepWhile(change: (model: string) => void, folder: string) {
  const model = `${folder}/model.gguf`, out = `${folder}/out`;
  await Deno.copyFile(tiny, model);
  const child = await spawnTask("sweep", [...ARGS, "--seed", SEEDS, "--model", model, "--out", out]);
  const [told, rest] = child.stderr.tee(), lines = told.pipeThrough(new TextDecoderStream());
  const said = new Response(rest).text();
  for await (const line of lines) {
    if (!line.includes("/200] ")) continue;
    change(model);
    break;
  }
  const { code } = await child.status;
  await child.stdout.cancel();
  return { code, last: (await said).trim().split("\n"), out };
}

Deno.test({
  ...unless(NEEDS_LINUX, "a sweep whose mapped model is cut short ends with one line, and keeps its trials"),
  fn: () =>
    withFolder(async (folder) => {
      const { code, last, out } = await sweepWhile((model) => Deno.truncateSync(model, 1000), folder);
      assertEquals(code, 2, last.join("\n"));
      assertStringIncludes(
        last.at(-1)!,
        `Cannot go on: found "${folder}/model.gguf" cut short while it is in use`,
      );
      const trials = readTrials(out).length;
      assertEquals(trials > 0 && trials < 200, true, `${trials}`);
    }),
});

Deno.test("a sweep whose mapped model is written over takes no trial of it", () =>
  withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/a`);
    const written = await sweepWhile((model) => {
      using file = Deno.openSync(model, { write: true });
      file.seekSync(2_000_000, Deno.SeekMode.Start);
      file.writeSync(new Uint8Array(1_000_000).fill(7));
    }, `${folder}/a`);
    assertEquals(written.code, 2, written.last.join("\n"));
    assertStringIncludes(written.last.join("\n"), "found another file than before");
    const perplexities = readTrials(written.out).map((trial) =>
      (trial as unknown as { perplexity: number }).perplexity
    );
    assertEquals(perplexities.filter((perplexity) => !(perplexity < 100)), []);
  }));
