import { assertEquals } from "@std/assert";
import { ABI_VERSION, STATUS, SYMBOLS } from "./symbols.ts";
import { prototypes } from "./testing.ts";
import { DTYPES } from "../lib/dtype.ts";
import { NUM_SLOTS, SLOT } from "../lib/filter/layer.ts";
import { FILTER_OPTIONS } from "../lib/filter/options.ts";
import { RULES } from "../lib/methods/list.ts";
import { SPEC_BYTES, SPEC_DOUBLES, SPEC_INTS } from "./filter.ts";

const header = await Deno.readTextFile(new URL("../kernels/include/tokenfilter.h", import.meta.url));
const source = await Deno.readTextFile(new URL("symbols.ts", import.meta.url));

/** How a C type crosses FFI. */
function ffiType(declaration: string): string {
  if (/^tkf_context\* \w+$/.test(declaration)) return "pointer";
  if (declaration.includes("*")) return "buffer";
  const types: Record<string, string> = { int32_t: "i32", int64_t: "i64", uint64_t: "u64", double: "f64" };
  return types[declaration.split(" ")[0]!] ?? "unknown";
}

/** Numbers of all `#define TKF_<group>_<NAME> n` of a group, by lower-case name. */
function defines(group: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [, name, value] of header.matchAll(new RegExp(`#define TKF_${group}_(\\w+) (\\d+)`, "g"))) {
    found[name!.toLowerCase()] = Number(value);
  }
  return found;
}

Deno.test("SYMBOLS declares exactly the functions of tokenfilter.h, with their types", () => {
  const expected = prototypes(header);
  assertEquals(expected.size, 23);
  assertEquals(Object.keys(SYMBOLS).toSorted(), [...expected.keys()].toSorted());
  for (const [name, { parameters, result }] of expected) {
    const found = SYMBOLS[name as keyof typeof SYMBOLS];
    assertEquals([...found.parameters] as string[], parameters.map(ffiType), name);
    assertEquals(found.result, result.endsWith("*") ? "pointer" : "i32", name);
    assertEquals(result.endsWith("*") || result === "int32_t", true, name);
  }
});

Deno.test("SYMBOLS carries every parameter's C declaration as its comment", () => {
  for (const [name, { parameters }] of prototypes(header)) {
    const entry = source.match(new RegExp(`\n  ${name}: \\{\n([^]*?)\n  \\},`))![1]!;
    const comments = [...entry.matchAll(/^ {6}"\w+", \/\/ (.+)$/gm)].map(([, comment]) => comment);
    assertEquals(comments, parameters, name);
  }
});

Deno.test("numbers of the C ABI equal those of TypeScript", () => {
  assertEquals(Number(header.match(/#define TKF_ABI_VERSION (\d+)/)![1]), ABI_VERSION);
  assertEquals(defines("STATUS"), STATUS);
  for (const [name, code] of Object.entries(defines("DTYPE"))) {
    assertEquals(DTYPES[name as keyof typeof DTYPES].code, code, name);
  }
  const weights = Object.values(DTYPES).filter(({ code }) => code < 100).length;
  assertEquals(Object.keys(defines("DTYPE")).length, weights);
  const numbered = (names: readonly string[]) =>
    Object.fromEntries(names.map((name, i) => [name.replaceAll("-", "_"), i]));
  const native = RULES.filter(({ native }) => native !== undefined);
  assertEquals(defines("FUSION"), Object.fromEntries(native.map(({ name, native }) => [name, native])));
  for (const name of ["threshold", "anchor", "absorb"] as const) {
    assertEquals(defines(name.toUpperCase()), numbered(FILTER_OPTIONS[name].names));
  }
  assertEquals(Number(header.match(/#define TKF_NUM_SLOTS (\d+)/)![1]), NUM_SLOTS);
  assertEquals(
    defines("SLOT"),
    Object.fromEntries(Object.entries(SLOT).map(([name, slot]) => [name.toLowerCase(), slot])),
  );
});

Deno.test("a packed spec has the fields of tkf_filter_spec, in their order", () => {
  const body = header.match(/typedef struct tkf_filter_spec \{([^}]*)\}/)![1]!.replaceAll(/\/\*.*?\*\//g, "");
  const fields = [...body.matchAll(/(int32_t|double|uint64_t) ([\w, ]+);/g)].flatMap(([, type, names]) =>
    names!.split(", ").map((name) => `${type} ${name}`)
  );
  /** `numKvHeads` as `kv_heads`. */
  const snake = (name: string) =>
    name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).replace(/^num_/, "");
  assertEquals(fields, [
    ...SPEC_INTS.map((name) => `int32_t ${snake(name)}`),
    ...SPEC_DOUBLES.map((name) => `double ${snake(name)}`),
    "uint64_t seed",
  ]);
  assertEquals(SPEC_BYTES, 4 * SPEC_INTS.length + 8 * SPEC_DOUBLES.length + 8);
});
