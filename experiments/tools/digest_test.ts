import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { sha256 } from "../../lib/sha256.ts";
import { listTree } from "./machine/checkout.ts";
import { compareDigests, type Digest, FORMAT } from "./digest/compare.ts";
import { ROOT } from "./digest/execute.ts";
import { applyFault, FAULTS, readSources } from "./digest/faults.ts";
import { writeInputs } from "./digest/inputs.ts";
import { formatDigest } from "./digest/format.ts";
import { normalizeJson, normalizeText } from "./digest/normalize.ts";
import { facetsOfPath, facetsOfProcess, withoutRepeats } from "./digest/outputs.ts";
import { listRuns } from "./digest/runs.ts";
import { summarizeJson, summarizeText } from "./digest/summarize.ts";
import { runTask, withFolder } from "../commands/testing.ts";

const NUMBERS = Array.from({ length: 40 }, (_, i) => Math.sin(i));

Deno.test("summarizeJson() tells a changed digit, a changed order, a gap and a lost field", () => {
  const of = (document: unknown) => JSON.stringify(summarizeJson(document));
  const plain = of({ x: NUMBERS });
  assertStringIncludes(plain, '"x[]":"40, mean ');
  const digit = NUMBERS.with(7, NUMBERS[7]! * (1 + 2 ** -52)), swapped = NUMBERS.with(0, 1).with(1, 0);
  for (const other of [digit, NUMBERS.toReversed(), swapped, NUMBERS.with(3, NaN), NUMBERS.slice(1)]) {
    assert(of({ x: other }) !== plain);
  }
  const records = NUMBERS.map((loss, i) => ({ loss, rule: i % 2 === 0 ? "key" : "value" }));
  const [{ rule: _, ...without }, ...others] = records;
  assert(of(records) !== of([without, ...others]));
  assert(of({ a: [], b: 1 }) !== of({ b: 1 }));
});

Deno.test("summarizeJson() keeps short values, and masks row by row", () => {
  const keep = [NUMBERS, NUMBERS.toReversed()].map((row) => row.map((x) => x > 0 ? 1 : 0));
  const rows = summarizeJson({ keep, options: { tau: 4, features: ["norm"] }, none: null });
  assertEquals(rows["keep[][]"], ["20/40 71c71c38e3", "20/40 c71c38e38e"]);
  assertEquals([rows["options.tau"], rows["options.features[]"], rows.none], [4, ["norm"], null]);
  const turned = summarizeJson({ keep: keep.toReversed() });
  assert(JSON.stringify(turned) !== JSON.stringify(summarizeJson({ keep })));
});

Deno.test("summarizeJson() tells long lists of words by their hash", () => {
  const words = Array.from({ length: 2000 }, (_, i) => `word ${i}`);
  const of = (list: string[]) => String(summarizeJson({ words: list })["words[]"]);
  assert(of(words).startsWith("2000 values ") && of(words) !== of(words.with(1999, "x")), of(words));
});

Deno.test("summarizeText() keeps lines, and hashes what is long", () => {
  assertEquals(summarizeText("a\nb\n"), ["a", "b"]);
  const long = "line\n".repeat(2000);
  assert(String(summarizeText(long)).startsWith("2000 lines #"));
  assert(summarizeText(long) !== summarizeText(long.replace("line", "lime")));
});

Deno.test("normalizing takes out what varies, and nothing else", () => {
  const names = [["/tmp/x", "TMP"]] as const;
  const same = (a: string, b: string) => assertEquals(normalizeText(a, names), normalizeText(b, names));
  same("at /tmp/x/out: 3 min 20 s left", "at TMP/out: 2 s left");
  same("run of 2026-01-02T03:04:05.678Z", "run of 2027-11-12T13:14:15Z");
  same(
    "rule  FLOPs  time\n----  -----  ----\nmean    92%   46%\n",
    "rule  FLOPs   time\n----  -----  -----\nmean    92%  1046%\n",
  );
  same('{ "timeMs": 1.5,\n', '{ "timeMs": 20,\n');
  for (
    const [a, b] of [["mean 92% 46%", "mean 93% 46%"], ["took 3 s", "took 4 s"], ['"nll": 1.5', '"nll": 2']]
  ) {
    assert(normalizeText(a!, names) !== normalizeText(b!, names));
  }
  assertEquals(normalizeJson([{ timeMs: 3, tokens: 4, path: "/tmp/x/y" }], names), [
    { timeMs: "<varies>", tokens: 4, path: "TMP/y" },
  ]);
});

Deno.test("facets tell exit codes, streams, files and what a page shows", () =>
  withFolder(async (folder) => {
    const process = facetsOfProcess({ code: 2, stdout: '{"a": 1}', stderr: "Cannot: no\n" }, []);
    assertEquals(process, { code: 2, stderr: ["Cannot: no"], stdout: { a: 1 } });
    const page = (x: number, word: string) =>
      `<style>p{}</style><p>${word}</p><table><tr><td>a</td><td>92%</td><td>${x}%</td></tr></table>` +
      `<script type="application/json" id="figures">[{"data":[{"x":[${x}],"name":"n"}],"layout":{}}]</script>`;
    const facetsOf = async (html: string) => {
      Deno.writeTextFileSync(`${folder}/page.html`, html);
      return await facetsOfPath(folder, []);
    };
    const facets = await facetsOf(page(7, "word"));
    assertEquals(facets.files, ["page.html"]);
    assertEquals(facets["page.html: text"], ["word", "a | 92% | <time>"]);
    const other = await facetsOf(page(8, "word"));
    assertEquals(other["page.html: text"], facets["page.html: text"]);
    assert(JSON.stringify(other["page.html: figure 0"]) !== JSON.stringify(facets["page.html: figure 0"]));
    const long = "x".repeat(300);
    assertEquals(withoutRepeats({ a: long, b: long, c: 1, d: 1 }), { a: long, b: "as a", c: 1, d: 1 });
  }));

const DIGEST: Digest = {
  format: FORMAT,
  level: "os arch level",
  has: ["level a"],
  madeWith: { compiler: "2" },
  runs: {
    one: { code: 0, stdout: { loss: 1.25, "nll[]": "40, mean 1.250000 0.7000000 #01234567" } },
    two: { code: 2, stderr: ["Cannot use 1.5: found b"] },
    three: { needs: "level a", code: 0 },
  },
};

/** The digest with the value at a path replaced; undefined takes it away. */
function changed(path: readonly string[], value: unknown): Digest {
  const copy = structuredClone(DIGEST);
  const parent = path.slice(0, -1).reduce(
    (tree, part) => tree[part],
    copy as unknown as Record<string, never>,
  );
  (parent as Record<string, unknown>)[path.at(-1)!] = value;
  return JSON.parse(JSON.stringify(copy));
}

Deno.test("compareDigests() names run, facet, path and both values", () => {
  assertEquals(compareDigests(DIGEST, DIGEST).differences, []);
  const loss = compareDigests(DIGEST, changed(["runs", "one", "stdout", "loss"], 1.5));
  assertEquals(loss.differences, [{
    run: "one",
    facet: "stdout",
    path: "loss",
    before: "1.25",
    after: "1.5",
  }]);
  for (
    const path of [["two", "code"], ["two", "stderr", "0"], ["one", "stdout", "loss"], [
      "one",
      "code",
    ]]
  ) {
    for (const value of [7, undefined]) {
      const other = changed(["runs", ...path], value);
      for (const pair of [[DIGEST, other], [other, DIGEST]] as const) {
        assertEquals(
          compareDigests(pair[0], pair[1]).differences.map(({ run }) => run),
          [path[0]],
          path.join(),
        );
      }
    }
  }
  const lost = changed(["runs", "two"], undefined);
  assertEquals(compareDigests(DIGEST, lost).differences, [
    { run: "two", facet: "", path: "", before: "a run", after: "no such run" },
  ]);
  assertEquals(compareDigests(lost, DIGEST).differences.length, 1);
  assertEquals(compareDigests(DIGEST, lost, "one").differences, []);
});

Deno.test("compareDigests() compares to rounding where other tools made a digest, and says so", () => {
  const near = changed(["runs", "one", "stdout"], {
    loss: 1.2501,
    "nll[]": "40, mean 1.250001 0.7000000 #ba987654",
  });
  assertEquals(compareDigests(DIGEST, near).differences.length, 1);
  assertEquals(compareDigests(DIGEST, near, "", true).differences, []);
  const elsewhere = { ...near, madeWith: { compiler: "3" } };
  assertEquals(compareDigests(DIGEST, elsewhere), {
    differences: [],
    compared: 3,
    lacking: [],
    otherTools: ["compiler"],
  });
  const far = changed(["runs", "one", "stdout", "nll[]"], "40, mean 1.260000 0.7000000 #ba987654");
  assertEquals(compareDigests(DIGEST, far, "", true).differences.length, 1);
  const word = changed(["runs", "two", "stderr", "0"], "Cannot use 1.5: found c");
  assertEquals(compareDigests(DIGEST, word, "", true).differences.length, 1);
});

Deno.test("compareDigests() leaves out what one of the machines lacks, and says so", () => {
  const { three: _, ...runs } = DIGEST.runs;
  const without = { ...DIGEST, has: [], runs };
  for (const pair of [[DIGEST, without], [without, DIGEST]] as const) {
    const { differences, compared, lacking } = compareDigests(pair[0], pair[1]);
    assertEquals([differences, compared, lacking], [[], 2, ["level a"]]);
  }
  assertEquals(compareDigests(DIGEST, { ...DIGEST, runs }).differences.length, 1);
});

Deno.test("formatDigest() is JSON of short lines", () => {
  const text = formatDigest(DIGEST);
  assertEquals(JSON.parse(text), DIGEST);
  assert(text.split("\n").length > 5);
  const long = { numbers: Array.from({ length: 200 }, (_, i) => i) } as unknown as Digest;
  assertEquals(JSON.parse(formatDigest(long)), long);
  assertEquals(formatDigest(long).split("\n").length, 205);
});

Deno.test("writeInputs() leaves dumps of all their numbers in either type, the same on every machine", () =>
  withFolder(async (folder) => {
    writeInputs(folder);
    assertEquals(
      (await sha256(Deno.readFileSync(`${folder}/dump.safetensors`))).slice(0, 12),
      "8f027a956dd2",
    );
    for (const [name, bytes] of [["dump", 4], ["bf16", 2]] as const) {
      const [low, high] = [0, 400].map((header) => header + 2 * 60 * 3 * 8 * bytes);
      const { size } = Deno.statSync(`${folder}/${name}.safetensors`);
      assert(size > low! && size < high!, `${name}: ${size} bytes`);
    }
  }));

Deno.test("the list of runs has every method on every backend", () => {
  const names = listRuns({ blas: undefined, blasEnv: {} }).flat().map(({ name }) => name);
  for (const rule of ["random", "oracle"]) {
    for (const backend of ["reference --tokens 64", "cuda --tokens 40"]) {
      const [fast, slow] = [`score --method ${rule}`, `score --backend ${backend}`];
      assert(
        names.includes(fast) &&
          names.some((name) => name.startsWith(slow) && name.endsWith(`--method ${rule}`)),
      );
    }
  }
});

Deno.test("the list of runs asks every task for its help", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
  const scripts = Object.entries<string>(tasks).filter(([name, line]) =>
    /^deno run [^&]*$/.test(line) && name !== "test" // passes its flags on to Deno
  ).map(([name]) => name);
  const names = listRuns({ blas: undefined, blasEnv: {} }).flat().map(({ name }) => name);
  assert(scripts.length > 10);
  assertEquals(scripts.filter((task) => !names.includes(`${task} --help`)), []);
});

Deno.test("the faults that a digest must see fit the sources as they are", async () => {
  const paths = (await listTree(ROOT.slice(0, -1))).map(({ to }) => to),
    sources = await readSources(ROOT, paths);
  for (const fault of FAULTS) {
    const changed = applyFault(fault, sources);
    assert(changed.size > 0);
    for (const [path, text] of changed) assert(text !== sources.get(path), fault.name);
  }
  for (const wrong of ["such a text is in no source", "const"]) {
    assertThrows(
      () => applyFault({ ...FAULTS[0]!, changes: [[wrong, ""]] }, sources),
      RangeError,
      "expected it once",
    );
  }
});

Deno.test("digest refuses bad input before it builds or runs anything", async () => {
  for (
    const [args, part] of [
      [["--against", "none.json"], 'Cannot compare with "none.json": there is no such file'],
      [["--agianst", "x"], 'the nearest is "--against"'],
    ] as const
  ) {
    const { code, stdout, stderr } = await runTask("digest", ...args);
    assertEquals([code, stdout, stderr.trimEnd().split("\n").length], [2, "", 1], stderr);
    assertStringIncludes(stderr, part);
  }
});

Deno.test("digest runs tasks on inputs that are there", () =>
  withFolder(async (folder) => {
    const path = `${folder}/digest.json`;
    const { code, stderr } = await runTask(
      "digest",
      "--only",
      "dump.safetensors --method mean",
      "--out",
      path,
    );
    assertEquals(code, 0, stderr);
    const { runs } = JSON.parse(Deno.readTextFileSync(path)) as Digest;
    assertEquals(Object.values(runs).map((run) => run.code), [0]);
  }));

Deno.test("digest --cpu runs nothing on the emulated library", () =>
  withFolder(async (folder) => {
    const { code, stdout } = await runTask(
      "digest",
      "--cpu",
      "--only",
      "cuda",
      "--out",
      `${folder}/digest.json`,
    );
    assertEquals(code, 0);
    assertStringIncludes(stdout, "1 runs on "); // a refused one
  }));

Deno.test("digest writes a file, finds no difference to itself, and one to another", () =>
  withFolder(async (folder) => {
    const first = `${folder}/first.json`,
      second = `${folder}/second.json`,
      own = ["--only", "refused: compare"];
    const made = await runTask("digest", ...own, "--out", first);
    assertEquals(made.code, 0, made.stderr);
    const again = await runTask("digest", ...own, "--out", second, "--against", first);
    assertEquals(again.code, 0, again.stdout);
    assertStringIncludes(again.stdout, "no difference");
    assertEquals(Deno.readTextFileSync(second), Deno.readTextFileSync(first));
    Deno.writeTextFileSync(first, Deno.readTextFileSync(first).replace('"code":2', '"code":1'));
    const other = await runTask("digest", ...own, "--out", second, "--against", first);
    assertEquals(other.code, 1);
    assertStringIncludes(other.stdout, "  code\n    before: 1\n    after:  2\n1 of ");
  }));
