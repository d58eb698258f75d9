import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { mapBudgets } from "../budgets.ts";
import { comparedMethods } from "./compared_methods.ts";
import { matchMethods } from "./match.ts";
import type { NamedMethod } from "./compared_methods.ts";

/** Retained fractions of a fake run: methods drop more or less than requested, each in its own way. */
const SLACK: { readonly [name: string]: number } = { keydiff: 0.8, snapkv: 1.05, mean: 0.9 };

Deno.test("matchMethods() gives every method the budget of the first one's random baseline", async () => {
  const methods = comparedMethods(["h2o", "keydiff", "snapkv", "mean", "random"], { pruneRatio: 0.5 }, 2);
  const ran: string[] = [];
  const spend = ({ name, options }: NamedMethod) => {
    const isKey = options.pruneRatio === 0, ratio = isKey ? options.kvRatio : options.pruneRatio;
    ran.push(`${name} ${ratio}`);
    const slack = SLACK[isKey ? options.kvFusion : options.fusion] ?? 1;
    return Promise.resolve(
      mapBudgets((budget) => budget === "cache" ? 1 - 0.8 * slack * ratio : (1 - slack * ratio) ** 2),
    );
  };
  const matched = await matchMethods(methods, "own", spend);
  const of = (name: string) => matched.get(name)!.matched;
  assertEquals([...matched.keys()].sort(), ["h2o", "keydiff", "mean", "random", "random for h2o", "snapkv"]);
  for (const name of ["h2o", "keydiff", "snapkv"]) {
    const { budget, target, ratio } = of(name), [{ options }] = matched.get(name)!.methods as [NamedMethod];
    assertEquals([budget, target, options.kvRatio, options.pruneRatio], ["cache", 0.6, ratio, 0]);
    assertAlmostEquals(1 - 0.8 * (SLACK[name] ?? 1) * ratio, 0.6, 0.005);
  }
  assertEquals([of("h2o").ratio, of("keydiff").asked, of("keydiff").reached], [0.5, 0.5, true]);
  assertEquals([of("mean").budget, of("mean").target], ["pairs", 0.25]);
  assertAlmostEquals((1 - 0.9 * of("mean").ratio) ** 2, 0.25, 0.005);
  // Seeds of a control share its ratio.
  assertEquals(matched.get("random")!.methods.map(({ options }) => options.seed), [0n, 1n]);
  assert(!ran.some((run) => run.startsWith("random for h2o") && !run.endsWith(" 0.5")));

  // One budget for all, where it is asked for: that of the first.
  const alike = await matchMethods(methods, "pairs", spend);
  assertEquals(
    new Set([...alike.values()].map(({ matched: { budget, target } }) => `${budget} ${target}`)).size,
    1,
  );
  // A method that cannot reach the budget runs at its requested ratio and is marked. A method that the model cannot
  // have sets no target.
  const dear = await matchMethods(methods, "own", async (method) => {
    const retained = await spend(method);
    return method.options.kvFusion === "snapkv" ? { ...retained, cache: 0.9 } : retained;
  });
  const { reached, ratio } = dear.get("snapkv")!.matched;
  assertEquals([reached, ratio], [false, 0.5]);
  assertEquals((await matchMethods(methods, "own", () => Promise.resolve(undefined))).size, 0);
});

Deno.test("matchMethods() leaves what aims at no ratio as it is", async () => {
  const methods = comparedMethods(["attention-drop", "h2o"], { pruneRatio: 0.3 }, 1);
  const spend = () => Promise.resolve(mapBudgets(() => 0.7));
  assertEquals([...(await matchMethods(methods, "own", spend)).keys()], ["h2o"]);
  const fixed = comparedMethods(["mean"], { threshold: "fixed", theta: 0 }, 1);
  assertEquals((await matchMethods(fixed, "own", spend)).size, 0);
  const explicit = comparedMethods(["mean"], { schedule: "explicit", skipRatios: [0.5, 0.5] }, 1);
  assertEquals((await matchMethods(explicit, "own", spend)).size, 0);
});
