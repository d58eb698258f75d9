import { assertEquals, assertMatch } from "@std/assert";
import { testSlow } from "../../../../lib/testing.ts";
import { finish, spawnTask, withFolder } from "../../testing.ts";

testSlow(
  "--whole auto names the layers of the model, probes it once, and takes no damaged file for a probe",
  () =>
    withFolder(async (folder) => {
      await Deno.writeTextFile(
        `${folder}/text.txt`,
        "It was the best of times, it was the worst of times. ".repeat(8),
      );
      const score = async (...more: string[]) => {
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
        ];
        args.push("--backend", "reference");
        const child = await spawnTask("score", [...args, ...more], { TOKENFILTER_CACHE: `${folder}/cache` });
        const { code, stdout, stderr } = await finish(child);
        return { code, said: stderr, ...(code === 0 && { record: JSON.parse(stdout) }) };
      };
      const first = await score("--whole", "auto"), second = await score("--whole", "auto");
      assertMatch(
        first.said,
        /^Retrieval layers of tiny, by one forward pass over random tokens in \d+\.\d s: [\d, ]+ \(\d\d% /m,
      );
      assertMatch(first.said, /^Warning: tiny does not copy \(12\.0 nats per token at first, 11\.7 again\)/m);
      assertMatch(second.said, /^Retrieval layers of tiny, as probed before: /m);
      assertEquals(second.record.nll, first.record.nll);
      const [name] = Array.from(Deno.readDirSync(`${folder}/cache/retrieval`), ({ name }) => name);
      await Deno.writeTextFile(`${folder}/cache/retrieval/${name}`, "{");
      assertMatch((await score("--whole", "auto")).said, /^Retrieval layers of tiny, by one forward pass/m);
      const refused = await score("--whole", "7+99");
      assertEquals([refused.code, refused.said], [
        2,
        "Cannot use --whole: found layer 99, expected layers from 0 to 9\n",
      ]);
      assertEquals(first.record.kvLayers, [0, 2, 3, 5, 6, 7]);
    }),
);
