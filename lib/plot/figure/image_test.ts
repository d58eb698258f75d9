import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { browserTest } from "./testing.ts";
import { axis, baseLayout, emptyFigure, Figure } from "./figure.ts";
import { renderImages } from "./image.ts";
import { DARK } from "./theme.ts";

const figure = new Figure({
  title: "Loss",
  caption: "Two points.",
  height: 240,
  data: [1, 2].map((k) => ({
    type: "scatter",
    name: `run ${k}`,
    x: [0, 1],
    y: [k, 2],
    line: { color: "@series0" },
  })),
  layout: baseLayout({
    xaxis: axis("steps"),
    yaxis: axis("loss (nats)"),
    legend: { orientation: "h", x: 0, y: -0.2, yanchor: "top" },
  }),
});

browserTest("renderImages() draws figures with plotly, titles and legends included", async () => {
  const [svg, empty] = await renderImages([figure, emptyFigure("Nothing", "No trial here")], "svg", {
    theme: DARK,
  });
  assert(svg!.startsWith("<svg ") && svg!.endsWith("</svg>"));
  for (const text of ["Loss", "steps", "loss (nats)", "run 1", "run 2", 'width="900"']) {
    assertStringIncludes(svg!, text);
  }
  assertStringIncludes(empty!, "No trial here");
  const [red, green, blue] = DARK["@series0"]!.match(/[0-9a-f]{2}/g)!.map((hex) => parseInt(hex, 16));
  assertStringIncludes(svg!, `rgb(${red}, ${green}, ${blue})`);
  assertEquals(await renderImages([], "svg"), []);
});

browserTest("Figure.saveImage() writes PNG and SVG by the ending", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await figure.saveImage(`${folder}/a.png`, { width: 400, scale: 1 });
    const png = await Deno.readFile(`${folder}/a.png`);
    assertEquals([...png.subarray(1, 4)], [...new TextEncoder().encode("PNG")]);
    assertEquals(new DataView(png.buffer).getUint32(16), 400);
    await figure.saveImage(`${folder}/a.SVG`);
    assertStringIncludes(await Deno.readTextFile(`${folder}/a.SVG`), "<svg ");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("Figure.saveImage() refuses other endings and sizes", async () => {
  await assertRejects(() => figure.saveImage("a.jpg"), RangeError, 'Cannot save "a.jpg"');
  await assertRejects(() => figure.saveImage("a.png", { width: 5 }), RangeError, '"width": found 5');
  await assertRejects(() => figure.saveImage("a.png", { scale: NaN }), RangeError, "found scale NaN");
});
