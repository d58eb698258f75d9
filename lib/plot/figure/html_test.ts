import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { contentPolicy, Html, type HtmlPart, markup, scriptJson } from "./html.ts";
import { renderPage } from "./page.ts";

const ATTACK = `"><img src=x onerror="alert(1)">&`,
  ESCAPED = "&quot;&gt;&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;";

Deno.test("markup escapes whatever is not HTML, in text, in attributes and in lists", () => {
  const inner = markup`<b>${ATTACK}</b>`;
  assertEquals(String(inner), `<b>${ESCAPED}</b>`);
  assertEquals(
    String(markup`<p title="${ATTACK}">${[inner, ATTACK, [1, markup`<br>`]]}${false}${undefined}${0}</p>`),
    `<p title="${ESCAPED}"><b>${ESCAPED}</b>${ESCAPED}1<br>0</p>`,
  );
  // No field of a file is HTML, whatever it looks like.
  const forged = JSON.parse(JSON.stringify({ text: ATTACK, programs: [] })) as HtmlPart;
  assertEquals(String(markup`${forged}`), "[object Object]");
});

Deno.test("Html keeps the programs of its parts, and values that programs read end no script", () => {
  const program = Html.program('var a = "</script><!--";');
  assertEquals(String(program), '<script>var a = "<\\/script><\\!--";</script>');
  const nested = markup`<div>${[markup`<i>${program}</i>`, Html.program("b()")]}</div>`;
  assertEquals(nested.programs, ['var a = "<\\/script><\\!--";', "b()"]);
  const value = { text: "</script><!--\u2028\u2029", list: [1, null] }, json = scriptJson(value);
  assertEquals(/[<\u2028\u2029]/.test(json), false);
  assertEquals(JSON.parse(json), value);
  assertEquals(String(Html.data("a", value)), `<script type="application/json" id="a">${json}</script>`);
});

Deno.test("a page's policy names its programs by digest, and allows no others", () => {
  // By openssl, of the empty text.
  assertStringIncludes(
    contentPolicy([""]),
    "script-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=';",
  );
  assertStringIncludes(contentPolicy([]), "default-src 'none'; script-src 'none';");
  const beside = renderPage({ title: "a", sections: [markup`<button>b</button>`], plotly: { src: "p.js" } });
  assertMatch(beside, /script-src 'sha256-[\w+/]{43}=' 'self' file:;/);
  const whole = renderPage({
    title: "a",
    sections: [markup`${Html.program("b()")}<button>b</button>`],
    plotly: "c()",
  });
  const [, scripts] = whole.match(/script-src ([^;]*);/)!;
  assertEquals(scripts!.split(" ").length, 3, "the section's, plotly and the page's own");
  assertEquals([beside, whole].some((page) => /script-src [^;]*unsafe/.test(page)), false);
});
