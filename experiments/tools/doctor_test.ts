/** `deno task doctor`: hidden parts are named, each with a command. */
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { path as fakeDriver } from "../../ffi/cuda/fake_driver_testing.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { runTask, withFolder } from "../commands/testing.ts";
import { describeFinding, examine, type Finding } from "./doctor.ts";
import { examineAll } from "./doctor_testing.ts";
import { checkDeno, CHECKS, type Golden, selfTest } from "./doctor/checks.ts";

/** Variables of the stand-in for the driver. */
const DRIVER = { FAKE_VERSION: "13000", FAKE_DEVICES: "1", FAKE_ARCH: "90" };

/** A folder of stand-ins for programs, each a script. */
async function makePrograms(folder: string, programs: Record<string, string>): Promise<string> {
  for (const [name, script] of Object.entries(programs)) {
    await Deno.writeTextFile(`${folder}/${name}`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  return folder;
}

/** Python without pip, numpy and transformers. */
const BARE_PYTHON = `case "$*" in
*platform*) echo 3.12.1;;
*pip*) echo "No module named pip" >&2; exit 1;;
*importlib*) shift 2; for name; do all="$all, no $name"; done; echo "\${all#, }";;
*sys.version*) echo 3.12.1;;
esac`;

Deno.test("doctor names each hidden part, and a command", () =>
  withFolder(async (folder) => {
    const cache = `${folder}/cache`, programs = await makePrograms(folder, { python: BARE_PYTHON });
    const env = { PATH: "/nonexistent", CXX: "", TOKENFILTER_CACHE: cache, TOKENFILTER_LIBRARY: "" };
    // Name, variables that hide it, the message, the command.
    const hidden: [string, Record<string, string>, RegExp, RegExp][] = [
      ["compiler", env, /neither g\+\+ nor clang\+\+/, /apt-get install g\+\+/],
      [
        "CPU library",
        env,
        /found neither TOKENFILTER_LIBRARY, @tokenfilter\/native-\S+ nor a build/,
        /^deno task build$/,
      ],
      [
        "BLAS",
        { TOKENFILTER_BLAS: `${folder}/none.so` },
        /Cannot load the BLAS .*none\.so/,
        /^deno task build$/,
      ],
      [
        "GPU driver",
        { TOKENFILTER_CUDA_DRIVER: `${folder}/none.so` },
        /found no driver .*none\.so/,
        /nvidia-driver/,
      ],
      ["GPU", { TOKENFILTER_CUDA_DRIVER: fakeDriver }, /no (device|GPU)/, /nvidia-smi/],
      [
        "nvcc",
        { ...env, TOKENFILTER_NVCC: `${folder}/none` },
        /TOKENFILTER_NVCC .*not an nvcc/,
        /build --cuda/,
      ],
      [
        "Python",
        { TOKENFILTER_PYTHON: `${folder}/none` },
        /found no .*none that runs/,
        /apt-get install python3 /,
      ],
      ["Python", { TOKENFILTER_PYTHON: `${programs}/python` }, /Python 3\.12\.1 without pip/, /python3-pip/],
      ["numpy", { TOKENFILTER_PYTHON: `${programs}/python` }, /^found no numpy$/, /pip install numpy/],
      [
        ...["transformers", { TOKENFILTER_PYTHON: `${programs}/python` }] as const,
        ...[/no torch, no transformers, no safetensors/, /pip install torch transformers/] as const,
      ],
      [
        "Chromium",
        { PATH: "/nonexistent", TOKENFILTER_CHROMIUM: "" },
        /none in PATH/,
        /apt-get install chromium/,
      ],
      [
        "Chromium",
        { TOKENFILTER_CHROMIUM: `${folder}/none` },
        /no program that runs at ".*none"/,
        /chromium/,
      ],
      ["Jupyter", env, /no python3/, /deno task notebooks/],
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
      ["pip index", { TOKENFILTER_PYTHON: `${programs}/python` }, /No module named pip/, /pip config list/],
    ];
    assert(new Set(hidden.map(([name]) => name)).size >= 12);
    const findings = await examineAll(hidden.map(([name, env]) => [name, env]), {
      ...DRIVER,
      FAKE_DEVICES: "0",
    });
    hidden.forEach(([name, , found, fix], i) => {
      const finding = findings[i]!;
      assertMatch(finding.found, found, name);
      assertMatch(finding.fix!, fix, name);
      assertEquals(finding.state, finding.use === undefined ? "broken" : "missing", name);
      assert(!describeFinding(finding).includes("\n"));
    });
    await assertRejects(() => Deno.stat(cache), Deno.errors.NotFound); // nothing was fetched
  }));

Deno.test("doctor finds a cache empty of Jupyter and nvcc without fetching them", () =>
  withFolder(async (folder) => {
    await makePrograms(folder, { python3: BARE_PYTHON });
    const env = { PATH: folder, TOKENFILTER_CACHE: `${folder}/cache`, CUDA_HOME: "", TOKENFILTER_NVCC: "" };
    const [jupyter, nvcc] = await examineAll([["Jupyter", env], ["nvcc", env]]);
    assertEquals(jupyter!.found, "found no Jupyter in the cache");
    if (!(await Deno.stat("/usr/local/cuda").catch(() => undefined))) {
      assertEquals(nvcc!.found, "found no nvcc that fits");
    }
    assertEquals(await Array.fromAsync(Deno.readDir(`${folder}/cache`), ({ name }) => name), []);
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
  const path = new URL("../../lib/model/testdata/tiny_golden.json", import.meta.url);
  const golden: Golden = JSON.parse(await Deno.readTextFile(path));
  const backend = new ReferenceBackend();
  assertMatch(await selfTest(backend, golden), /^32 losses within .* on reference$/);
  const [first] = golden.texts,
    off = { texts: [{ ...first!, nll: first!.nll.map((loss, t) => t === 7 ? loss + 1e-4 : loss) }] };
  const test: typeof CHECKS[number] = { name: "self-test", fix: "build", look: () => selfTest(backend, off) };
  assertMatch((await examine(test)).found, /^found losses 0\.00010 from those of transformers/);
});

Deno.test("doctor --offline asks no host, and has the same in JSON as in lines", async () => {
  const { code, stdout, stderr } = await runTask("doctor", "--offline", "--json");
  const findings: Finding[] = JSON.parse(stdout);
  assertEquals(stderr, "");
  assertEquals(
    findings.map(({ name }) => name),
    CHECKS.filter(({ online }) => !online).map(({ name }) => name),
  );
  for (const finding of findings) {
    assertEquals(finding.state === "ok", finding.fix === undefined, finding.name);
  }
  assertEquals(code, findings.some(({ state }) => state === "broken") ? 1 : 0);
  assertEquals(findings.filter(({ state }) => state === "broken"), []);
});
