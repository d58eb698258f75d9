import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import golden from "../lib/model/testdata/tiny_golden.json" with { type: "json" };
import { runTask, withFolder } from "./testing.ts";

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
    decodedOn?: "device" | "host";
  };
}

const furthest = (a: number[], b: number[]) => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));

Deno.test("score --json is dense without a flag of the method", () =>
  withFolder(async (folder) => {
    const result = await score(folder);
    assertEquals(Object.keys(result), ["ids", "nll", "perplexity", "keep", "layers"]);
    assertEquals([result.ids, result.nll.length, result.keep, result.layers], [ids, 149, [], []]);
    assertAlmostEquals(Math.log(result.perplexity), result.nll.reduce((a, b) => a + b) / 149, 1e-12);
    const keepsAll = await score(folder, "--prune-ratio", "0");
    assert(furthest(keepsAll.nll, result.nll) < 1e-5);
    assert(keepsAll.keep.flat().every((keep) => keep === 1));
  }));

Deno.test("score decides alike in prefill, in pieces and in decode", () =>
  withFolder(async (folder) => {
    for (const method of [["--fusion", "learned"], ["--preset", "paper"]]) {
      const whole = await score(folder, ...method);
      assertEquals(whole.layers, [2, 3, 4, 5, 6, 7, 8, 9]);
      assertEquals(whole.keep.map((mask) => mask.length), Array(8).fill(150));
      assert(whole.keep.every((mask) => mask.slice(0, 32).every((keep) => keep === 1) && mask.includes(0)));
      for (const feed of [["--chunk", "7"], ["--chunk", "64"], ["--phase", "decode"]]) {
        const fed = await score(folder, ...method, ...feed);
        assertEquals(fed.keep, whole.keep, feed.join(" "));
        assertEquals(fed.decodedOn, feed.includes("decode") ? "host" : undefined);
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
