/** `deno task doctor`: hidden parts are named, each with a command. */
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { path as fakeDriver } from "../../../ffi/cuda/driver/fake_driver_testing.ts";
import { testSlow } from "../../../lib/testing.ts";
import { withFolder } from "../../commands/testing.ts";
import { checkDeno, CHECKS, type Finding, selfTest } from "./main.ts";

const ROOT = new URL("../../../", import.meta.url), MAIN = import.meta.resolve("./main.ts");
/** Variables of the stand-in for the driver. */
const DRIVER = { FAKE_VERSION: "13000", FAKE_DEVICES: "1", FAKE_ARCH: "90" };
/** Python without pip, numpy and transformers. */
const BARE_PYTHON = `case "$*" in
*platform*) echo 3.12.1;;
*pip*) echo "No module named pip" >&2; exit 1;;
*importlib*) shift 2; for name; do all="$all, no $name"; done; echo "\${all#, }";;
*sys.version*) echo 3.12.1;;
esac`;

type Variables = Readonly<Record<string, string>>;

async function deno(args: readonly string[], env: Variables = {}) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env,
  })
    .output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Runs checks one after the other in a process of its own, each with variables; "" is a variable that is not set. */
async function examineAll(
  cases: readonly (readonly [string, Variables])[],
  env: Variables = {},
): Promise<Finding[]> {
  const code = `import { CHECKS, examine } from ${JSON.stringify(MAIN)};
const found = [], before = Deno.env.toObject();
const set = (name, value) => value ? Deno.env.set(name, value) : Deno.env.delete(name);
for (const [check, variables] of ${JSON.stringify(cases)}) {
  for (const [name, value] of Object.entries(variables)) set(name, value);
  found.push(await examine(CHECKS.find(({ name }) => name === check)));
  for (const name of Object.keys(variables)) set(name, before[name]);
}
console.log(JSON.stringify(found));`;
  const { stdout, stderr } = await deno(["eval", code], env);
  if (stdout === "") throw new Error(stderr);
  return JSON.parse(stdout);
}

Deno.test("doctor names each hidden part, and a command", () =>
  withFolder(async (folder) => {
    const cache = `${folder}/cache`, bare = { TOKENFILTER_PYTHON: `${folder}/python3` };
    await Deno.writeTextFile(`${folder}/python3`, `#!/bin/sh\n${BARE_PYTHON}\n`, { mode: 0o755 });
    const env = { PATH: "/nonexistent", CXX: "", TOKENFILTER_CACHE: cache, TOKENFILTER_LIBRARY: "" };
    const none = `${folder}/none`;
    const fresh = { PATH: folder, TOKENFILTER_CACHE: cache, CUDA_HOME: "", TOKENFILTER_NVCC: "" };
    // Name, variables that hide it, the message, the command.
    const hidden: [string, Variables, RegExp, RegExp][] = [
      ["compiler", env, /neither g\+\+ nor clang\+\+/, /apt-get install g\+\+/],
      [
        "CPU library",
        env,
        /found neither TOKENFILTER_LIBRARY, @tokenfilter\/native-\S+ nor a build/,
        /^deno task build$/,
      ],
      ["BLAS", { TOKENFILTER_BLAS: `${none}.so` }, /Cannot load the BLAS .*none\.so/, /^deno task build$/],
      [
        "GPU driver",
        { TOKENFILTER_CUDA_DRIVER: `${none}.so` },
        /found no driver .*none\.so/,
        /nvidia-driver/,
      ],
      ["GPU", { TOKENFILTER_CUDA_DRIVER: fakeDriver }, /no (device|GPU)/, /nvidia-smi/],
      ["nvcc", { ...env, TOKENFILTER_NVCC: none }, /TOKENFILTER_NVCC .*not an nvcc/, /build --cuda/],
      ["Python", { TOKENFILTER_PYTHON: none }, /none found .*no program/, /apt-get install python3 /],
      ["Python", bare, /Python 3\.12\.1 without pip/, /python3-pip/],
      ["numpy", bare, /^found no numpy$/, /pip install numpy/],
      ["transformers", bare, /no torch, no transformers, no safetensors/, /pip install torch transformers/],
      [
        "Chromium",
        { PATH: "/nonexistent", TOKENFILTER_CHROMIUM: "" },
        /none in PATH/,
        /apt-get install chromium/,
      ],
      ["Chromium", { TOKENFILTER_CHROMIUM: none }, /none found .*no program/, /chromium/],
      ["Jupyter", env, /no python3/, /deno task notebooks/],
      ["Jupyter", fresh, /^found no Jupyter in the cache$/, /deno task notebooks/],
      ["nvcc", fresh, /^found no nvcc that fits$/, /build --cuda/],
      [
        "cache",
        { TOKENFILTER_CACHE: "/dev/null/none" },
        /Cannot write to the cache folder/,
        /TOKENFILTER_CACHE=/,
      ],
      [
        "model hub",
        { HF_ENDPOINT: "http://127.0.0.1:1" },
        /no answer of http:\/\/127\.0\.0\.1:1/,
        /HF_ENDPOINT=/,
      ],
      ["npm", { PATH: "/nonexistent" }, /npm found .*no program of this name/, /apt-get install npm/],
      ["pip index", bare, /No module named pip/, /pip config list/],
    ];
    const findings = await examineAll(hidden.map(([name, variables]) => [name, variables]), {
      ...DRIVER,
      FAKE_DEVICES: "0",
    });
    const hasToolkit = await Deno.stat("/usr/local/cuda").then(() => true, () => false);
    hidden.forEach(([name, variables, found, fix], i) => {
      if (hasToolkit && variables === fresh) return;
      const finding = findings[i]!;
      assertMatch(finding.found, found, name);
      assertMatch(finding.fix!, fix, name);
      assertEquals(finding.state, finding.use === undefined ? "broken" : "missing", name);
      assert(!finding.found.includes("\n"));
    });
    assertEquals(await Array.fromAsync(Deno.readDir(cache), ({ name }) => name), []); // nothing was fetched
  }));

Deno.test("doctor finds a driver and a card where they are there, and another Deno", async () => {
  const env = { TOKENFILTER_CUDA_DRIVER: fakeDriver };
  const [driver, card] = await examineAll([["GPU driver", env], ["GPU", env]], DRIVER);
  assertMatch(driver!.found, /for CUDA 13\.0$/);
  assertMatch(card!.found, /\(sm_90, \d+ GiB\)$/);
  assertEquals(checkDeno("2.10.1"), "2.10.1");
  for (const version of ["2.8.3", "1.46.0", "3.0.0"]) {
    assertThrows(() => checkDeno(version), Error, `found ${version}`);
  }
});

Deno.test("doctor's self-test reports losses that are off", async () => {
  const golden = JSON.parse(await Deno.readTextFile(new URL("lib/model/testdata/tiny_golden.json", ROOT)));
  assertMatch(await selfTest(JSON.stringify(golden)), /^32 losses within .* on (cpu|reference)$/);
  golden.texts[0].nll[7] += 1e-4;
  const wrong = () => selfTest(JSON.stringify(golden));
  await assertRejects(wrong, Error, "found losses 0.00010 from those of transformers");
});

Deno.test("doctor --offline asks no host, and has the same in JSON as in lines", async () => {
  const [json, lines] = await Promise.all(
    [["--json"], []].map((more) => deno(["run", "-A", MAIN, "--offline", ...more])),
  );
  const findings: Finding[] = JSON.parse(json!.stdout),
    names = CHECKS.filter(({ online }) => !online).map(({ name }) => name);
  assertEquals([json!.stderr, findings.map(({ name }) => name)], ["", names]);
  const shown = lines!.stdout.trim().split("\n");
  for (const [i, { name, state, found, fix }] of findings.entries()) {
    assertEquals(state === "ok", fix === undefined, name);
    assert(
      shown[i]!.startsWith(`${state.padEnd(8)}${name}: ${found}`) && shown[i]!.endsWith(fix ?? found),
      name,
    );
  }
  assertEquals([json!.code, findings.filter(({ state }) => state === "broken")], [0, []]);
  const refused = await deno(["run", "-A", MAIN, "--onlin"]);
  assertEquals([refused.code, refused.stderr], [
    2,
    'Cannot use "--onlin": expected --offline, --json or --help\n',
  ]);
});

testSlow(
  "doctor runs where no package can be fetched, in a folder with a space and an umlaut",
  () =>
    withFolder(async (folder) => {
      const copy = `${folder}/päth with späce`;
      await Deno.mkdir(copy);
      for (const name of ["deno.json", "lib", "ffi", "experiments", "kernels", ".std"]) {
        await new Deno.Command("cp", {
          args: ["-r", decodeURIComponent(new URL(name, ROOT).pathname), `${copy}/`],
        }).output();
      }
      const proxy = "http://127.0.0.1:9", script = `${copy}/experiments/tools/doctor/main.ts`;
      const env = { DENO_DIR: `${folder}/deno`, HTTP_PROXY: proxy, HTTPS_PROXY: proxy };
      const { code, stdout } = await deno([
        "run",
        "-A",
        "--config",
        `${copy}/deno.json`,
        script,
        "--offline",
        "--json",
      ], env);
      const of = (wanted: string) => (JSON.parse(stdout) as Finding[]).find(({ name }) => name === wanted)!;
      assertEquals([code, of("Deno").state, of("packages").state], [1, "ok", "broken"]);
      assertMatch(of("packages").fix!, /npm config get registry/);
      assertEquals(of("CPU library").state, "ok"); // found by the digest of sources that are read there
    }),
);
