import { assertEquals, assertMatch } from "@std/assert";
import { buildCpu } from "../../../../build.ts";
import { testSlow } from "../../../../lib/testing.ts";
import { finish, spawnTask, withFolder } from "../../testing.ts";

testSlow(
  "--whole auto names the layers of the model, probes it once by each backend, and takes no damaged file for a probe",
  () =>
    withFolder(async (folder) => {
      await Deno.writeTextFile(
        `${folder}/text.txt`,
        "It was the best of times, it was the worst of times. ".repeat(8),
      );
      const { path: library } = await buildCpu();
      const scoreBy = async (backend: string, ...more: string[]) => {
        const args = [
          "--text",
          `${folder}/text.txt`,
          "--side",
          "key",
          "--method",
          "key",
          "--warmup",
          "4",
          "--json",
          "--backend",
          backend,
        ];
        const child = await spawnTask("score", [...args, ...more], {
          TOKENFILTER_CACHE: `${folder}/cache`,
          TOKENFILTER_LIBRARY: library,
          TOKENFILTER_BLAS: "none",
        });
        const { code, stdout, stderr } = await finish(child);
        return { code, said: stderr, ...(code === 0 && { record: JSON.parse(stdout) }) };
      };
      const score = (...more: string[]) => scoreBy("reference", ...more);
      const first = await score("--whole", "auto"), second = await score("--whole", "auto");
      assertMatch(
        first.said,
        /^Retrieval layers of tiny, by one forward pass over random tokens in \d+\.\d s: [\d, ]+ \(\d\d% /m,
      );
      assertMatch(first.said, /^Warning: tiny does not copy \(12\.0 nats per token at first, 11\.7 again\)/m);
      assertMatch(second.said, /^Retrieval layers of tiny, as probed before: /m);
      assertEquals(second.record.nll, first.record.nll);
      const byCpu = await scoreBy("cpu", "--whole", "auto");
      assertMatch(byCpu.said, /^Retrieval layers of tiny, by one forward pass/m);
      assertEquals(byCpu.record.kvLayers, first.record.kvLayers);
      const [name, other, ...more] = Array.from(Deno.readDirSync(`${folder}/cache/retrieval`), ({ name }) =>
        name);
      assertEquals(more, []);
      for (const own of [name, other]) {
        await Deno.writeTextFile(`${folder}/cache/retrieval/${own}`, "{");
      }
      assertMatch((await score("--whole", "auto")).said, /^Retrieval layers of tiny, by one forward pass/m);
      const refused = await score("--whole", "7+99");
      assertEquals([refused.code, refused.said], [
        2,
        "Cannot use --whole: found layer 99, expected layers from 0 to 9\n",
      ]);
      assertEquals(first.record.kvLayers, [0, 2, 3, 5, 6, 7]);
    }),
);
