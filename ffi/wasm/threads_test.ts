/** Threads of WebAssembly: what they compute, and how they end. */
import { assertEquals, assertRejects } from "@std/assert";
import { loadModel } from "../../lib/model/mod.ts";
import { run } from "../build/command.ts";
import { openWasm } from "./mod.ts";

Deno.test("a prefill has the same bits on one thread and on three, and threads end with the backend", async () => {
  const ids = Int32Array.from({ length: 96 }, (_, i) => (i * i * 31 + i * 7) % 4096);
  const logits = async (threads: number) => {
    using backend = await openWasm({ threads });
    const { model } = await loadModel("tiny", backend);
    assertEquals(
      backend.description,
      `wasm: simd128, ${threads} thread${threads > 1 ? "s" : ""}, built-in matrix product`,
    );
    return backend.read(model.logits(model.start().feed(ids))).data;
  };
  assertEquals(await logits(3), await logits(1));
});

Deno.test("a program ends with threads that nobody has ended, without a permission but to read", async () => {
  const script = await Deno.makeTempFile({ suffix: ".ts" });
  const module = new URL("mod.ts", import.meta.url).href;
  await Deno.writeTextFile(
    script,
    `import { openWasm } from "${module}";\nconsole.log((await openWasm({ threads: 2 })).description);`,
  );
  const flags = ["--no-check", "--no-prompt", "--allow-read"];
  const { code, stdout, stderr } = await run(Deno.execPath(), ["run", ...flags, script]);
  assertEquals([code, stdout, stderr], [0, "wasm: simd128, 2 threads, built-in matrix product\n", ""]);
  await Deno.remove(script);
});

Deno.test("openWasm() refuses counts of threads, and the file of the other kind", async () => {
  for (const threads of [0, 65, 1.5]) {
    await assertRejects(() => openWasm({ threads }), RangeError, '"threads": found');
  }
  const wasm = await Deno.readFile(new URL("tokenfilter.wasm", import.meta.url));
  await assertRejects(() => openWasm({ wasm, threads: 2 }), Error, "expected the file of this release");
});
