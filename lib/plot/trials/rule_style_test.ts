import { assert, assertEquals } from "@std/assert";
import { headRules } from "../../heads/report.ts";
import { EVICTIONS, KEY_RULES, METHODS, OFFLINE } from "../../methods/list.ts";
import { PRESETS } from "../../methods/bind/option_table.ts";
import { styleRule, visibilityOf } from "./rule_style.ts";

Deno.test("styleRule() gives every rule looks of its own", () => {
  const looks = headRules().map((rule) => {
    const { color, symbol, dash } = styleRule(rule);
    return [color, symbol, dash].join();
  });
  assertEquals(new Set(looks).size, headRules().length);
  const lines = headRules().map((rule) => [styleRule(rule).color, styleRule(rule).dash].join());
  assertEquals(new Set(lines).size, headRules().length);
});

Deno.test("styleRule() gives every baseline method a style of its own, as every rule", () => {
  const names = [...METHODS, ...KEY_RULES, ...EVICTIONS, ...OFFLINE].map(({ name }) => name);
  const looks = names.map(styleRule).map(({ color, symbol, dash }) => [color, symbol, dash].join());
  assertEquals(new Set(looks).size, names.length);
});

Deno.test("presets are drawn among the main lines", () => {
  assertEquals(Object.keys(PRESETS).filter((name) => !styleRule(name).main), []);
});

Deno.test("styleRule() names no dotted mark that plotly does not have", () => {
  const names = [...METHODS, ...KEY_RULES].map(({ name }) => name);
  const shown = [...names, ...Object.keys(PRESETS)].flatMap((name) =>
    ["", " inverted", " on keys", " shuffled", " on keys shuffled", " inverted shuffled"].map((x) => name + x)
  );
  const wrong = shown.filter((name) => /^(hourglass|bowtie|\S+-x).*-dot$/.test(styleRule(name).symbol));
  assertEquals(wrong, []);
  assertEquals(styleRule("random shuffled").symbol, "hourglass-open");
});

Deno.test("styleRule() knows inverted rules and rules of a reader's own", () => {
  const plain = styleRule("variance"), inverted = styleRule("variance inverted");
  assertEquals([inverted.color, inverted.symbol], [plain.color, `${plain.symbol}-open`]);
  assertEquals(styleRule("variance on keys"), { ...plain, symbol: `${plain.symbol}-dot` });
  assertEquals(styleRule("variance inverted on keys").symbol, `${plain.symbol}-open-dot`);
  const shuffled = { ...plain, symbol: `${plain.symbol}-open-dot`, dash: "dot" };
  assertEquals([styleRule("variance shuffled"), styleRule("variance on keys shuffled")], [
    shuffled,
    shuffled,
  ]);
  assertEquals(styleRule("variance + key on keys"), styleRule("variance on keys"));
  assertEquals(styleRule("random on keys"), { ...styleRule("random"), symbol: "bowtie" });
  assertEquals([styleRule("keys").symbol, styleRule("paper").symbol], ["diamond-x-open", "square-x-open"]);
  assert(styleRule("mine").main && styleRule("mine").rank < styleRule("random").rank);
  assertEquals([visibilityOf("variance"), visibilityOf("max")], [true, "legendonly"]);
});
