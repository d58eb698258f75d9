import { assert, assertEquals, assertMatch } from "@std/assert";
import { inChild } from "../../kernels/testing/child.ts";
import { NEEDS_LINUX, unless } from "../../lib/testing.ts";
import { findCublasLt } from "../cuda/cublaslt.ts";
import { findCompiler, run } from "./command.ts";

Deno.test({
  ...unless(
    NEEDS_LINUX || findCublasLt() !== undefined && "cuBLASLt is installed",
    "ensureCublasLt() fetches the release for the library's nvcc, once, where none is found or refused",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir(),
      library = `${folder}/library.so`,
      compiler = await findCompiler();
    await Deno.writeTextFile(`${folder}/a.c`, "unsigned long cublasLtGetVersion(void) { return 130002; }\n");
    const args = ["-x", "c", "-shared", "-fPIC", `${folder}/a.c`, "-o", library];
    const built = await run(compiler.command, args);
    assert(built.success, built.stderr);
    // pip makes a file, whose unpacking gives the library at both paths; $PIP is what it does first.
    const python = `#!/bin/sh
case "$2" in
pip) echo "$*" >> "${folder}/calls"; eval "$PIP"; while [ "$1" != --dest ]; do shift; done
  cp "$2/requirements.txt" "${folder}/asked"; : > "$2/any.whl";;
zipfile) for name in cu13/lib/libcublasLt.so.13 cublas/lib/libcublasLt.so.12; do
  mkdir -p "$5/nvidia/\${name%/*}"; cp "${library}" "$5/nvidia/$name"; done;;
esac
`;
    await Deno.writeTextFile(`${folder}/python3`, python, { mode: 0o755 });
    const ensure = (cache: string, nvcc: string, env: Record<string, string> = {}, pauseMs = 0) =>
      inChild(
        {
          ...{
            TOKENFILTER_CACHE: `${folder}/${cache}`,
            CUDA_HOME: "",
            CUDA_PATH: "",
            TOKENFILTER_CUBLASLT: "",
          },
          ...{ PATH: `${folder}:/usr/bin:/bin`, ...env },
        },
        `
        const { ensureCublasLt } = await load("ffi/build/cublaslt.ts"), said = [];
        const { findCublasLt } = await load("ffi/cuda/cublaslt.ts");
        await ensureCublasLt("${nvcc}", { onProgress: (line) => said.push(line), pauseMs: ${pauseMs} });
        return { said, found: findCublasLt()?.slice("${folder}/".length) };`,
      );
    const names = (cache: string) => Array.from(Deno.readDirSync(`${folder}/${cache}`), ({ name }) => name);
    const calls = async () => (await Deno.readTextFile(`${folder}/calls`)).trim().split("\n").length;
    try {
      const { arch } = Deno.build;
      for (
        const [nvcc, wheel] of [["13.0.88", "nvidia-cublas==13."], ["12.9.41", "nvidia-cublas-cu12==12."]]
      ) {
        const major = nvcc!.slice(0, 2), file = `libcublasLt-${arch}.so.${major}`;
        const { said, found } = await ensure(major, nvcc!);
        assertEquals([found, names(major)], [`${major}/${file}`, [file]]);
        assert(said[0].startsWith(`fetching ${wheel}`), said[0]);
        assertMatch(said.join(), /^fetching [^ ]+ with pip, \d+ MB$/);
        const asked = await Deno.readTextFile(`${folder}/asked`);
        assertMatch(asked, /^nvidia-cublas\S* --hash=sha256:\w{64} --hash=sha256:\w{64}\n$/);
        const before = await calls();
        assertEquals(await ensure(major, nvcc!), { said: [], found });
        assertEquals(await calls(), before);
      }
      for (const [nvcc, named] of [["14.0.1", ""], ["13.0.88", "none"], ["13.0.88", "/own.so"]]) {
        assertEquals(await ensure("none", nvcc!, { TOKENFILTER_CUBLASLT: named! }), { said: [] });
      }
      // A failure is a line, and noted where a pause is asked for.
      const PIP = "echo 'no network' >&2; exit 1", before = await calls();
      const failed = await ensure("failed", "13.0.88", { PIP }, 1e8);
      assertEquals([failed.said.at(-1), failed.found], ["no cuBLASLt from pip: no network", undefined]);
      assertEquals(names("failed"), ["nvidia-cublas-not-fetched"]);
      assertEquals(await ensure("failed", "13.0.88", { PIP }, 1e8), { said: [] });
      assertEquals(await calls(), before + 1);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
