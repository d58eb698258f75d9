import { assertEquals } from "@std/assert";
import { SYMBOLS } from "../symbols.ts";
import { prototypes } from "../testing.ts";
import { CUDA_ONLY_SYMBOLS, CUDA_SYMBOLS } from "./symbols.ts";

const read = (name: string) => Deno.readTextFile(new URL(`../../kernels/include/${name}`, import.meta.url));
const declared = prototypes(await read("tokenfilter_cuda.h"));
const source = await Deno.readTextFile(new URL("symbols.ts", import.meta.url));

/** How a C type crosses FFI: structs and out-parameters in host memory, tensors as addresses. */
function ffiType(declaration: string): string {
  if (/^tkf_context\* \w+$/.test(declaration)) return "pointer";
  if (/^tkf_context\*\* /.test(declaration) || /^const tkf_\w+\* /.test(declaration)) return "buffer";
  if (declaration.includes("*")) return "pointer";
  const types: Record<string, string> = { int32_t: "i32", int64_t: "i64", uint64_t: "u64", double: "f64" };
  return types[declaration.split(" ")[0]!] ?? "unknown";
}

Deno.test("CUDA_ONLY_SYMBOLS declares exactly the functions of tokenfilter_cuda.h, with their types", () => {
  assertEquals(Object.keys(CUDA_ONLY_SYMBOLS).toSorted(), [...declared.keys()].toSorted());
  const results: Record<string, string> = { int32_t: "i32", uint64_t: "u64", "const char*": "pointer" };
  for (const [name, { parameters, result }] of declared) {
    const found = CUDA_ONLY_SYMBOLS[name as keyof typeof CUDA_ONLY_SYMBOLS];
    assertEquals([...found.parameters] as string[], parameters.map(ffiType), name);
    assertEquals(found.result as string, results[result], name);
    const entry = source.match(new RegExp(`\n  ${name}: \\{\n([^]*?)\n  \\},`))![1]!;
    const comments = [...entry.matchAll(/^ {6}"\w+", \/\/ (.+)$/gm)].map(([, comment]) => comment);
    assertEquals(comments, parameters, name);
  }
});

Deno.test("CUDA_SYMBOLS passes tensors of the common functions as addresses, and what the host owns as buffers", async () => {
  const hostNames =
    /^(const tkf_filter_spec\* spec|const tkf_attention_shape\* shape|tkf_context\*\* out|const char\* path)$/;
  let buffers = 0;
  for (const [name, { parameters }] of prototypes(await read("tokenfilter.h"))) {
    const found = CUDA_SYMBOLS[name] as Deno.ForeignFunction;
    parameters.forEach((declaration, i) => {
      const common = SYMBOLS[name as keyof typeof SYMBOLS].parameters[i];
      const host = hostNames.test(declaration) ||
        (name === "tkf_machine_measure" && declaration === "double* out");
      assertEquals(
        found.parameters[i],
        common === "buffer" && !host ? "pointer" : common,
        `${name}: ${declaration}`,
      );
      if (found.parameters[i] === "buffer") buffers++;
    });
  }
  assertEquals(buffers, 6);
});
