/** Tests the tables of docs/results/findings.md that committed comparisons give: those of findings/ and of results/. */
import { assert, assertStringIncludes } from "@std/assert";
import { formatInterval } from "../../../lib/plot/mod.ts";
import type { Comparison } from "../../../lib/sweep/mod.ts";

const PAGE = await Deno.readTextFile(new URL("../../../docs/results/findings.md", import.meta.url));

type Measured = Comparison["methods"][number];

/** A committed comparison: its methods, and of a method the loss increase as the page shows it. */
async function readComparison(path: string) {
  const { methods }: Comparison = JSON.parse(await Deno.readTextFile(new URL(path, import.meta.url)));
  const find = (name: string) => methods.find((method) => method.name === name)!;
  return { find, show: (name: string) => formatInterval(find(name).lossIncrease!, 3) };
}

/** How much more the random baseline of a method loses. */
const overRule = ({ toRandom }: Measured) => {
  const { estimate, low, high } = toRandom!;
  return formatInterval({ estimate: -estimate, low: -high, high: -low }, 3).replace("+", "");
};

Deno.test("the page of findings has the losses of rules on the key side, of both models", async () => {
  const [smollm2, tiny] = await Promise.all(
    ["smollm2-135m", "tiny"].map((model) => readComparison(`findings/${model}_keys.json`)),
  );
  const rows = { "variance": "`variance`", "mean": "`mean`", "random": "`random`, mean of 3 seeds" };
  for (const [name, shown] of Object.entries({ ...rows, "variance inverted": "`variance` inverted" })) {
    assertStringIncludes(PAGE, `| ${shown} | ${smollm2!.show(name)} | ${tiny!.show(name)} |`);
  }
  const words = PAGE.replaceAll(/\s+/g, " ");
  assertStringIncludes(words, `random loses ${overRule(smollm2!.find("variance"))} more than \`variance\``);
  assertStringIncludes(words, `not significantly better than random (${overRule(tiny!.find("variance"))})`);
});

Deno.test("the page of findings has the losses of higher compression, and every rule is better than random", async () => {
  const settings = await Promise.all(
    ["0.75_512", "0.75_2048", "0.9_512"].map((name) =>
      readComparison(`findings/smollm2-135m_keys_${name}.json`)
    ),
  );
  const rules = ["leave-one-out", "missed", "key", "received", "keydiff"];
  for (const rule of [...rules, "random"]) {
    const shown = settings.map(({ show }) => show(rule));
    assertStringIncludes(PAGE, `| \`${rule}\` | ${shown.join(" | ")} |`);
  }
  for (const { find } of settings) {
    for (const rule of rules) assert(find(rule).toRandom!.high < 0, rule);
  }
  const [short, long, most] = settings.map(({ find }) => `${(100 * find("key").retained.cache).toFixed(0)}%`);
  assertStringIncludes(PAGE, `The KV cache size is ${short}, ${long} and ${most}.`);
  const [first, ...others] = rules.slice(0, 3).map((rule) => settings[1]!.find(rule).loss);
  for (const loss of others) assert(loss - first! < 0.0035);
});

Deno.test("the page of findings has the losses of skipped queries on tiny", async () => {
  const { find, show } = await readComparison("findings/tiny_queries.json");
  const { find: findAlone, show: showAlone } = await readComparison("findings/tiny_paper.json");
  // With a window of 16 the preset is the rule.
  const rows = {
    "paper": "`variance`, recent 16",
    "random": "`random`, recent 16, mean of 5 seeds",
    "variance inverted": "`variance` inverted, recent 16",
    "learned": "`learned`, recent 16",
    "oracle": "`oracle`, recent 16 (non-causal)",
  };
  const lossOf = ({ loss }: { readonly loss: number }) => [loss.toFixed(3), Math.exp(loss).toFixed(1)];
  assertStringIncludes(PAGE, `| full model | 0 | ${lossOf(find("dense")).join(" | | ")} |`);
  const row = (shown: string, { achievedRatio, loss }: Measured, increase: string) => {
    const [mean, perplexity] = lossOf({ loss });
    assertStringIncludes(
      PAGE,
      `| ${shown} | ${achievedRatio!.toFixed(3)} | ${mean} | ${increase} | ${perplexity} |`,
    );
  };
  row("`variance`, no recent window (preset `paper`)", findAlone("paper"), showAlone("paper"));
  for (const [name, shown] of Object.entries(rows)) {
    row(shown, find(name), show(name));
  }
  const { estimate, low, high } = find("learned").closed!;
  const [closed, from, to] = [estimate, low, high].map((share) => `${(100 * share).toFixed(1)}%`);
  assertStringIncludes(
    PAGE.replaceAll("\n", " "),
    `closes ${closed} of the gap between random and oracle (95% interval ${from} to ${to})`,
  );
});

Deno.test("the page of findings has the losses of local attention in chunks of 512, of both models", async () => {
  for (const [model, shown] of [["smollm2-135m", "SmolLM2-135M"], ["tiny", "`tiny`"]] as const) {
    const { find, show } = await readComparison(`results/${model}_local.json`),
      { retained } = find("local"),
      control = `+${overRule(find("local"))}`;
    const shares = (["pairs", "attentionFlops", "cache"] as const).map((name) =>
      `${(100 * retained[name]).toFixed(0)}%`
    );
    assertStringIncludes(
      PAGE,
      `| ${shown}, chunks of 512 | ${show("local")} | ${control}, three seeds | ${shares.join(" | ")} |`,
    );
  }
});
