import { assertEquals } from "@std/assert";
import {
  blockOf,
  costOf,
  excessKeys,
  formatMetric,
  type Headline,
  listMetrics,
  lossUnit,
  metricOfUnits,
  readMetric,
  signed,
  valuesOfUnits,
} from "./metrics.ts";

const headline: Headline = {
  name: "accuracy",
  label: "acc",
  help: "share of items answered",
  better: "higher",
  digits: 1,
  percent: true,
  fromLoss: (loss) => 1 - loss,
  formula: "1 - the mean loss",
};
const loss = { name: "error", label: "error", unit: "errors", of: "item" };

Deno.test("a task's words: keys of its differences, unit of its losses, columns in order", () => {
  assertEquals(excessKeys({ loss, headline }), {
    dense: "denseAccuracy",
    delta: "errorDelta",
    standardError: "errorDeltaSe",
  });
  assertEquals([lossUnit({ loss }), lossUnit({ loss: { ...loss, of: "token" } })], [
    "errors an item",
    "errors a token",
  ]);
  const margin = {
    name: "margin",
    label: "margin",
    help: "mean margin",
    better: "higher",
    digits: 3,
  } as const;
  const columns = listMetrics({ loss, headline, metrics: [margin] });
  assertEquals(columns.map(({ name, label }) => [name, label]), [
    ["accuracy", "acc"],
    ["errorDelta", "derror"],
    ["errorDeltaSe", "se"],
    ["margin", "margin"],
  ]);
  assertEquals(columns[1]!.help, "mean loss above the dense model's, errors an item");
  assertEquals(columns[2]!.help, "standard error of derror: paired, over blocks of 64 items");
});

Deno.test("a metric's value: read from a record, as text, as a cost", () => {
  assertEquals([readMetric({ a: 0 }, "a"), readMetric({ a: null }, "a"), readMetric({}, "a")], [0, NaN, NaN]);
  assertEquals(formatMetric(headline, 0.4567), "45.7%");
  assertEquals([formatMetric({ digits: 4 }, 1.23456), formatMetric({ digits: 4 }, 1.23456, 3)], [
    "1.2346",
    "1.235",
  ]);
  assertEquals(formatMetric({ digits: 2 }, 1.23456, 3), "1.23");
  assertEquals([999_999, 7.114e17].map((value) => formatMetric({ digits: 2 }, value)), [
    "999999.00",
    "7.1e17",
  ]);
  assertEquals(formatMetric({ digits: 2 }, NaN), "-");
  assertEquals([signed(0, 2), signed(-0.5, 1)], ["+0.00", "-0.5"]);
  assertEquals([costOf({ better: "lower" }, 2), costOf({ better: "higher" }, 2)], [2, -2]);
});

Deno.test("the headline as a metric of units is what better says: of losses, or where higher is better of what each stands for", () => {
  const losses = Float64Array.of(0, 1, 1);
  assertEquals([...valuesOfUnits(headline, losses)], [1, 0, 0]);
  assertEquals([metricOfUnits(headline).fromMean, metricOfUnits(headline).better], [undefined, "higher"]);
  const lower: Headline = { ...headline, better: "lower", fromLoss: Math.exp };
  assertEquals([valuesOfUnits(lower, losses), metricOfUnits(lower).fromMean], [losses, Math.exp]);
  assertEquals([blockOf({ loss }), blockOf({ loss: { ...loss, block: 1 } })], [64, 1]);
});
