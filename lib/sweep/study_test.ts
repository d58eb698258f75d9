import { assert, assertEquals, assertRejects } from "@std/assert";
import { readBuiltinText } from "../eval/mod.ts";
import { loadModel, type Tokenizer } from "../model/mod.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { describeConditions, describeStudy, encodeStudy, sweepStudy } from "./study.ts";

const model = await loadModel("tiny", new ReferenceBackend());
const study = { model, text: await readBuiltinText(), textName: "prose", context: 40, tokens: 100 };
const cheap = { tail: 0.1, pruneRatio: 0.05, warmup: 8 };

Deno.test("encodeStudy() cuts the text at the asked number of tokens", () => {
  assertEquals(encodeStudy(study).length, 100);
  assertEquals(
    [...encodeStudy(study)],
    [...model.tokenizer.encode(study.text, { bos: model.tokenizer.addsBos })].slice(0, 100),
  );
});

Deno.test("encodeStudy() encodes a text once, and gives ids that the caller may change", () => {
  let encoded = 0;
  const tokenizer = {
    addsBos: false,
    encode(text: string) {
      encoded++;
      return Int32Array.from(text, (letter) => letter.codePointAt(0)!);
    },
  } as unknown as Tokenizer;
  const plan = { model: { name: "fake", sha256: "", tokenizer, config: model.config }, text: "abc" };
  encodeStudy(plan).fill(0);
  assertEquals([...encodeStudy({ ...plan, tokens: 2 })], [97, 98]);
  assertEquals(encoded, 1);
  assertEquals([...encodeStudy({ ...plan, text: "d" })], [100]);
  assertEquals([...encodeStudy(plan)], [97, 98, 99]);
});

Deno.test("describeStudy() counts whole chunks alone and knows the package's version", async () => {
  const config = JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url)));
  const environment = await describeStudy(study);
  assertEquals(environment.version, config.version);
  assertEquals([environment.textTokens, environment.context, environment.text], [80, 40, "prose"]);
  assertEquals(environment.modelSha256, model.sha256);
  assertEquals((await describeStudy(study)).runDigest, environment.runDigest);
  assert((await describeStudy({ ...study, tokens: 40 })).runDigest !== environment.runDigest);
  assertEquals((await describeStudy({ ...study, context: undefined })).context, 512);
});

Deno.test("describeConditions() names products that are not exact: such runs are not mixed with others", async () => {
  const exact = await describeConditions(study, "cpu"),
    rounded = await describeConditions(study, "cpu", "f32", "bf16");
  assertEquals(rounded, { ...exact, products: "bf16" });
  assert(!("products" in exact));
});

Deno.test("sweepStudy() runs every trial of every grid once", async () => {
  const seen: number[] = [];
  const { trials, dense, environment } = await sweepStudy(
    study,
    [{ ...cheap, fusion: ["key", "value"] }, { ...cheap, fusion: ["value", "random"] }],
    { onProgress: ({ done }) => seen.push(done) },
  );
  assertEquals(trials.map(({ fusion }) => fusion).sort(), ["key", "random", "value"]);
  assertEquals(dense.tokens, 80);
  assertEquals(seen.at(-1), 3);
  for (const trial of trials) assertEquals(trial.runDigest, environment.runDigest);
});

Deno.test("sweepStudy() refuses what it cannot run before it runs anything", async () => {
  await assertRejects(() => sweepStudy(study, [{ fusion: "fancy" }]), RangeError, "fancy");
  await assertRejects(() => sweepStudy({ ...study, tokens: 20 }, [cheap]), RangeError);
  const aborted = AbortSignal.abort(new Error("enough"));
  await assertRejects(() => sweepStudy(study, [cheap], { signal: aborted }), Error, "enough");
});
