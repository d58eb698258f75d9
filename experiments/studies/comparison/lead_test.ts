import { assert, assertEquals } from "@std/assert";
import { collectLines, collectNeedles, drawLead } from "./lead.ts";
import { readPart } from "./tables.ts";

Deno.test("README's figure draws each method of the study, and its words are what the committed results say", async () => {
  const lines = collectLines([await readPart("text_0.2_0.4"), await readPart("text_short_0.5")]);
  const range = (side: string, isRandom: boolean) => {
    const nats = lines.filter((line) => line.side === side && line.isRandom === isRandom)
      .flatMap(({ points }) => points.map((point) => point.nats));
    return [Math.min(...nats), Math.max(...nats)].map((value) => value.toPrecision(1));
  };
  assertEquals(range("queries", false), ["0.6", "3"]);
  assertEquals(range("keys", false), ["0.009", "0.1"]);
  assert(lines.filter(({ isRandom }) => !isRandom).every(({ points }) => points.length === 4));
  const percents = async (part: string) =>
    [...collectNeedles(await readPart(part))].filter(([method]) => method !== "dense")
      .map(([, found]) => Math.round(100 * found)).sort((a, b) => a - b);
  assertEquals(await percents("needle_all_0.75"), [17, 17, 17, 17, 17]);
  assertEquals(await percents("needle_recall_0.75"), [58, 63, 83, 83, 100]);

  const { data } = (await drawLead()).toJson();
  assertEquals(data.length, 2 * lines.length + 2);
  const page = await Deno.readTextFile(new URL("../../../README.md", import.meta.url));
  const readme = page.replaceAll(/\s+/g, " ");
  const said =
    "query skipping costs 0.6 to 3.5 nats, eviction 0.01 to 0.13, each close to its grey random baseline";
  assert(
    readme.includes(said) && readme.includes("17% where all layers evict alike, 58% to 100% where four"),
  );
});
