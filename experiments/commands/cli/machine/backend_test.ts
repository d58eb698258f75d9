/** `--backend cuda` and `auto` as a user asks for them, on a stand-in for the driver with the emulated kernels. */
import { fileURLToPath } from "node:url";
import { assert, assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import { run } from "../../../../ffi/build/command.ts";
import { buildEmulated } from "../../../../ffi/build/emulated_testing.ts";
import { NO_EMULATOR } from "../../../../ffi/cuda/testing.ts";
import { readBuiltinText } from "../../../../lib/eval/mod.ts";
import { buildGguf, type Entry, type TensorEntry } from "../../../../lib/model/testdata/gguf_builder.ts";
import { SMALL_VOCAB_SIZE, smallLlamaParts } from "../../../../lib/model/testdata/small_llama.ts";
import { exists } from "../files.ts";
import { finish, spawnTask, withFolder } from "../../testing.ts";
import { NEEDS_LINUX, unless } from "../../../../lib/testing.ts";

/** Losses of a text's tokens, and the text on stderr. */
async function score(
  env: Record<string, string>,
  ...args: string[]
): Promise<{ nll: number[]; said: string }> {
  const { code, stdout, stderr } = await finish(await spawnTask("score", ["--json", ...args], env));
  assertEquals(code, 0, stderr);
  return { nll: JSON.parse(stdout).nll, said: stderr };
}

/** Writes a small model with heads of 64, as the emulator is slow. */
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

Deno.test({
  ...unless(
    NO_EMULATOR || NEEDS_LINUX,
    "--backend auto takes a GPU where there is one, with the library that is named, and else says why not",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const driver = `${folder}/libcuda.so`, text = `${folder}/text`, model = `${folder}/model.gguf`;
      await writeModel(model);
      const source = fileURLToPath(new URL("../../../../ffi/cuda/testdata/fake_driver.c", import.meta.url));
      const { success } = await new Deno.Command("gcc", {
        args: ["-shared", "-fPIC", source, "-o", driver],
      }).output();
      assert(success);
      await Deno.writeTextFile(text, "It was the best of times.");
      const gpu = {
        TOKENFILTER_CUDA_DRIVER: driver,
        TOKENFILTER_CUDA_LIBRARY: (await buildEmulated()).path,
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
          [[], /prefill_plain_kernel<64>/, 60],
          [["--cache-dtype", "bf16"], /prefill_mma_kernel<__nv_bfloat16, 64>/, 60],
          [["--cache-dtype", "f16", "--wgmma"], /prefill_wgmma_kernel<__half, 64>/, 260], // 64 tokens at least
        ] as const
      ) {
        await Deno.writeTextFile(text, (await readBuiltinText()).slice(0, length));
        const exact = await score({}, ...input);
        const trace = `${folder}/trace`, env = { ...gpu, TKF_EMULATOR_TRACE: trace };
        const found = await score(env, ...input, "--backend", "cuda", ...flags);
        // Lines of the trace begin with a kernel's offset in the library.
        const offsets = (await Deno.readTextFile(trace)).split("\n").map((line) => parseInt(line, 16));
        const symbols = await run("nm", ["--demangle", "--defined-only", gpu.TOKENFILTER_CUDA_LIBRARY]);
        const prefill = symbols.stdout.split("\n").filter((line) =>
          line.includes("prefill_") && / [tTwW] /.test(line) && offsets.includes(parseInt(line, 16))
        );
        assertEquals(prefill.length, 1);
        assertMatch(prefill[0]!, kernel);
        found.nll.forEach((loss, i) =>
          assertAlmostEquals(loss, exact.nll[i]!, flags.length > 0 ? 0.1 : 1e-3)
        );
        await Deno.remove(trace);
      }
    }),
});

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
