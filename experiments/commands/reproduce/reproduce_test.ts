/** Tests recipes: plans, killed and resumed runs, published numbers, and the tables of finished runs. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { countUnits, interruptTask, listFolder, runTask, withFolder } from "../testing.ts";
import { writeCard } from "../cli/output/model_card.ts";
import { readKnownModels } from "./recipe.ts";
import { IN_SLOW_TIER, NOT_ON_WINDOWS, testSlow, unless } from "../../../lib/testing.ts";
import { type DenseCheck, findChromium, LIGHT, tabulateReproduction } from "../../../lib/plot/mod.ts";
import { existsSync } from "node:fs";
import { UsageError } from "../../../lib/errors.ts";
import { StudyStore } from "../../../lib/sweep/mod.ts";

/** A recipe of two protocols on the built-in text, with invented "published" numbers. */
const recipe = (dense: number) => ({
  version: 3,
  about: "A small recipe",
  model: "tiny",
  methods: "key,random",
  ratios: "0.3,0.5",
  flags: { seeds: "1", match: "none", recent: "0" },
  lengths: [8, 16],
  batches: [1, 2],
  protocols: {
    "own-64": {
      label: "prose at 64",
      says: "the first 256 tokens",
      task: "perplexity",
      context: 64,
      tokens: 256,
    },
    "own-32": {
      label: "prose at 32",
      says: "the first 128 tokens",
      task: "perplexity",
      context: 32,
      tokens: 128,
    },
  },
  sources: { own: "a test" },
  numbers: [
    { source: "own", protocol: "own-64", model: "tiny", values: { dense, "Other": { "50": 99.5 } } },
    { source: "own", protocol: "wikitext2-2048", model: "tiny", values: { "Other": { "50": 7.25 } } },
  ],
  parts: {
    "own-64": { warmup: "8" },
    "own-32": { warmup: "8" },
    "own-64 (all layers)": { warmup: "8", tail: "1", methods: "key", ratios: "0.3" },
    "recall": { items: "2", length: "48", "filter-from": "50%" },
  },
});

const SMALL = ["--threads", "1", "--quiet"];

/** Writes a recipe. @returns Its path. */
function writeRecipe(folder: string, content: object): string {
  const path = `${folder}/small.json`;
  Deno.writeTextFileSync(path, JSON.stringify(content));
  return path;
}

/** The dense perplexity of tiny on the first 256 tokens in chunks of 64, to two decimals. */
const dense = 50.615;
const readResult = (out: string) => JSON.parse(Deno.readTextFileSync(`${out}/reproduce.json`));

/** The content of a run's reproduce.json without times and memory, which differ from run to run. */
const withoutTimes = (out: string) =>
  JSON.parse(
    Deno.readTextFileSync(`${out}/reproduce.json`),
    (key, value) =>
      ["lengths", "peakMemoryBytes", "startedAt"].includes(key) || /Ms$/.test(key) ? undefined : value,
  );

Deno.test({
  ...unless(
    IN_SLOW_TIER || NOT_ON_WINDOWS,
    "reproduce that is killed again and again, wherever it is, comes to the report of a run that was not",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const path = writeRecipe(folder, recipe(dense)), out = `${folder}/out`, whole = `${folder}/whole`;
      const other = await runTask("reproduce", path, ...SMALL, "--jobs", "2", "--out", whole);
      assertEquals([other.code, other.stderr], [0, ""]);
      const count = (folder: string) => {
        if (!existsSync(`${folder}/study.db`)) return -1;
        try {
          using store = StudyStore.open(`${folder}/study.db`);
          return store.listUnits().length;
        } catch (error) {
          if (error instanceof UsageError) return -1; // it is being made
          throw error;
        }
      };
      // Before there is a study, as soon as there is one, amid the full model and its check, amid methods, and after the lengths.
      const total = count(whole), places = [-1, 0, 1, 4, 5, 9, 16, 24, total - 2, total - 1, total];
      for (const units of places) {
        const to = count(out) < 0 ? "--out" : "--resume";
        const killed = await interruptTask("reproduce", [path, ...SMALL, to, out], () =>
          count(out) >= units, "SIGKILL");
        if (killed.code !== 0) {
          assert(!existsSync(`${out}/reproduce.json`), `${units}`);
        }
        if (units === 9) {
          const waiting = () => {
            using store = StudyStore.open(`${out}/study.db`);
            const { waiting, running } = store.count();
            return waiting + running;
          };
          // A loaded machine kills late: the run may have ended.
          if (waiting() > 0) {
            await interruptTask("worker", ["--study", out, "--threads", "1", "--quiet"], () =>
              count(out) >= 12, "SIGKILL");
          }
        }
      }
      const resumed = await runTask("reproduce", path, ...SMALL, "--resume", out);
      assertEquals([resumed.code, resumed.stderr], [0, ""]);
      assertEquals(listFolder(out), ["report.html", "reproduce.json", "study.db", "tables.md"]);
      assertEquals(withoutTimes(out), withoutTimes(whole));
      // Times differ, and are kept: a further run shows those of the first.
      const { lengths } = readResult(out);
      for (const name of ["reproduce.json", "tables.md"]) {
        Deno.removeSync(`${out}/${name}`);
      }
      assertEquals((await runTask("reproduce", path, ...SMALL, "--resume", out)).code, 0);
      assertEquals(readResult(out).lengths, lengths);
    }),
});

Deno.test("reproduce puts published numbers into the column of their protocol, and others into tables of their own", () =>
  withFolder(async (folder) => {
    const path = writeRecipe(folder, recipe(dense)), out = `${folder}/out`;
    const { code, stdout, stderr } = await runTask(
      "reproduce",
      path,
      ...SMALL,
      "--columns",
      "all",
      "--out",
      out,
    );
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(stdout, "Dense tiny on prose at 64: ");
    const { columns, rows } = tabulateReproduction(readResult(out));
    const row = (name: string) => rows.find(([first]) => first === name)!;
    const [at64, at32] = ["prose at 64 ppl", "prose at 32 ppl"].map((name) => columns.indexOf(name));
    assertEquals([row("Other 50% (published)")[at64!], row("Other 50% (published)")[at32!]], ["99.5", "-"]);
    // An ablation changes the method, not the protocol: nothing is published of it.
    const all = columns.indexOf("prose at 64 (all layers) ppl");
    const numberOf = (name: string, i: number) => parseFloat(row(name)[i]!.replace("**", ""));
    assertEquals([row("Other 50% (published)")[all], row("key at 0.5")[all]], ["-", "-"]);
    assertEquals(numberOf("dense", all), numberOf("dense", at64!));
    assert(numberOf("key at 0.3", all) !== numberOf("key at 0.3", at64!));
    // Budgets of a method differ from part to part.
    assertEquals(row("dense").slice(1, 3), ["100%", "100%"]);
    assertMatch(row("key at 0.3")[1]!, /^\d\d-\d\d%$/);
    const page = Deno.readTextFileSync(`${out}/tables.md`), { lengths } = readResult(out);
    // Two sequences together are no longer than the longest one.
    const measured = ["dense", "key at 0.5", "random at 0.5"].flatMap((name) =>
      [[8, 1], [16, 1], [8, 2]].map(([tokens, batch]) => `${name}, ${batch} of ${tokens}`)
    );
    type Row = { readonly name: string; readonly tokens: number; readonly batch?: number };
    const found = lengths.map(({ name, tokens, batch = 1 }: Row) => `${name}, ${batch} of ${tokens}`);
    assertEquals(found.toSorted(), measured.toSorted());
    assertMatch(
      page,
      /## Time and memory against length, 2 sequences\n[^#]*\| 8 \| dense \|[^#]*\| 8 \| random at 0\.5 \|/,
    );
    const [own, others] = page.split("## Published for tiny: WikiText-2 at 2048");
    assertStringIncludes(others!, "| Other 50% | 7.25 | a test |");
    assert(!own!.includes("Other 50% | 7.25")); // a time may have these digits
    assertMatch(page, /\| prose at 64 \| the first 256 tokens \| built-in prose \| \w{12} \| yes \|/);
    // With fewer tokens the column is another one.
    const part = await runTask("reproduce", path, ...SMALL, "--tokens", "128", "--out", `${folder}/part`);
    assertEquals(part.code, 0);
    const cut = readResult(`${folder}/part`);
    assertEquals([cut.checks, cut.parts[0].isWhole, cut.parts[1].isWhole], [[], false, true]);
    assertEquals(tabulateReproduction(cut).rows.some(([name]) => name!.includes("(published)")), false);
  }));

Deno.test("reproduce stops where the full model is not the published one, and keeps its work", () =>
  withFolder(async (folder) => {
    const path = writeRecipe(folder, recipe(1.02 * dense)), out = `${folder}/out`;
    const { code, stdout, stderr } = await runTask("reproduce", path, ...SMALL, "--out", out);
    assertEquals([code, stdout], [2, ""]);
    assertMatch(
      stderr,
      /^Cannot go on: dense tiny has [\d.]+ on prose at 64, published [\d.]+ \(a test\), 2\.0% apart, expected at most 1%; .*--published none/,
    );
    // The check comes before all other work.
    assertEquals([countUnits(out, "chunk own-64"), countUnits(out, "chunk own-32")], [4, 0]);
    const changed = await runTask("reproduce", path, ...SMALL, "--ratios", "0.4", "--resume", out);
    assertEquals([changed.code, changed.stdout], [2, ""]);
    assertMatch(
      changed.stderr,
      /its runs ran with own-64 \w{12}, expected the same, found \w{12} \(repeat those/,
    );
    const going = await runTask("reproduce", path, ...SMALL, "--published", "none", "--resume", out);
    assertEquals([going.code, going.stderr], [0, ""]);
    assertEquals([readResult(out).checks, readResult(out).others], [[], []]);
  }));

Deno.test("table prints finished runs again: formats, rows, columns, and the page of a model", () =>
  withFolder(async (folder) => {
    const path = writeRecipe(folder, recipe(dense)), out = `${folder}/out`;
    assertEquals((await runTask("reproduce", path, ...SMALL, "--out", out)).code, 0);
    const print = async (...args: string[]) => {
      const { code, stdout, stderr } = await runTask("table", out, ...args);
      assertEquals(code, 0, stderr);
      return stdout;
    };
    const markdown = await print("--card", `${folder}/cards`);
    assertMatch(
      markdown,
      /^\| method \| pairs \| KV cache \| prose at 64 ppl \| prose at 32 ppl \| prose at 64 \(all layers\) ppl \| recall /,
    );
    assertStringIncludes(markdown, "significantly better than its random baseline");
    const latex = await print(
      "--format",
      "latex",
      "--rows",
      "dense,key",
      "--columns",
      "method,prose at 64 ppl",
    );
    assertMatch(latex, /^method & prose at 64 ppl \\\\$/m);
    assertMatch(latex, /\$\\pm\$/);
    assertEquals(latex.includes("random 30"), false);
    const csv = await print("--format", "csv");
    assertMatch(csv, /^method,pairs,KV cache,prose at 64 ppl/);
    assertEquals(csv.includes("**"), false);
    const card = Deno.readTextFileSync(`${folder}/cards/tiny.md`);
    assertStringIncludes(card, "# tiny: results of recipe small");
    assertEquals(Deno.readTextFileSync(`${out}/tables.md`), card);
    // The results next to the page give it again.
    const results = JSON.parse(Deno.readTextFileSync(`${folder}/cards/tiny.json`));
    assertEquals(writeCard(results), card);
    // The site takes it too.
    assertEquals((await runTask("report", out, "--out", `${folder}/site`)).code, 0);
    assertStringIncludes(Deno.readTextFileSync(`${folder}/site/index.html`), "Recipe small: 4 parts");
  }));

Deno.test("table joins comparisons of one model, a column per protocol, and refuses what cannot be joined", () =>
  withFolder(async (folder) => {
    const run = async (name: string, context: string) => {
      const args = ["--tokens", "128", "--methods", "key,random", "--seeds", "1", "--match", "none"];
      const out = `${folder}/${name}`;
      const { code, stderr } = await runTask(
        "compare",
        ...args,
        "--context",
        context,
        ...SMALL,
        "--out",
        out,
      );
      assertEquals(code, 0, stderr);
      return out;
    };
    const [short, long] = [await run("a", "32"), await run("b", "64")];
    const joined = await runTask("table", short, long);
    assertEquals(joined.code, 0);
    assertMatch(joined.stdout, /GPTQ style at 32 ppl \| built-in prose: GPTQ style at 64 ppl \|\n/);
    const swept = ["--context", "32", "--tokens", "64", "--method", "key,random", "--out", `${folder}/s`];
    assertEquals((await runTask("sweep", ...swept, ...SMALL)).code, 0);
    const sweep = await runTask("table", `${folder}/s`, "--rows", "key", "--format", "csv");
    assertEquals([sweep.code, sweep.stdout.trimEnd().split("\n").length], [0, 2]);
    const cases: [args: string[], message: RegExp][] = [
      [[short, `${folder}/s`], /expected each folder with a compare\.json/],
      [[short, short], /two folders have a column "built-in prose: GPTQ style at 32 ppl"/],
      [[`${folder}/none`], /found none of reproduce\.json, compare\.json, summary\.json there/],
      [[short, "--columns", "speed"], /Cannot use --columns speed: expected some of method, /],
      [[short, "--rows", "speed"], /Cannot use --rows speed: expected parts of dense, /],
      [[short, "--pdf"], /Cannot use --pdf without --figures/],
      [[short, "--format", "pdf"], /Cannot use --format "pdf": expected one of markdown, latex, csv/],
      [[short, "--card", `${folder}/card`], /expected a folder with reproduce\.json/],
      [[], /^Cannot run table with 0 names: expected deno task table DIR…/],
    ];
    for (const [args, message] of cases) {
      const { code, stderr } = await runTask("table", ...args);
      assertEquals([code, stderr.trimEnd().split("\n").length], [2, 1]);
      assertMatch(stderr, message);
    }
  }));

Deno.test("reproduce refuses what is no recipe, and nothing is written", () =>
  withFolder(async (folder) => {
    let count = 0;
    const changed = (changes: object) => {
      const place = `${folder}/${count++}`;
      Deno.mkdirSync(place);
      return writeRecipe(place, { ...recipe(dense), ...changes });
    };
    const broken = changed({ parts: { nonsense: {} } });
    const withProtocol = (name: string, label: string) => {
      const own = { label, says: "64 tokens", task: "perplexity", context: 64 };
      return changed({ protocols: { ...recipe(dense).protocols, [name]: own } });
    };
    const cases: [args: string[], message: RegExp][] = [
      [
        ["papre"],
        /Cannot use recipe "papre": expected quick, study, paper or a \.json file; the nearest is "paper"/,
      ],
      [[broken], /found part "nonsense", expected some of /],
      [[changed({ parts: {} })], /found no part in "parts"/],
      [
        [changed({ numbers: [{ source: "own", protocol: "x", model: "tiny", values: {} }] })],
        /numbers of "own" by "x"/,
      ],
      [[changed({ methods: undefined })], /found no "methods"/],
      // Each of these would put a number into the column of another protocol.
      [
        [withProtocol("wikitext2-2048", "own")],
        /found another protocol "wikitext2-2048", expected a name of its own/,
      ],
      [[withProtocol("own", "prose at 128")], /found two protocols with the label "prose at 128"/],
      [
        [changed({ parts: { "prose-128": { context: "64" } } })],
        /found "context" in "prose-128", expected it only /,
      ],
      [[changed({ flags: { text: "own.txt" } })], /found "text" in "flags"/],
      [[changed({ flags: { nonsense: "1" } })], /has no such flag/],
      [[changed({ methods: "nonsense" })], /Cannot compare "nonsense"/],
      [["quick", "--published", "LLaMA-2"], /Cannot use --published LLaMA-2: expected none or one of /],
      [["quick", "--prune-ratio", "0.5"], /has no such flag/],
      [["study", "--model", "tiny", "--data", folder], /book-long\.txt/],
    ];
    for (const [args, message] of cases) {
      const { code, stdout, stderr } = await runTask(
        "reproduce",
        ...args,
        ...SMALL,
        "--out",
        `${folder}/out`,
      );
      assertEquals([code, stdout, stderr.trimEnd().split("\n").length], [2, "", 1], stderr);
      assertMatch(stderr, message);
    }
    assert(!listFolder(folder).includes("out"));
  }));

Deno.test("reproduce --plan reads sizes from a config.json alone, and writes nothing else than its plan", () =>
  withFolder(async (folder) => {
    const { "LLaMA-2-7B": known } = await readKnownModels(), model = `${folder}/model`;
    Deno.mkdirSync(model);
    Deno.writeTextFileSync(`${model}/config.json`, JSON.stringify(known!.config));
    const args = ["paper", "--model", model, "--data", folder, "--plan", "--threads", "1", "--quiet"];
    const { code, stdout, stderr } = await runTask("reproduce", ...args, "--out", `${folder}/plan`);
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(stdout, `${folder}/piqa.jsonl`);
    assertStringIncludes(stdout.replaceAll(/\s+/g, " "), "13.5 GB of weights, 4.3 GB of keys and values");
    assertEquals([listFolder(`${folder}/plan`), listFolder(folder)], [["plan.json"], ["model", "plan"]]);
    // For a GPU that is not there, nothing is opened or timed.
    const ofCard = ["--backend", "cuda", "--cache-dtype", "bf16", "--gflops", "h100"];
    const planned = await runTask("reproduce", ...args.slice(0, 6), ...ofCard);
    assertEquals([planned.code, planned.stderr], [0, ""]);
    assertStringIncludes(
      planned.stdout.replaceAll(/\s+/g, " "),
      "peak of one H100 SXM in bf16: an assumption",
    );
    const alone = await runTask("reproduce", "paper", "--gflops", "h100", "--quiet");
    assertEquals([alone.code, alone.stdout], [2, ""]);
    assertStringIncludes(alone.stderr, "Cannot use --gflops without --plan");
    const unknown = await runTask("reproduce", "paper", "--model", "own/model", "--plan", "--quiet");
    assertEquals([unknown.code, unknown.stdout], [2, ""]);
    assertStringIncludes(unknown.stderr, 'Cannot plan for model "own/model": its sizes are not known here');
  }));

testSlow("quick gives the table of the page of tiny", () =>
  withFolder(async (folder) => {
    const { code, stdout, stderr } = await runTask(
      "reproduce",
      "quick",
      ...SMALL,
      "--markdown",
      "--out",
      `${folder}/q`,
    );
    assertEquals([code, stderr], [0, ""]);
    const page = Deno.readTextFileSync(new URL("../../../docs/results/models/tiny.md", import.meta.url));
    const [ran, committed] = [stdout, page.split("## Results")[1]!.split("## Protocols")[0]!].map((text) =>
      text.split("\n").filter((line) => line.startsWith("|")).map((line) =>
        line.split("|").map((cell) => cell.trim())
      )
    ) as [string[][], string[][]];
    // Another level rounds otherwise, so that decisions close to the threshold may differ; dense numbers do not show it.
    assertEquals([ran[0], ran[2]], [committed[0], committed[2]]);
    assertEquals(ran.map(([, method]) => method).sort(), committed.map(([, method]) => method).sort());
    const { checks } = readResult(`${folder}/q`);
    assertEquals(checks.map(({ found, published }: DenseCheck) => found.toFixed(2) === String(published)), [
      true,
      true,
    ]);
  }));

const noBrowser = findChromium() === undefined && "needs Chromium";
Deno.test({
  ...unless(
    IN_SLOW_TIER || noBrowser,
    "table writes the figures of a run as SVG in light colors, and as PDF",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const args = ["--context", "32", "--tokens", "64", "--method", "key,random", "--out", `${folder}/s`];
      assertEquals((await runTask("sweep", ...args, ...SMALL)).code, 0);
      const draw = async (...args: string[]) => {
        const { code, stderr } = await runTask(
          "table",
          `${folder}/s`,
          "--figures",
          `${folder}/figures`,
          ...args,
        );
        assertEquals(code, 0, stderr);
        return listFolder(`${folder}/figures`);
      };
      assertEquals((await draw()).filter((name) => name.endsWith(".pdf")), []);
      const files = await draw("--pdf");
      assert(files.length > 1 && files.every((name) => /^\d+_s_\w+\.(svg|pdf)$/.test(name)), files.join());
      const [pdf, name] = files as [string, string];
      const printed = new TextDecoder("latin1").decode(Deno.readFileSync(`${folder}/figures/${pdf}`));
      assertEquals([printed.slice(0, 5), printed.match(/\/Type \/Page\b/g)!.length], ["%PDF-", 1]);
      const svg = Deno.readTextFileSync(`${folder}/figures/${name}`);
      assertStringIncludes(svg, "<svg");
      assertEquals(LIGHT["@card"], "#ffffff");
      assertStringIncludes(svg, "fill: rgb(255, 255, 255)");
    }),
});
