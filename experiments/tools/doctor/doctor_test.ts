/** `deno task doctor`: hidden parts are named, each with a command. */
import { fileURLToPath } from "node:url";
import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { path as fakeDriver } from "../../../ffi/cuda/driver/fake_driver_testing.ts";
import { withFolder } from "../../commands/testing.ts";
import { testSlow } from "../../../lib/testing.ts";
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
    const cache = `${folder}/cache`,
      none = `${folder}/none`,
      bare = { TOKENFILTER_PYTHON: `${folder}/python3` };
    await Deno.writeTextFile(`${folder}/python3`, `#!/bin/sh\n${BARE_PYTHON}\n`, { mode: 0o755 });
    const nothing = { PATH: "/nonexistent", CXX: "", TOKENFILTER_CACHE: cache, TOKENFILTER_LIBRARY: "" };
    const fresh = { PATH: folder, TOKENFILTER_CACHE: cache, CUDA_HOME: "", TOKENFILTER_NVCC: "" };
    const noBrowser = { PATH: "/nonexistent", TOKENFILTER_CHROMIUM: "" };
    // Name, variables that hide it, the message, the command.
    const hidden: [string, Variables, RegExp, RegExp][] = [
      ["compiler", nothing, /neither g\+\+ nor clang\+\+/, /apt-get install g\+\+/],
      [
        "CPU library",
        nothing,
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
      ["nvcc", { ...nothing, TOKENFILTER_NVCC: none }, /TOKENFILTER_NVCC .*not an nvcc/, /build --cuda/],
      ["nvcc", fresh, /^found no nvcc that fits$/, /build --cuda/],
      ["Python", { TOKENFILTER_PYTHON: none }, /none found .*no program/, /apt-get install python3 /],
      ["Python", bare, /Python 3\.12\.1 without pip/, /python3-pip/],
      ["numpy", bare, /^found no numpy$/, /pip install numpy/],
      ["transformers", bare, /no torch, no transformers, no safetensors/, /pip install torch transformers/],
      ["Chromium", noBrowser, /none in PATH/, /apt-get install chromium/],
      ["Chromium", { TOKENFILTER_CHROMIUM: none }, /none found .*no program/, /chromium/],
      ["Jupyter", fresh, /^found no Jupyter in the cache$/, /deno task notebooks/],
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
    const cases = hidden.map(([name, variables]) => [name, variables] as const);
    const findings = await examineAll(cases, { ...DRIVER, FAKE_DEVICES: "0" });
    const hasToolkit = await Deno.stat("/usr/local/cuda").then(() => true, () => false);
    hidden.forEach(([name, variables, message, command], i) => {
      if (hasToolkit && variables === fresh && name === "nvcc") return;
      const { found, fix, state, use } = findings[i]!;
      assertMatch(found, message, name);
      assertMatch(fix!, command, name);
      assertEquals([state, found.includes("\n")], [use === undefined ? "broken" : "missing", false], name);
    });
    await assertRejects(() => Deno.stat(cache), Deno.errors.NotFound); // nothing was fetched
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

Deno.test("doctor --offline asks no host, and refuses other flags", async () => {
  const { code, stdout, stderr } = await deno(["run", "-A", MAIN, "--offline"]);
  const shown = stdout.trim().split("\n"), offline = CHECKS.filter(({ online }) => !online);
  assertEquals([code, stderr, shown.length], [0, "", offline.length]);
  offline.forEach(({ name, fix }, i) => {
    assertMatch(shown[i]!, new RegExp(`^(ok|missing) +${name}: `));
    assertEquals(shown[i]!.startsWith("missing"), shown[i]!.endsWith(`Type: ${fix}`), name);
  });
  const refused = await deno(["run", "-A", MAIN, "--onlin"]);
  assertEquals(refused.code, 2);
  assertMatch(refused.stderr, /^Cannot use "--onlin": .*\n$/);
});

testSlow(
  "doctor runs where no package can be fetched, in a folder with a space and an umlaut",
  () =>
    withFolder(async (folder) => {
      const copy = `${folder}/päth with späce`;
      await Deno.mkdir(copy);
      for (const name of ["deno.json", "lib", "ffi", "experiments", "kernels", ".std"]) {
        await new Deno.Command("cp", {
          args: ["-r", fileURLToPath(new URL(name, ROOT)), `${copy}/`],
        }).output();
      }
      const proxy = "http://127.0.0.1:9", script = `${copy}/experiments/tools/doctor/main.ts`;
      const env = { DENO_DIR: `${folder}/deno`, HTTP_PROXY: proxy, HTTPS_PROXY: proxy };
      const args = ["run", "-A", "--config", `${copy}/deno.json`, script, "--offline", "--json"];
      const { code, stdout } = await deno(args, env);
      const of = (wanted: string) => (JSON.parse(stdout) as Finding[]).find(({ name }) => name === wanted)!;
      assertEquals([code, of("Deno").state, of("packages").state], [1, "ok", "broken"]);
      assertMatch(of("packages").fix!, /npm config get registry/);
      assertEquals(of("CPU library").state, "ok"); // found by the digest of sources that are read there
    }),
);
