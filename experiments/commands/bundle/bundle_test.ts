import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { sha256 } from "../../../lib/sha256.ts";
import { type Finished, listFolder, runProcess, runTask, withFolder } from "../testing.ts";
import { MANIFEST, type Manifest } from "./manifest.ts";
import { type Files, readZip, writeZip } from "./zip.ts";

const RULE = `export const name = "longest";
export const score = ({ key }) => Math.hypot(...key);
export const reads = () => ["key"];
`;

const SMALL = ["--context", "64", "--tokens", "128", "--warmup", "8", "--quiet"];

const encode = (text: string) => new TextEncoder().encode(text);

const manifestOf = (files: Files): Manifest => JSON.parse(new TextDecoder().decode(files.get(MANIFEST)));

/** Writes a bundle with other files, or another list of them. */
async function change(path: string, bundle: string, own: {
  readonly files?: { readonly [name: string]: Uint8Array<ArrayBuffer> | undefined };
  readonly manifest?: object;
}): Promise<string> {
  const files = new Map(await readZip(bundle));
  for (const [name, bytes] of Object.entries(own.files ?? {})) {
    if (bytes === undefined) files.delete(name);
    else files.set(name, bytes);
  }
  if (own.manifest) files.set(MANIFEST, encode(JSON.stringify({ ...manifestOf(files), ...own.manifest })));
  await writeZip(path, files);
  return path;
}

function expectLine({ code, stdout, stderr }: Finished, expected: string): void {
  assertEquals([code, stdout, stderr.trim().split("\n").length], [2, "", 1], stderr);
  assertStringIncludes(stderr, expected);
}

Deno.test("a comparison of own files is repeated elsewhere from its bundle alone, with equal numbers", () =>
  withFolder(async (folder) => {
    const here = `${folder}/one päth`, there = `${folder}/two`, bundle = `${folder}/run.zip`;
    await Deno.mkdir(here);
    await Deno.writeTextFile(`${here}/rule.ts`, RULE);
    await Deno.writeTextFile(`${here}/sea text.txt`, "The sea is calm, and the wind is still. ".repeat(60));
    const made = await runProcess(
      "compare",
      ...[
        ...SMALL,
        "--methods",
        "longest,snapkv,random",
        "--side",
        "key",
        "--seeds",
        "1",
        "--kv-ratio",
        "0.4",
      ],
      ...["--rule", `${here}/rule.ts`, "--text", `${here}/sea text.txt`, "--out", `${here}/out`],
      ...["--decisions", `${here}/rows.parquet`, "--bundle", bundle],
    );
    assertEquals([made.code, made.stderr], [0, ""]);
    assertStringIncludes(made.stdout, `Bundle: ${bundle}`);
    await Deno.remove(here, { recursive: true });
    const repeated = await runProcess("reproduce", bundle, "--out", there, "--threads", "1");
    assertEquals(repeated.code, 0, repeated.stdout + repeated.stderr);
    assertMatch(repeated.stdout, /^compare\.json: all \d{2,} numbers are those of the bundle\.$/m);
    assertMatch(repeated.stdout, /^decisions\.parquet: all \d{3,} numbers are those of the bundle\.$/m);
    assertStringIncludes(repeated.stderr, `The bundle has code, which runs: ${there}/inputs/rule/0/rule.ts`);
    assertEquals(listFolder(there), [
      "compare.html",
      "compare.json",
      "decisions.parquet",
      "inputs",
      "study.db",
    ]);

    const files = await readZip(bundle), manifest = manifestOf(files);
    assertEquals(
      [...files.keys()].sort(),
      ["bundle.json", "inputs/rule/0/rule.ts", "inputs/text/0/sea text.txt", "results/compare.html"].concat(
        ["results/compare.json", "results/decisions.parquet"],
      ),
    );
    assertEquals(JSON.stringify(manifest).includes(folder), false, "a path of the machine");

    // Another number: the place and both values, and exit code 1.
    const name = "results/compare.json", text = new TextDecoder().decode(files.get(name));
    const result = JSON.parse(text), method = result.methods.at(-1), was = method.loss;
    method.loss += 1;
    const other = encode(JSON.stringify(result));
    const listed = { files: { ...manifest.files, [name]: await sha256(other) } };
    const wrong = await change(`${folder}/wrong.zip`, bundle, { files: { [name]: other }, manifest: listed });
    const differs = await runTask("reproduce", wrong, "--out", `${folder}/three`, "--quiet");
    assertEquals(differs.code, 1, differs.stderr);
    assertMatch(
      differs.stdout,
      /^compare\.json: 1 of \d+ numbers differ, by at most 0\.\d+ of their size\.$/m,
    );
    assertStringIncludes(
      differs.stdout,
      `methods "${method.name}" loss: ${was + 1} in the bundle, ${was} here`,
    );

    const refused = async (path: string, expected: string) => {
      expectLine(await runTask("reproduce", path, "--out", `${folder}/none`, "--quiet"), expected);
      assertEquals(listFolder(folder).includes("none"), false);
    };
    const bytes = await Deno.readFile(bundle);
    await Deno.writeFile(`${folder}/cut.zip`, bytes.subarray(0, bytes.length - 30));
    await refused(`${folder}/cut.zip`, "found a damaged zip file");
    bytes[200]! ^= 1;
    await Deno.writeFile(`${folder}/bit.zip`, bytes);
    await refused(`${folder}/bit.zip`, "found a damaged zip file");
    await refused(`${folder}/nowhere.zip`, "there is no such file or folder");
    const changed = (own: Parameters<typeof change>[2]) => change(`${folder}/changed.zip`, bundle, own);
    await refused(await changed({ files: { "../up.ts": encode(RULE) } }), 'found the file name "../up.ts"');
    await refused(await changed({ files: { [name]: undefined } }), `found no ${name} in it`);
    await refused(await changed({ files: { [name]: other } }), `found another ${name} in it`);
    await refused(await changed({ files: { "more.txt": other } }), "found another more.txt in it");
    await refused(await changed({ files: { [MANIFEST]: encode("{}") } }), `found another ${MANIFEST}`);
    await refused(await changed({ files: { [MANIFEST]: undefined } }), `found no ${MANIFEST}`);
    const withArgs = (...args: string[]) => changed({ manifest: { args: [...manifest.args, ...args] } });
    await refused(await withArgs(`--csv=${folder}/none`), 'found the argument "--csv=');
    await refused(await withArgs("--calibration=/etc/passwd"), "found no /etc/passwd in it");
    await refused(await withArgs("--calibration=inputs/../none"), "found no inputs/../none in it");
  }));

Deno.test("sweep, eval and heads write bundles too, each with the data that it has read", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/space.json`, JSON.stringify({ pruneRatio: { low: 0.2, high: 0.5 } }));
    const rows = [0, 1].map((i) => JSON.stringify({ question: "Is the sea calm?", answer: i }));
    await Deno.writeTextFile(`${folder}/rows.jsonl`, rows.join("\n"));
    await Deno.writeTextFile(
      `${folder}/calm.yaml`,
      `task: calm
output_type: multiple_choice
dataset_path: json
dataset_kwargs: { data_files: { test: rows.jsonl } }
test_split: test
doc_to_text: question
doc_to_target: answer
doc_to_choice: [yes, no]
`,
    );
    const runs = [
      ["sweep", "--space", `${folder}/space.json`, "--trials", "3", ...SMALL.slice(0, 6)],
      ["eval", "--task-file", `${folder}/calm.yaml`, "--method", "key", "--filter-from", "2"],
      ["heads", ...SMALL.slice(0, 4)],
    ] as const;
    for (const [command, ...args] of runs) {
      const bundle = `${folder}/${command}.zip`;
      const made = await runTask(
        command,
        ...args,
        "--quiet",
        "--out",
        `${folder}/${command}`,
        "--bundle",
        bundle,
      );
      assertEquals([made.code, made.stderr], [0, ""], command);
      const { code, stdout, stderr } = await runTask(
        "reproduce",
        bundle,
        "--quiet",
        "--out",
        `${folder}/${command}2`,
      );
      assertEquals([code, stderr], [0, ""], stdout);
      assertMatch(stdout, /^(summary|eval|heads)\.json: all \d+ numbers are those of the bundle\.$/m);
    }
    const names = [...(await readZip(`${folder}/eval.zip`)).keys()].filter((name) =>
      name.startsWith("inputs")
    );
    assertEquals(names, ["inputs/task-file/0/calm.yaml", "inputs/task-file/0/rows.jsonl"]);
  }));

Deno.test("--bundle refuses what another machine could not repeat, before the run", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/rule.ts`, `import { f } from "./other.ts";\n${RULE}f();`);
    await Deno.writeTextFile(`${folder}/other.ts`, "export const f = () => {};");
    const run = async (...args: string[]) => {
      const all = [...args, "--method", "longest", ...SMALL, "--out", `${folder}/out`];
      const finished = await runTask("sweep", "--rule", `${folder}/rule.ts`, ...all);
      assertEquals(listFolder(folder), ["other.ts", "rule.ts"]);
      return finished;
    };
    expectLine(
      await run("--bundle", `${folder}/a.zip`),
      `Cannot bundle "${folder}/rule.ts": it imports ./other.ts`,
    );
    expectLine(await run("--bundle", `${folder}/a.tar`), "expected a name that ends in .zip");
    expectLine(await run("--bundle", `${folder}/none/a.zip`), "expected a file in a folder that is there");
  }));
