import { assert, assertEquals } from "@std/assert";
import { choose } from "./choice_slider.ts";

const trace = (name: string, more = {}) => ({ name, ...more });

Deno.test("choose() shows one choice's traces and those that are always seen", () => {
  const { data, layout } = choose("layer", [
    { label: "2", traces: [trace("a"), trace("b", { visible: "legendonly" })] },
    { label: "3", traces: [trace("c"), trace("d", { visible: "legendonly" })] },
  ], { always: [trace("z")] });
  assertEquals(data.map(({ name, visible }) => [name, visible]), [
    ["z", true],
    ["a", false],
    ["b", false],
    ["c", true],
    ["d", "legendonly"],
  ]);
  const [slider] = layout.sliders as {
    active: number;
    steps: { args: [{ visible: unknown[] }, unknown] }[];
  }[];
  assertEquals(slider!.active, 1);
  assertEquals(slider!.steps.map(({ args }) => args[0].visible), [
    [true, true, "legendonly", false, false],
    [true, false, false, true, "legendonly"],
  ]);
});

Deno.test("choose() has no slider where there is nothing to choose", () => {
  const { data, layout } = choose("layer", [{ label: "2", traces: [trace("a")] }]);
  assertEquals([data, layout], [[{ name: "a", visible: true }], {}]);
  assertEquals(choose("layer", []), { data: [], layout: {} });
});

Deno.test("choose() leaves room for long labels at the ends", () => {
  const pad = (label: string) => {
    const { layout } = choose("", ["x", label].map((label) => ({ label, traces: [] })));
    return (layout.sliders as { pad: { l: number; r: number } }[])[0]!.pad;
  };
  assertEquals(pad("12").r, 0);
  assert(pad("post-rope, ema").r > 30 && pad("post-rope, ema").l === 0);
});
