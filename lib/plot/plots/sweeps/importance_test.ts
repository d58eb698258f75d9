import { assertEquals, assertStringIncludes } from "@std/assert";
import { collectImportance, plotImportance } from "./importance.ts";
import { makeSummary, makeTrial } from "../../testing.ts";

Deno.test("collectImportance() and plotImportance() have a bar an option, a pair, and the rest", () => {
  const summary = makeSummary(
    [1, 2].flatMap((tau) =>
      [0, 16].map((recent) => makeTrial({ tau, recent }, 0.5, 40 * Math.exp(tau + (recent === 0 ? 0 : 2))))
    ),
  );
  const figure = plotImportance(collectImportance(summary));
  const [bars] = figure.data;
  assertEquals(bars!.y, ["all else", "tau x recent", "tau", "recent"]);
  assertEquals((bars!.x as number[]).map((share) => Math.round(1000 * share)), [0, 0, 200, 800]);
  assertStringIncludes(figure.caption, "over 4 points, seeds averaged. Functional ANOVA");
});

Deno.test("plotImportance() says how the fractions of a part of a grid were taken, and what is missing", () => {
  const part = makeSummary([
    makeTrial({ tau: 1, recent: 0 }, 0.5, 50),
    makeTrial({ tau: 2, recent: 0 }, 0.5, 60),
    makeTrial({ tau: 2, recent: 16 }, 0.5, 70),
  ]);
  assertStringIncludes(plotImportance(collectImportance(part)).caption, "additive fit");
  const empty = plotImportance(collectImportance(makeSummary([])));
  assertStringIncludes(JSON.stringify(empty.layout), "No option varies here");
});
