import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { toBf16, toF16 } from "../lib/half.ts";
import { writeSafetensors } from "../lib/model/mod.ts";
import { hostTensor } from "../lib/tensor.ts";
import { runTask, withFolder } from "./testing.ts";

const T = 120, H = 2, D = 8;
/** A slowly turning direction a head, with noise: scores vary and drift. */
function makeRows(phase: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: T * H * D }, (_, i) => {
    const t = Math.floor(i / (H * D)), j = i % (H * D);
    return Math.cos(j + phase + t / 40) + 0.8 * Math.sin(i * i * 0.37 + phase);
  });
}

function writeDump(folder: string, dtype: "f32" | "f16" | "bf16"): string {
  const convert = dtype === "f16" ? toF16 : toBf16;
  const data = (phase: number) =>
    dtype === "f32" ? makeRows(phase) : Uint16Array.from(makeRows(phase), convert);
  const path = `${folder}/${dtype}.safetensors`;
  const tensors = ["keys", "values"].map((name, i) => [name, hostTensor(dtype, [T, H, D], data(i))] as const);
  Deno.writeFileSync(path, writeSafetensors(new Map(tensors)));
  return path;
}

type Rows = Record<string, (number | null)[]>;

async function filter(...args: string[]): Promise<Rows> {
  const { code, stdout, stderr } = await runTask("filter", ...args, "--json", "--quiet");
  assertEquals([code, stderr], [0, ""]);
  return JSON.parse(stdout);
}

Deno.test("filter --json has one entry a token and null where nothing is defined", () =>
  withFolder(async (folder) => {
    const rows = await filter("--kv", writeDump(folder, "f32"), "--skip-ratio", "0.4", "--warmup", "16");
    assertEquals(Object.keys(rows), ["redundancy", "threshold", "keep", "muK", "varK", "muV", "varV", "wK"]);
    for (const column of Object.values(rows)) assertEquals(column.length, T);
    for (const name of ["redundancy", "muK", "varK", "muV", "varV"]) {
      assertEquals(rows[name]!.map((x) => x === null), Array.from({ length: T }, (_, t) => t === 0), name);
    }
    assertEquals(rows.keep!.slice(0, 16), Array(16).fill(1));
    const skipped = rows.keep!.filter((keep) => keep === 0).length;
    assert(Math.abs(skipped - 0.4 * (T - 16)) <= 8, `${skipped}`);
    rows.keep!.forEach((keep, t) => {
      if (t < 16 || rows.threshold![t] === null) return;
      assertEquals(keep, rows.redundancy![t]! > rows.threshold![t]! ? 0 : 1, `token ${t}`);
    });
  }));

Deno.test("filter records a rule's constant weight for every token, the first one too", () =>
  withFolder(async (folder) => {
    const path = writeDump(folder, "f32");
    const weights = { static: 0.3, value: 0, random: null };
    for (const [fusion, weight] of Object.entries(weights)) {
      for (const backend of ["cpu", "reference"]) {
        const flags = ["--kv", path, "--fusion", fusion, "--alpha", "0.3", "--backend", backend];
        assertEquals((await filter(...flags)).wK, Array(T).fill(weight), `${fusion} on ${backend}`);
      }
    }
    const { wK } = await filter("--kv", path, "--fusion", "variance");
    assertEquals(wK!.map((x) => x === null), Array.from({ length: T }, (_, t) => t === 0));
  }));

Deno.test("filter decides alike on both backends, for every kind of number and policy", () =>
  withFolder(async (folder) => {
    for (
      const [dtype, flags] of [
        ["f32", ["--fusion", "variance", "--tau", "4"]],
        ["f16", ["--fusion", "static", "--alpha", "0.2", "--threshold", "window"]],
        ["bf16", ["--fusion", "product", "--threshold", "robbins-monro", "--anchor", "mean"]],
        ["f32", ["--fusion", "random", "--layer", "7", "--seed", "3", "--threshold", "topk"]],
        ["f32", [
          "--fusion",
          "min",
          "--threshold",
          "fixed",
          "--theta",
          "-0.9",
          "--absorb",
          "kept",
          "--invert",
        ]],
      ] as const
    ) {
      const path = writeDump(folder, dtype);
      const [native, plain] = await Promise.all(
        ["cpu", "reference"].map((backend) => filter("--kv", path, ...flags, "--backend", backend)),
      );
      assertEquals(native!.keep, plain!.keep, flags.join(" "));
      assert(plain!.keep!.includes(0), flags.join(" "));
      for (const name of Object.keys(plain!)) {
        native![name]!.forEach((x, t) => {
          const y = plain![name]![t]!;
          assert(
            x === y || (x !== null && y !== null && Math.abs(x! - y) < 2e-5 * 4),
            `${name} of token ${t}: ${x} and ${y}`,
          );
        });
      }
    }
  }));

Deno.test("filter --skip-ratio 0 keeps all, and --prune-ratio stands in for it", () =>
  withFolder(async (folder) => {
    const path = writeDump(folder, "f32");
    assertEquals((await filter("--kv", path, "--skip-ratio", "0")).keep, Array(T).fill(1));
    assertEquals(
      await filter("--kv", path, "--prune-ratio", "0.3"),
      await filter("--kv", path, "--skip-ratio", "0.3"),
    );
    const other = await filter("--kv", path, "--fusion", "random", "--layer", "1");
    assert(String(other.keep) !== String((await filter("--kv", path, "--fusion", "random")).keep));
  }));

Deno.test("filter prints a table and saves its result", () =>
  withFolder(async (folder) => {
    const args = ["--kv", writeDump(folder, "f32"), "--tokens", "50", "--out", `${folder}/out`, "--quiet"];
    const { code, stdout } = await runTask("filter", ...args);
    assertEquals(code, 0);
    assertStringIncludes(stdout, "redundancy");
    assertStringIncludes(stdout, "of 18 tokens after the warm-up");
    assertEquals(JSON.parse(Deno.readTextFileSync(`${folder}/out/filter.json`)).keep.length, 50);
  }));
