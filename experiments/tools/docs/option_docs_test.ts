/** The descriptions of options in editors equal those of the command line. */
import { assertEquals } from "@std/assert";
import { describeOption, OPTION_DOCS, writeOptionDocs } from "./option_docs.ts";

const ROOT = new URL("../../../", import.meta.url);

Deno.test("the options' docs say what their rows say: else run experiments/tools/docs/reference_pages.ts", async () => {
  assertEquals(await Deno.readTextFile(new URL(OPTION_DOCS, ROOT)), writeOptionDocs());
});

Deno.test("describeOption() gives what it does, range, default, and what it belongs to, by the names of options", () => {
  const option = {
    type: "number",
    default: 0.5,
    range: "[0, 1)",
    of: { fusion: ["key"], anchor: ["ema", "mean"] },
    help: "share of what --prune-ratio says, {range}",
    note: "--tail where given",
  } as const;
  assertEquals(
    describeOption(option),
    "Share of what `pruneRatio` says. In [0, 1). Default: 0.5; `tail` where given. Only with `fusion` key. " +
      "Only with `anchor` ema, mean.",
  );
  assertEquals(describeOption({ type: "ratios", help: "a list" }), "A list.");
});
