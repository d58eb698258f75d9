/** A rule of the user's own, from a file, in every command that takes one. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../../../lib/errors.ts";
import {
  KEY_RULE_NAMES,
  KV_FUSIONS,
  METHOD_NAMES,
  ownRules,
  resolveOptions,
  RULES,
  setOwnRules,
} from "../../../../lib/methods/mod.ts";
import type { AnyRule, EvictionMethod } from "../../../../lib/methods/protocol/method.ts";
import { loadModel } from "../../../../lib/model/mod.ts";
import { ReferenceBackend } from "../../../../lib/reference/mod.ts";
import { sha256 } from "../../../../lib/sha256.ts";
import { exists } from "../files.ts";
import { takeFiles, withRule } from "./rule.ts";
import { StudyStore } from "../../../../lib/sweep/mod.ts";
import { readTrials } from "../../study/study_testing.ts";
import { runTask, withFolder } from "../../testing.ts";
import { command as worker } from "../../worker.ts";

const MINE = `export const mine = {
  name: "mine",
  help: "as the mean",
  score: ({ muK, muV }: { muK: number; muV: number }) => (muK + muV) / 2,
};
`;
const SMALL = ["--tokens", "96", "--warmup", "8", "--threads", "1", "--quiet", "--json"];
const flags = (values: { readonly [name: string]: string }) =>
  new Map(Object.entries(values).map(([name, value]) => [name, [value]]));

Deno.test("--rule takes a rule from a file to sweep, compare, score and heads, and its digest to every record", () =>
  withFolder(async (folder) => {
    const file = `${folder}/my rule.ts`, digest = await sha256(MINE);
    Deno.writeTextFileSync(file, MINE);
    const run = async (task: string, ...args: string[]) => {
      const { code, stdout, stderr } = await runTask(task, ...SMALL, "--rule", file, ...args);
      assertEquals([code, stderr], [0, ""]);
      return JSON.parse(stdout);
    };
    const chunks = ["--context", "48", "--out"];
    const { trials, environment } = await run("sweep", "--method", "mean,mine", ...chunks, `${folder}/sweep`);
    const [mean, mine] = ["mean", "mine"].map((name) =>
      trials.find((t: { fusion: string }) => t.fusion === name)
    );
    assertEquals([mine.nllDelta, mine.achievedRatio], [mean.nllDelta, mean.achievedRatio]);
    assert(mine.trial !== mean.trial);
    const records = [
      ...trials,
      environment,
      ...readTrials(`${folder}/sweep`),
    ];
    assertEquals(new Set(records.map(({ ruleSha256 }) => ruleSha256)), new Set([digest]));

    const compared = await run(
      "compare",
      "--methods",
      "random,mine",
      "--seeds",
      "1",
      ...chunks,
      `${folder}/compare`,
    );
    const row = compared.methods.find(({ name }: { name: string }) => name === "mine");
    assert(row.toRandom !== null);
    assertEquals([compared.environment.ruleSha256, row.options.fusion], [digest, "mine"]);

    const heads = await run("heads", "--resamples", "5", ...chunks, `${folder}/heads`);
    const rated = (name: string) =>
      heads.overall.rules.find(({ rule }: { rule: string }) => rule === name).auroc;
    assertEquals(rated("mine"), rated("mean"));
    assertEquals([heads.options.method.fusion, heads.environment.ruleSha256], ["mine", digest]);

    const scored = await run("score", "--text", file);
    assertEquals([scored.rule, scored.ruleSha256], ["mine", digest]);
    const other = await runTask("score", ...SMALL, "--text", file, "--method", "mean");
    assertEquals(JSON.parse(other.stdout).nll, scored.nll);

    // A changed rule is another run; the results contain the identity of their rule.
    Deno.writeTextFileSync(file, MINE.replace("/ 2", "/ 3"));
    const args = ["--rule", file, "--method", "mean,mine", "--context", "48", "--resume", `${folder}/sweep`];
    const resumed = await runTask("sweep", ...SMALL, ...args);
    assertEquals(resumed.code, 2, resumed.stderr);
    const site = await runTask("report", folder, "--out", `${folder}/site`);
    assertEquals([site.code, site.stderr], [0, ""]);
    assertStringIncludes(site.stdout, "3 results");
    setOwnRules([]);
  }));

Deno.test("--rule decides keys and values too, in a module of plain exports, and is compared with a baseline of that side", () =>
  withFolder(async (folder) => {
    const file = `${folder}/mine.ts`;
    Deno.writeTextFileSync(
      file,
      'export const name = "mine";\nexport const reads = () => ["key"];\n' +
        "export function score({ key }: { key: Float32Array }) { return -Math.hypot(...key); }\n",
    );
    const run = async (task: string, ...args: string[]) => {
      const { code, stdout, stderr } = await runTask(task, ...SMALL, "--rule", file, ...args);
      assertEquals([code, stderr], [0, ""]);
      return JSON.parse(stdout);
    };
    const chunks = ["--context", "48", "--recent", "4", "--prune-ratio", "0.5", "--side", "key"];
    const methods = ["--methods", "mine,random", "--seeds", "1", "--match", "none"];
    const compared = await run("compare", ...methods, ...chunks, "--out", `${folder}/compare`);
    const [, ...rows] = compared.methods;
    assertEquals(rows.map(({ name }: { name: string }) => name).sort(), ["mine", "random"]);
    for (const { options, retained, kvAchievedRatio } of rows) {
      assertEquals([options.pruneRatio, retained.queries], [0, 1]);
      assert(kvAchievedRatio > 0.3 && retained.cache < 0.9);
    }
    const mine = rows.find(({ name }: { name: string }) => name === "mine");
    assertEquals([mine.options.kvFusion, mine.toRandom !== null], ["mine", true]);
    const scored = await run("score", "--text", file, ...chunks.slice(2));
    assertEquals(scored.ruleSha256, compared.environment.ruleSha256);
    // A rule that reads the residual stream can score only queries.
    Deno.writeTextFileSync(file, MINE.replace("score:", 'reads: () => ["residual"],\n  score:'));
    const refused = await runTask("score", ...SMALL, "--rule", file, "--text", file, "--side", "key");
    assertEquals([refused.code, refused.stdout], [2, ""]);
    assertEquals(
      refused.stderr,
      `Cannot use the rule in "${file}" with --side key: it reads residual, expected some of similarity, key, value, attention, ` +
        "change (leave --side key out)\n",
    );
    // One that reads attention can score only keys and values.
    Deno.writeTextFileSync(file, MINE.replace("score:", 'reads: () => ["attention"],\n  score:'));
    const lacks = await runTask("score", ...SMALL, "--rule", file, "--text", file);
    assertEquals([lacks.code, lacks.stderr], [
      2,
      `Cannot use the rule in "${file}": it reads attention, which only keys and values have (add --side key)\n`,
    ]);
    setOwnRules([]);
  }));

Deno.test("the file that the guide begins with runs by the command that its page gives, and on keys and values", () =>
  withFolder(async (folder) => {
    const guide = Deno.readTextFileSync(new URL("../../../../docs/guides/write-a-rule.md", import.meta.url));
    const [, name, text] = guide.match(/^```ts ignore\n\/\/ (\S+)\n([^]*?)^```$/m)!;
    const [, given] = guide.match(/^deno task compare (.*)$/m)!, file = `${folder}/${name}`;
    Deno.writeTextFileSync(file, text!);
    const chunks = ["--context", "48", "--recent", "4", "--seeds", "1", "--prune-ratio", "0.5"];
    const run = async (own: string, ...more: string[]) => {
      const args = own.replace(name!, file).split(" ");
      const { code, stdout, stderr } = await runTask("compare", ...SMALL, ...chunks, ...args, ...more);
      assertEquals([code, stderr], [0, ""]);
      return JSON.parse(stdout).methods.slice(1).map(({ name }: { name: string }) => name).sort();
    };
    const methods = given!.split(" --methods ")[1]!.split(",");
    assertEquals(await run(given!, "--out", `${folder}/query`), methods.toSorted());
    const both = ["random", "short-values"], flags = ["--side", "key", "--match", "none"];
    assertEquals(await run(`--rule ${name} --methods ${both}`, ...flags, "--out", `${folder}/key`), both);
    setOwnRules([]);
  }));

Deno.test("the guide's rule and eviction that see tokens have at most 15 lines, and run beside another file's", () =>
  withFolder(async (folder) => {
    const guide = Deno.readTextFileSync(new URL("../../../../docs/guides/write-a-rule.md", import.meta.url));
    const files = [...guide.matchAll(/^```ts ignore\n\/\/ (\S+_\S+)\n([^]*?)^```$/mg)].slice(0, 3);
    const [first, second, third] = files.map(([, name, text]) => {
      Deno.writeTextFileSync(`${folder}/${name}`, text!);
      return { name: name!, path: `${folder}/${name}`, lines: text!.trim().split("\n").length };
    });
    assertEquals([second!.name, third!.name], ["quiet_words.ts", "quiet_heads.ts"]);
    assert(second!.lines <= 15 && third!.lines <= 15, `${second!.lines}, ${third!.lines} lines`);
    const [given] = guide.match(/(?<=^deno task compare )--rule quiet_words.ts,.*$/m)!;
    const paths = [second!, first!, third!].map(({ path }) => path);
    const args = given.replace("quiet_words.ts,short_values.ts", paths.join(","))
      .replace("quiet-words,", "quiet-words,quiet-heads,").split(" ");
    const decisions = `${folder}/rows.json`;
    const small = [
      "--context",
      "48",
      "--recent",
      "4",
      "--seeds",
      "1",
      "--out",
      `${folder}/out`,
      "--decisions",
      decisions,
    ];
    const { code, stdout, stderr } = await runTask("compare", ...SMALL, ...args, ...small);
    assertEquals([code, stderr], [0, ""]);
    const { methods, environment } = JSON.parse(stdout);
    assertEquals(
      methods.map(({ name }: { name: string }) => name).sort(),
      ["dense", "quiet-heads", "quiet-words", "random", "short-values", "snapkv"],
    );
    const digests = await Promise.all(paths.map((path) => sha256(Deno.readFileSync(path))));
    assertEquals(environment.ruleSha256, digests.join("+"));
    // No token that is punctuation was evicted, though others were.
    const { columns } = JSON.parse(Deno.readTextFileSync(decisions)),
      { tokenizer } = await loadModel("tiny", new ReferenceBackend());
    const rowsOf = (name: string) => [...columns.method.keys()].filter((row) => columns.method[row] === name);
    const isMark = (row: number) => /^\p{P}+$/u.test(tokenizer.texts([columns.token[row]])[0]!.trim());
    const isKept = (row: number) => columns.evictedAt[row] === null;
    assert(rowsOf("quiet-words").some((row) => isMark(row) && columns.score[row] === -1000));
    for (const name of ["quiet-words", "quiet-heads"]) {
      assert(rowsOf(name).some(isMark));
      assert(rowsOf(name).every((row) => !isMark(row) || isKept(row)), name);
      assert(rowsOf(name).some((row) => !isKept(row)), name);
    }
    // KV heads of a layer keep different tokens.
    const keptBy = Map.groupBy(
      rowsOf("quiet-heads").filter(isKept),
      (row) => `${columns.layer[row]} ${columns.head[row]}`,
    );
    const kept = [...keptBy].map(([head, rows]) => [head, rows.map((row) => columns.position[row]).join()]);
    assert(new Set(kept.map(([, positions]) => positions)).size > kept.length / 2);
    setOwnRules([]);
  }));

Deno.test("several files of --rule need --method where one method runs", () =>
  withFolder(async (folder) => {
    const paths = ["one", "two"].map((name) => {
      const path = `${folder}/${name}.ts`;
      Deno.writeTextFileSync(path, MINE.replace('"mine"', `"${name}"`));
      return path;
    });
    const asked = flags({ rule: paths.join(",") });
    const error = "Cannot use 2 files of --rule: expected --method with one of one, two";
    await assertRejects(() => withRule(asked), UsageError, error);
    assertEquals(await takeFiles(asked), ["one", "two"]);
    assertEquals((await withRule(new Map([...asked, ["method", ["two"]]]))).get("method"), ["two"]);
    setOwnRules([]);
  }));

Deno.test("takeFiles() takes one rule at a time, and leaves the list as it was", () =>
  withFolder(async (folder) => {
    const listAll = () =>
      [METHOD_NAMES, RULES.map(({ name }) => name), KEY_RULE_NAMES, KV_FUSIONS].map((own) => [...own]);
    const before = listAll(), file = `${folder}/mine.ts`;
    Deno.writeTextFileSync(file, MINE);
    const given = await withRule(flags({ rule: file, seed: "1" }));
    assertEquals([given.get("method"), given.get("seed")], [["mine"], ["1"]]);
    assertEquals((await withRule(flags({ rule: file, method: "key" }))).get("method"), ["key"]);
    assertEquals((await withRule(flags({ rule: file, preset: "paper" }))).has("method"), false);
    assertEquals((await withRule(flags({ rule: file, grid: "x" }))).has("method"), false);
    assertEquals(resolveOptions({ fusion: "mine" as "mean" }).fusion, "mine");
    assertEquals([METHOD_NAMES.at(-1), RULES.at(-1)!.name, METHOD_NAMES.length], [
      "mine",
      "mine",
      before[0]!.length + 1,
    ]);
    Deno.writeTextFileSync(file, MINE.replaceAll("mine", "other"));
    assertEquals([await takeFiles(flags({ rule: file })), ownRules()[0]!.rule.name], [["other"], "other"]);
    assertEquals(METHOD_NAMES.filter((name) => (name as string) === "mine"), []);
    assertEquals([await takeFiles(flags({})), ownRules()], [[], []]);
    assertEquals(listAll(), before);
  }));

Deno.test("takeFiles() names what is wrong with a file, and a rule says which token it failed at", () =>
  withFolder(async (folder) => {
    const file = `${folder}/rule.ts`;
    const rule = (parts: string) => `export default { name: "r", score: () => 1, ${parts} };`;
    const cases: [string, string][] = [
      ["export const x = 1;", "found 0 exports with a"],
      [rule("") + rule("").replace("default", "const y ="), "found 2 exports with a"],
      [rule("name: 3"), "found 3 name, expected letters"],
      [rule('name: "a b"'), 'found "a b" name'],
      [rule("score: 3"), 'found a "score" that is number'],
      [rule("reads: []"), 'found "reads" that is no function'],
      [
        rule('reads: () => ["token"]'),
        'found "token" in reads(), expected some of similarity, key, value, attention, change, residual, normed',
      ],
      [rule("options: {}"), 'found "options", which a rule in a file does not have'],
      [rule("memory: {}"), 'found "memory", which'],
      [rule("native: 0"), 'found "native", which'],
      [rule('name: "mean"'), 'Cannot take the rule "mean" in: there is a method of that name'],
      [rule("evicts: true"), 'found an eviction without "reads", expected () => [{ signal: "attention" }]'],
      [
        rule('evicts: true, reads: () => ["value"]'),
        'found "value" in reads(), expected [{ signal: "attention" }], with signals of attention, change, keys, values',
      ],
      [rule("evicts: true, reads: () => [], apart: 2"), "found apart 2, expected the fraction of the equal"],
      ["throw new Error('no\\nway');", `Cannot run "${file}": no`],
      ["export const = ;", `Cannot run "${file}": `],
    ];
    for (const [code, expected] of cases) {
      Deno.writeTextFileSync(file, code);
      const error = await assertRejects(() => takeFiles(flags({ rule: file })), UsageError);
      assertStringIncludes(error.message, expected);
      assertEquals([error.message.includes("\n"), ownRules()], [false, []]);
    }
    await assertRejects(() => takeFiles(flags({ rule: `${folder}/none.ts` })), UsageError, "Cannot read");

    const token = { layer: 2, position: 7 } as never;
    const failures = {
      "() => NaN":
        "Cannot score token 7 of layer 2: found NaN, expected a finite number (a token has id, text, layer, chunk, position, muK,",
      "(t) => t.none.x": "it failed at token 7 of layer 2: ",
    };
    for (const [score, expected] of Object.entries(failures)) {
      Deno.writeTextFileSync(file, rule(`score: ${score}`));
      await takeFiles(flags({ rule: file }));
      const error = `Cannot use the rule in "${file}": ${expected}`;
      assertThrows(() => (ownRules()[0]!.rule as AnyRule).score!(token, token), UsageError, error);
    }
    Deno.writeTextFileSync(file, rule("evicts: true, reads: () => []").replace("=> 1", "=> [[NaN]]"));
    assertEquals((await withRule(flags({ rule: file }))).get("side"), ["key"]);
    assertThrows(
      () => (ownRules()[0]!.rule as EvictionMethod).score({ at: 32, layer: 2, tokens: [{}] } as never),
      UsageError,
      `Cannot use the rule in "${file}": found other scores at token 32 of layer 2 than [row] of one number`,
    );
    setOwnRules([]);
  }));

Deno.test("a worker compares a file of code with its study before it loads it, which runs it", () =>
  withFolder(async (folder) => {
    const out = `${folder}/out`, code = `${folder}/code.ts`, mark = `${folder}/ran`;
    const begun = await runTask("sweep", ...SMALL, "--context", "48", "--method", "key,mean", "--out", out);
    assertEquals(begun.code, 0, begun.stderr);
    Deno.writeTextFileSync(code, `Deno.writeTextFileSync(${JSON.stringify(mark)}, ""); ${MINE}`);
    for (const [flag, condition] of [["rule", "ruleSha256"], ["task-file", "taskSha256"]] as const) {
      {
        using store = StudyStore.open(`${out}/study.db`);
        const { rule: _, "task-file": __, ...flags } = store.flags;
        store.set("flags", { ...flags, [flag]: code });
      }
      await assertRejects(
        () => worker.main(["--study", out, "--quiet", "--threads", "1"]),
        UsageError,
        `its runs ran with ${condition} none, expected the same, found ${await sha256(
          Deno.readFileSync(code),
        )}`,
      );
      assert(!exists(mark), flag);
    }
    await takeFiles(flags({ rule: code }));
    assert(exists(mark));
    setOwnRules([]);
  }));
