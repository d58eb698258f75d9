import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { findBf16Unit } from "../../../ffi/bf16_testing.ts";
import { writeSafetensors } from "../../../lib/model/mod.ts";
import { CHECKPOINTS, hfFolder } from "../../../lib/model/testdata/checkpoints.ts";
import golden from "../../../lib/model/testdata/tiny_golden.json" with { type: "json" };
import { unless } from "../../../lib/testing.ts";
import { formatRanges } from "./outcome.ts";
import { runTask, withFolder } from "../testing.ts";

const { reason: noBf16 } = await findBf16Unit();
const ids = Array.from({ length: 150 }, (_, i) => i === 0 ? 1 : 300 + (i * 37 + i * i) % 900);

async function score(folder: string, ...args: string[]) {
  Deno.writeTextFileSync(`${folder}/ids.json`, JSON.stringify(ids));
  const { code, stdout, stderr } = await runTask(
    "score",
    "--ids",
    `${folder}/ids.json`,
    "--json",
    "--quiet",
    ...args,
  );
  assertEquals([code, stderr], [0, ""]);
  return JSON.parse(stdout) as {
    ids: number[];
    nll: number[];
    perplexity: number;
    keep: number[][];
    layers: number[];
    kvKeep: number[][];
    kvLayers: number[];
    decodedOn?: "device" | "host";
    products?: "bf16";
    denseNll: number[];
    densePerplexity: number;
    achievedRatio: number | null;
    kvBytesHeld: number;
    kvBytesAvoided: number;
  };
}

const furthest = (a: number[], b: number[]) => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));

Deno.test("score --json is dense without a flag of the method", () =>
  withFolder(async (folder) => {
    const result = await score(folder);
    assertEquals(Object.keys(result), ["ids", "nll", "perplexity", "keep", "layers", "kvKeep", "kvLayers"]);
    assertEquals([result.ids, result.nll.length, result.keep, result.layers], [ids, 149, [], []]);
    assertAlmostEquals(Math.log(result.perplexity), result.nll.reduce((a, b) => a + b) / 149, 1e-12);
    const keepsAll = await score(folder, "--prune-ratio", "0");
    assertEquals([keepsAll.achievedRatio, keepsAll.kvBytesAvoided, keepsAll.denseNll], [0, 0, result.nll]);
    assert(furthest(keepsAll.nll, result.nll) < 1e-5);
    assert(keepsAll.keep.flat().every((keep) => keep === 1));
  }));

Deno.test({
  ...unless(noBf16, "score --matmul bf16 names what it rounds, and moves losses a little"),
  fn: () =>
    withFolder(async (folder) => {
      const { nll } = await score(folder), rounded = await score(folder, "--matmul", "bf16");
      assertEquals([rounded.products, String(rounded.nll) === String(nll)], ["bf16", false]);
      const mean = (losses: number[]) => losses.reduce((a, b) => a + b) / losses.length;
      assert(Math.abs(mean(rounded.nll) - mean(nll)) < 0.02);
    }),
});

Deno.test("score keeps no trace of a method that alters the model", () =>
  withFolder(async (folder) => {
    Deno.writeTextFileSync(`${folder}/ids.json`, "[1, 2, 3]");
    const asked = ["--ids", `${folder}/ids.json`, "--trace", `${folder}/trace.parquet`];
    const { code, stderr } = await runTask("score", ...asked, "--method", "shortgpt");
    assertEquals([code, stderr], [
      2,
      "Cannot use --trace with --method shortgpt: it alters the model, and decides on no token\n",
    ]);
  }));

Deno.test("score decides alike in prefill, in pieces and in decode", () =>
  withFolder(async (folder) => {
    for (const method of [["--method", "learned"], ["--preset", "paper"]]) {
      const whole = await score(folder, ...method);
      assertEquals(whole.layers, [2, 3, 4, 5, 6, 7, 8, 9]);
      assertEquals(whole.keep.map((mask) => mask.length), Array(8).fill(150));
      const skipped = whole.keep.flat().filter((keep) => keep === 0).length;
      assertAlmostEquals(whole.achievedRatio!, skipped / (10 * (150 - 32)), 1e-12);
      // A row of tiny's cache: keys and values of its heads in f32; skipped rows of the recent window are held.
      assert(whole.kvBytesAvoided > 0 && whole.kvBytesAvoided <= skipped * 1024);
      assert(whole.densePerplexity < whole.perplexity);
      assert(whole.keep.every((mask) => mask.slice(0, 32).every((keep) => keep === 1) && mask.includes(0)));
      for (const feed of [["--chunk", "7"], ["--chunk", "64"], ["--phase", "decode"]]) {
        const fed = await score(folder, ...method, ...feed);
        assertEquals(fed.keep, whole.keep, feed.join(" "));
        assertEquals(fed.decodedOn, feed.includes("decode") ? "host" : undefined);
        assert(furthest(fed.nll, whole.nll) < 1e-4, feed.join(" "));
      }
    }
  }));

Deno.test("score drops the same keys and values in prefill, in pieces and in decode", () =>
  withFolder(async (folder) => {
    for (
      const rule of [["--preset", "keys"], [
        "--side",
        "key",
        "--kv-method",
        "received",
        "--kv-tail",
        "0.2",
        "--kv-ratio",
        "0.1",
      ]]
    ) {
      const keys = [...rule, "--warmup", "16"], whole = await score(folder, ...keys);
      const layers = rule.includes("keys") ? [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] : [8, 9];
      assertEquals([whole.layers, whole.keep, whole.kvLayers], [[], [], layers]);
      const bounds = whole.kvKeep.map((
        mask,
      ) => [mask.length, mask.indexOf(0) >= 16, mask.lastIndexOf(0) < 112]);
      assertEquals(bounds, layers.map(() => [150, true, true])); // decided last at 128
      for (const feed of [rule.includes("keys") ? ["--phase", "decode"] : ["--chunk", "37"]]) {
        const fed = await score(folder, ...keys, ...feed);
        assertEquals(fed.kvKeep, whole.kvKeep, feed.join(" "));
        assert(furthest(fed.nll, whole.nll) < 1e-4, feed.join(" "));
      }
    }
  }));

Deno.test("score takes a text, warns past the model's context, and prints a table", () =>
  withFolder(async (folder) => {
    Deno.writeTextFileSync(
      `${folder}/text.txt`,
      "The old sea captain looked at the harbour and said nothing. ".repeat(50),
    );
    const { code, stdout, stderr } = await runTask(
      "score",
      "--text",
      `${folder}/text.txt`,
      "--out",
      `${folder}/out`,
    );
    assertEquals(code, 0);
    assertStringIncludes(stderr, "the model was trained on 512");
    assertStringIncludes(stdout, "Perplexity ");
    const saved = JSON.parse(Deno.readTextFileSync(`${folder}/out/score.json`));
    assertEquals(saved.ids[0], 1);
    assert(saved.ids.length > 512);
    assertEquals(stdout.split("\n").filter((line) => /^ *\d+ /.test(line)).length, saved.ids.length);
  }));

Deno.test("score takes every id that a model's tables have, of tokens or not", () =>
  withFolder(async (folder) => {
    const model = { type: "BPE", vocab: { a: 0, b: 1 }, merges: [] };
    Deno.writeTextFileSync(`${folder}/config.json`, JSON.stringify(CHECKPOINTS.mistral.config));
    Deno.writeTextFileSync(`${folder}/tokenizer.json`, JSON.stringify({ model }));
    Deno.writeFileSync(`${folder}/model.safetensors`, writeSafetensors(hfFolder("mistral").tensors));
    const score = (ids: number[]) => {
      Deno.writeTextFileSync(`${folder}/ids.json`, JSON.stringify(ids));
      const method = ["--warmup", "1", "--out", `${folder}/out`];
      const asked = ["--model", folder, "--ids", `${folder}/ids.json`, "--backend", "reference", ...method];
      return runTask("score", ...asked, "--quiet");
    };
    const { code, stdout, stderr } = await score([0, 47, 3, 1]);
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(stdout, '47  ""');
    const high = await score([0, 48]);
    assertEquals([high.code, high.stderr], [
      2,
      `Cannot use "${folder}/ids.json": found id 48 at 1, expected ids below the model's 48\n`,
    ]);
  }));

Deno.test("score gives transformers' ids and losses of tiny", () =>
  withFolder(async (folder) => {
    for (const { text, ids, nll } of golden.texts) {
      Deno.writeTextFileSync(`${folder}/text.txt`, text);
      const { stdout } = await runTask("score", "--text", `${folder}/text.txt`, "--json", "--quiet");
      const result = JSON.parse(stdout);
      assertEquals(result.ids, ids);
      assert(furthest(result.nll, nll) < 1e-5);
      const perplexity = Math.exp(nll.reduce((a, b) => a + b) / nll.length);
      assertAlmostEquals(result.perplexity / perplexity, 1, 1e-5);
    }
  }));

const SOURCE = "The old sea captain looked at the harbour and said nothing. ".repeat(4);

Deno.test("score with a method ends with what was skipped, what it cost and saved, and keeps a page", () =>
  withFolder(async (folder) => {
    Deno.writeTextFileSync(`${folder}/text.txt`, SOURCE);
    const args = ["--text", `${folder}/text.txt`, "--prune-ratio", "0.4", "--warmup", "16"];
    const { code, stdout, stderr } = await runTask("score", ...args, "--out", `${folder}/out`);
    assertEquals(code, 0, stderr);
    const saved = JSON.parse(Deno.readTextFileSync(`${folder}/out/score.json`));
    const lines = stdout.trimEnd().split("\n"), head = lines[0]!.split(/ {2,}/);
    assertEquals(head, ["position", "id", "piece", "nll", "dense", "skipped layers"]);
    assertEquals(lines[2]!.trim().split(/ +/).slice(-2), ["-", "-"]);
    const second = lines[3]!.trim().split(/ +/);
    assertEquals(second.slice(3, 5), [saved.nll[0].toFixed(4), saved.denseNll[0].toFixed(4)]);
    const cost = Math.log(saved.perplexity / saved.densePerplexity), { kvBytesHeld, kvBytesAvoided } = saved;
    assertEquals(lines.slice(-3), [
      `Perplexity ${saved.perplexity.toFixed(4)} over ${saved.nll.length} tokens of tiny; dense ` +
      `${saved.densePerplexity.toFixed(4)}: ${cost < 0 ? "" : "+"}${cost.toFixed(4)} nats per token.`,
      `Skipped ${(100 * saved.achievedRatio).toFixed(1)}% of attention after the warm-up, over all layers ` +
      `(requested: 40%). KV cache: ${kvBytesHeld} bytes, ${
        (100 * kvBytesHeld / (kvBytesHeld + kvBytesAvoided)).toFixed(0)
      }% of the full model.`,
      `Report: ${folder}/out/score.html`,
    ]);
    const page = Deno.readTextFileSync(`${folder}/out/score.html`);
    assertStringIncludes(page, "Which tokens were skipped");
    assertStringIncludes(page, "dense " + saved.densePerplexity.toFixed(4));
    const map = JSON.parse(page.match(/var map = (.*?);\n/)![1]!);
    assertEquals(map.layers.map(({ keep }: { keep: number[] }) => keep), saved.keep);
    assert(map.layers[0].redundancy.some((score: number | null) => score !== null));
    assert(!page.includes("plotly.js"), "no plot, no plotly");
    // A replay has only masks, and gives the same.
    const trace = `${folder}/trace.parquet`;
    assertEquals((await runTask("score", ...args, "--trace", trace, "--quiet")).code, 0);
    const again = await runTask("score", "--replay", trace, "--out", `${folder}/again`, "--json", "--quiet");
    assertEquals(JSON.parse(again.stdout), saved);
    assertStringIncludes(Deno.readTextFileSync(`${folder}/again/score.html`), "decisions of a trace");
  }));

Deno.test("score of keys alone says what went, in the table and in the end", () =>
  withFolder(async (folder) => {
    Deno.writeTextFileSync(`${folder}/text.txt`, SOURCE.repeat(2));
    const args = ["--text", `${folder}/text.txt`, "--preset", "keys", "--warmup", "8", "--recent", "0"];
    const { code, stdout, stderr } = await runTask(
      "score",
      ...args,
      "--kv-ratio",
      "0.6",
      "--out",
      `${folder}/out`,
    );
    assertEquals(code, 0, stderr);
    const saved = JSON.parse(Deno.readTextFileSync(`${folder}/out/score.json`));
    const lines = stdout.trimEnd().split("\n");
    assertEquals(lines[0]!.split(/ {2,}/).slice(-2), ["skipped layers", "evicted layers"]);
    const share = (100 * saved.kvAchievedRatio).toFixed(1);
    assert(Math.abs(saved.kvAchievedRatio - 0.6) < 0.06, share);
    const words =
      `Evicted ${share}% of decided keys and values after the warm-up, over all layers (requested: 60%). KV cache: `;
    assertEquals(lines.at(-2)!.slice(0, words.length), words);
  }));

Deno.test("formatRanges() joins neighbours", () => {
  assertEquals(formatRanges([]), "");
  assertEquals(formatRanges([2, 3, 4, 6, 8, 9]), "2-4 6 8-9");
});
