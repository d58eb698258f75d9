import { assertEquals } from "@std/assert";
import {
  blockOf,
  costOf,
  excessKeys,
  formatChange,
  formatMean,
  formatMetric,
  formatSpread,
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
  help: "fraction of items answered",
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
    "errors per item",
    "errors per token",
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
    ["errorDelta", "error increase"],
    ["errorDeltaSe", "95%"],
    ["margin", "margin"],
  ]);
  assertEquals(columns[1]!.help, "mean loss minus the full model's, errors per item");
  assertEquals(columns[2]!.help, "95% interval of error increase: paired, over blocks of 64 items");
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

Deno.test("what stands beside a number is in its unit: of a perplexity by the delta method, of a fraction in points", () => {
  const perplexity = { digits: 2, fromMean: Math.exp }, mean = Math.log(21.18);
  assertEquals(formatMean(perplexity, { value: 21.18, mean, standardError: 0.084 }), "21.18 ±1.78");
  const large = { value: 1.1e8, mean: Math.log(1.1e8), standardError: 1.115 };
  assertEquals(formatMean(perplexity, large), "1.1e8 ±1.2e8");
  assertEquals(
    formatMean({ digits: 1, percent: true }, { value: 0.52, mean: 0.52, standardError: 0.035 }),
    "52.0% ±3.5",
  );
  assertEquals(formatMean({ digits: 4 }, { value: 0.5, mean: 0.5, standardError: 0.01 }), "0.5000 ±0.0100");
  assertEquals(formatMean(perplexity, { value: 21.18, mean, standardError: null }), "21.18");
  // From a perplexity of 20: 0.1 nats more are 2.10 more, 0.1 less 1.90 less.
  assertEquals([0.1, -0.1].map((nats) => formatChange(perplexity, nats, Math.log(20))), ["+2.10", "-1.90"]);
  assertEquals(formatChange({ digits: 1, percent: true }, -0.08, 0.7), "-8.0");
  assertEquals([formatChange({ digits: 4 }, 0.05, 3), formatSpread({ digits: 4 }, 0.05, 3)], [
    "+0.050",
    "0.0500",
  ]);
  assertEquals(formatSpread(perplexity, 0.1, Math.log(20)), "2.10");
  assertEquals(formatSpread({ digits: 1, percent: true }, 0.05, 0.5), "5.0");
});
