/** Tests the paper's recipe from end to end on each family's model, two layers of random weights, out of a hub. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { listReproductionTables, type Reproduction } from "../../../lib/plot/mod.ts";
import { testSlow, withVariables } from "../../../lib/testing.ts";
import { HUB_TOKEN, serveHub } from "../hub_testing.ts";
import { listFolder, runTask, withFolder } from "../testing.ts";
import {
  BYTE_VOCABULARY,
  dataOfPaper,
  narrowSizes,
  repositoryOf,
  SHAPES,
  shortPaper,
  writeModel,
} from "./paper_testing.ts";
import { readKnownModels } from "./recipe.ts";
import paper from "./recipes/paper.json" with { type: "json" };

const TEXT = " \n = A title = \n \n A line of plain words , and another one . \n".repeat(40);

Deno.test("a gated model without a token gives one line with the fix, whatever its recipe needs next to it", () =>
  withFolder(async (folder) => {
    const { "LLaMA-2-7B": known } = await readKnownModels(), repository = known!.hub;
    const contents = new Map(await dataOfPaper(TEXT));
    for (const file of ["config.json", "tokenizer.json", "model.safetensors"]) {
      contents.set(`${repository}@${"c".repeat(40)}/${file}`, new Uint8Array(8));
    }
    await using hub = serveHub(contents, new Set([repository]));
    const run = (token: string, ...args: string[]) =>
      withVariables(
        { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: `${folder}/hub`, HF_HUB_OFFLINE: "0", HF_TOKEN: token },
        () => runTask("reproduce", "paper", "--model", repository, "--quiet", ...args),
      );
    const cases: [token: string, message: RegExp][] = [
      [
        "",
        /found that it needs a token .*: accept the licence at .*\/meta-llama\/Llama-2-7b-hf, make a token .* HF_TOKEN$/,
      ],
      ["hf_of_nobody", /found that it does not accept the token, .* HF_TOKEN$/],
    ];
    for (const [token, message] of cases) {
      const { code, stdout, stderr } = await run(token, "--out", `${folder}/out`);
      assertEquals([code, stdout, stderr.trimEnd().split("\n").length], [2, "", 1], stderr);
      assertMatch(stderr.trimEnd(), message);
    }
    assertEquals(listFolder(folder), ["hub"]);
    const planned = await run("", "--plan", "--threads", "1");
    assertEquals([planned.code, planned.stderr], [0, ""]);
    assertMatch(planned.stdout, /accounts that have accepted its license: HF_TOKEN is the account's token\./);
  }));

testSlow(
  "the paper's recipe runs on two layers of every family from the hub: every table has a row of each method",
  () =>
    withFolder(async (folder) => {
      const recipe = `${folder}/paper.json`, known = await readKnownModels();
      Deno.writeTextFileSync(recipe, JSON.stringify(shortPaper(1.5)));
      const contents = new Map(await dataOfPaper(TEXT)), gated = new Set<string>();
      await using hub = serveHub(contents, gated);
      const variables = { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: `${folder}/hub`, HF_HUB_OFFLINE: "0" };
      for (const name of SHAPES) {
        const { hub: repository, gated: isGated, config } = known[name]!, model = `${folder}/${name}`;
        const out = `${folder}/out-${name}`,
          methods = ["--methods", "paper,random", "--ratios", "0.5", "--seeds", "1"];
        // True widths take minutes of processor time each.
        writeModel(model, {
          ...{ ...config, ...narrowSizes(128) },
          num_hidden_layers: 2,
          vocab_size: BYTE_VOCABULARY,
          tie_word_embeddings: false,
        });
        for (const [place, path] of repositoryOf(repository, model)) contents.set(place, path);
        await hub.prepare();
        const run = (token: string, ...args: string[]) =>
          withVariables({ ...variables, HF_TOKEN: token }, () =>
            runTask("reproduce", recipe, "--model", repository, ...methods, "--quiet", ...args));
        if (isGated) {
          gated.add(repository);
        }
        if (name === SHAPES[0]) {
          const wrong = await run(HUB_TOKEN, "--published", "other", "--out", `${out}-wrong`);
          assertEquals([wrong.code, wrong.stdout, wrong.stderr.trimEnd().split("\n").length], [2, "", 1]);
          assertMatch(
            wrong.stderr,
            /^Cannot go on: dense other has .* on WikiText-2 at 2048 \(short\), published 1\.5 /,
          );
        }
        const { code, stderr } = await run(HUB_TOKEN, "--published", "none", "--out", out);
        assertEquals([code, stderr], [0, ""], name);
        const result: Reproduction = JSON.parse(Deno.readTextFileSync(`${out}/reproduce.json`));
        const names = ["dense", "paper at 0.5", "random at 0.5"];
        const [results, protocols, lengths] = listReproductionTables(result).map(({ table }) =>
          table
        );
        assertEquals(results!.rows.map(([method]) => method), names);
        assert(results!.rows.every((cells) => !cells.includes("-")), name);
        assertEquals(protocols!.rows.length, Object.keys(paper.parts).length);
        assertEquals(new Set(lengths!.rows.map(([, method]) => method)), new Set(names));
        // C4, and the data sets of eight tasks: both of ARC are one.
        assertEquals(new Set(result.parts.map(({ comparison }) => comparison.environment.text)).size, 8);
        for (const [place] of repositoryOf(repository, model)) contents.delete(place);
        for (const used of [model, `${folder}/hub`]) Deno.removeSync(used, { recursive: true });
      }
    }),
);
