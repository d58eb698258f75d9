/** `--backend cuda` and `auto` as a user asks for them, on the interpreter of PTX. */
import { assert, assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import type { CudaBackend } from "../../../../ffi/cuda/backend.ts";
import { ptxLibrary, testOnPtx } from "../../../../ffi/cuda/testing.ts";
import { readBuiltinText } from "../../../../lib/eval/mod.ts";
import { buildGguf, type Entry, type TensorEntry } from "../../../../lib/model/testdata/gguf_builder.ts";
import { SMALL_VOCAB_SIZE, smallLlamaParts } from "../../../../lib/model/testdata/small_llama.ts";
import { withVariables } from "../../../../lib/testing.ts";
import { compileFakeCublasLt } from "../../../../kernels/linear/tests/testing.ts";
import { exists } from "../files.ts";
import { Progress } from "../output/progress.ts";
import { finish, spawnTask, withFolder } from "../../testing.ts";
import { openBackend, readBackend } from "./backend.ts";

/** Losses of a text's tokens, and the text on stderr. */
async function score(
  env: Record<string, string>,
  ...args: string[]
): Promise<{ nll: number[]; said: string }> {
  const { code, stdout, stderr } = await finish(await spawnTask("score", ["--json", ...args], env));
  assertEquals(code, 0, stderr);
  return { nll: JSON.parse(stdout).nll, said: stderr };
}

/** Writes a small model with heads of 64, as the interpreter is slow. */
async function writeModel(path: string): Promise<void> {
  const width = 128,
    sizes = { embedding_length: width, feed_forward_length: width, "rope.dimension_count": 64 };
  const entries = Object.entries({ ...sizes, block_count: 2, context_length: 512 })
    .map(([key, value]): [string, Entry] => [`llama.${key}`, [`llama.${key}`, "uint32", value]]);
  const shapes: [string, number[]][] = [["token_embd", [width, SMALL_VOCAB_SIZE]], ["output_norm", [width]]];
  for (const block of ["blk.0", "blk.1"]) {
    for (const name of ["attn_norm", "ffn_norm"]) shapes.push([`${block}.${name}`, [width]]);
    for (const name of ["attn_k", "attn_v"]) shapes.push([`${block}.${name}`, [width, 64]]);
    for (const name of ["attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]) {
      shapes.push([`${block}.${name}`, [width, width]]);
    }
  }
  const tensors = shapes.map(([name, dims], seed): [string, TensorEntry] => {
    const count = dims.reduce((a, b) => a * b);
    const values = Float32Array.from({ length: count }, (_, i) => Math.sin(i * i + seed) / 8);
    const data = new Uint8Array((dims.length === 1 ? values.map((x) => 1 + x) : values).buffer);
    return [`${name}.weight`, { name: `${name}.weight`, dims, type: 0, data }];
  });
  const parts = smallLlamaParts(Object.fromEntries(entries), Object.fromEntries(tensors));
  await Deno.writeFile(path, buildGguf(parts));
}

testOnPtx(
  "--backend auto takes a GPU where there is one, with the library that is named, and else says why not",
  () =>
    withFolder(async (folder) => {
      const text = `${folder}/text`, model = `${folder}/model.gguf`;
      await writeModel(model);
      await Deno.writeTextFile(text, "It was the best of times.");
      const gpu = {
        TOKENFILTER_CUDA_DRIVER: ptxLibrary(),
        TOKENFILTER_CUDA_LIBRARY: ptxLibrary(),
        TOKENFILTER_CUBLASLT: "none",
        PATH: "/usr/bin:/bin", // no nvcc is looked for
      };
      const input = ["--model", model, "--text", text];
      const args = [...input, "--warmup", "2", "--prune-ratio", "0.5", "--method", "variance"];
      const cpu = await score({ TOKENFILTER_CUDA_DRIVER: `${folder}/none` }, ...args, "--backend", "auto");
      assertMatch(cpu.said, /found no driver .*: going on with native code on the CPU/);
      for (const more of [["auto"], ["cuda", "--chunk", "5"], ["cuda", "--phase", "decode"]]) {
        const found = await score(gpu, ...args, "--backend", ...more);
        assert(!/CPU|compiling/.test(found.said), found.said);
        assertEquals(found.nll.length, cpu.nll.length);
        found.nll.forEach((loss, i) => assertAlmostEquals(loss, cpu.nll[i]!, 1e-3));
      }

      const bf16 = [...args, "--backend", "cuda", "--matmul", "bf16"];
      const refused = await finish(await spawnTask("score", bf16, gpu));
      assertEquals(refused.code, 2, refused.stderr);
      assertMatch(
        refused.stderr,
        /^Cannot round products to bf16 on .*: found no cuBLASLt; use exact ones, or install cuBLASLt/m,
      );

      // The type of the cache and --wgmma select the kernel of a prefill.
      for (
        const [flags, kernel, length] of [
          [[], /prefill_plain_kernelILi64E/, 60],
          [["--cache-dtype", "bf16"], /prefill_mma_kernelI13__nv_bfloat16Li64E/, 60],
          [["--cache-dtype", "f16", "--wgmma"], /prefill_wgmma_kernelI6__halfLi64E/, 260], // 64 tokens at least
        ] as const
      ) {
        if (flags.join().includes("--wgmma") && Deno.env.get("TKF_PTX_ARCH") !== "90a") continue;
        await Deno.writeTextFile(text, (await readBuiltinText()).slice(0, length));
        const exact = await score({}, ...input);
        const coverage = `${folder}/coverage`;
        await Deno.mkdir(coverage);
        const found = await score(
          { ...gpu, TKF_PTX_COVERAGE: coverage },
          ...input,
          "--backend",
          "cuda",
          ...flags,
        );
        const [file] = Array.from(Deno.readDirSync(coverage), ({ name }) => `${coverage}/${name}`);
        const launched = (await Deno.readTextFile(file!)).match(/\S*prefill_\S+ (?=[1-9])/g) ?? [];
        assertEquals(launched.length, 1);
        assertMatch(launched[0]!, kernel);
        found.nll.forEach((loss, i) =>
          assertAlmostEquals(loss, exact.nll[i]!, flags.length > 0 ? 0.1 : 1e-3)
        );
        await Deno.remove(coverage, { recursive: true });
      }
    }),
);

testOnPtx(
  "the fastest products of a GPU are those in bf16 where there is cuBLASLt, else exact ones",
  () =>
    withFolder(async (folder) => {
      const request = readBackend(new Map([["backend", ["cuda"]]]), "fast"),
        progress = new Progress(undefined);
      const places = [["none", undefined], [await compileFakeCublasLt(folder), "bf16"]] as const;
      for (const [TOKENFILTER_CUBLASLT, expected] of places) {
        const variables = { TOKENFILTER_CUDA_DRIVER: ptxLibrary(), TOKENFILTER_CUBLASLT };
        const backend = await withVariables(variables, () => openBackend(request, progress)) as CudaBackend;
        assertEquals([backend.name, backend.products], ["cuda", expected]);
        backend[Symbol.dispose]();
      }
    }),
);

Deno.test("nothing is built for a model on this machine before it is read", () =>
  withFolder(async (folder) => {
    const CXX = `${folder}/c++`, calls = `${folder}/calls`;
    await Deno.writeTextFile(CXX, `#!/bin/sh\necho "$*" >> "${calls}"\nexit 1\n`, { mode: 0o755 });
    const args = ["--backend", "cpu", "--model", `${folder}/missing.gguf`, "--out", `${folder}/out`];
    const { code } = await finish(
      await spawnTask("sweep", args, { CXX, TOKENFILTER_CACHE: `${folder}/cache` }),
    );
    assertEquals([code, exists(calls)], [2, false]);
  }));

Deno.test("buildBeside() builds for the CPU alone, and leaves what fails to the opening of the backend", () =>
  withFolder(async (folder) => {
    const root = new URL("../../../../", import.meta.url), script = `${folder}/beside.ts`;
    await Deno.writeTextFile(
      script,
      `import { buildBeside, openBackend, readBackend } from "${root.href}experiments/commands/cli/machine/backend.ts";
import { Progress } from "${root.href}experiments/commands/cli/output/progress.ts";
const progress = new Progress(undefined), ask = (choice: string) => readBackend(new Map([["backend", [choice]]]));
for (const choice of ["cpu", "cuda", "reference"]) await buildBeside(ask(choice), progress);
await openBackend(ask("cpu"), progress);`,
    );
    const command = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--config=deno.json", script],
      cwd: root,
      env: { TOKENFILTER_CACHE: folder, CXX: "no-such-compiler", TOKENFILTER_BLAS: "none", NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
    const { code, stderr } = await finish(command.spawn());
    assertEquals(code, 1);
    assertMatch(stderr, /NativeLibraryError: .*no-such-compiler[^]*at .*openBackend/);
  }));
