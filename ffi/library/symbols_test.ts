import { assertEquals, assertThrows } from "@std/assert";
import { ABI_VERSION, STATUS } from "./abi.ts";
import { specArgs } from "../filter.ts";
import { CUDA_SYMBOLS, SYMBOLS } from "./symbols.ts";
import { PRODUCTS } from "../../lib/backend.ts";
import { DTYPES } from "../../lib/dtype.ts";
import { NUM_SLOTS, SLOT } from "../../lib/filter/layer.ts";
import { FILTER_OPTIONS } from "../../lib/filter/options.ts";
import { makeSpec } from "../../lib/filter/testing.ts";
import { RULES } from "../../lib/methods/list.ts";

const read = (name: string) => Deno.readTextFile(new URL(`../../kernels/include/${name}`, import.meta.url));
const header = await read("tokenfilter.h");

/** The functions that a header declares, but for its ops, as `Deno.dlopen` needs them. */
function declared(header: string): Deno.ForeignLibraryInterface {
  const types: Record<string, string> = {
    int32_t: "i32",
    uint64_t: "u64",
    double: "f64",
    "const char*": "pointer",
  };
  const kind = (declaration: string) => {
    if (/^(tkf_context|void)\* \w+$/.test(declaration)) return "pointer";
    return declaration.includes("*") ? "buffer" : types[declaration.split(" ")[0]!];
  };
  const functions = header.matchAll(/^TKF_API ([\w *]+?) ?(tkf_\w+)\((.*)\);/gm);
  return Object.fromEntries(Array.from(functions, ([, result, name, list]) => {
    const parameters = list === "void" ? [] : list!.split(", ").map(kind);
    return [name, { parameters, result: types[result!] }];
  })) as Deno.ForeignLibraryInterface;
}

/** Numbers of all `#define TKF_<group>_<NAME> n` of a group, by lower-case name. */
function defines(group: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [, name, value] of header.matchAll(new RegExp(`#define TKF_${group}_(\\w+) (\\d+)`, "g"))) {
    found[name!.toLowerCase()] = Number(value);
  }
  return found;
}

Deno.test("SYMBOLS declares exactly the functions of the headers that are no ops, with their types", async () => {
  const common: Deno.ForeignLibraryInterface = SYMBOLS, all: Deno.ForeignLibraryInterface = CUDA_SYMBOLS;
  assertEquals(common, declared(header));
  assertEquals(all, { ...common, ...declared(await read("tokenfilter_cuda.h")) });
  assertEquals([Object.keys(common).length, Object.keys(all).length], [11, 18]);
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
  assertEquals(defines("PRODUCTS"), numbered(PRODUCTS));
  assertEquals(Number(header.match(/#define TKF_NUM_SLOTS (\d+)/)![1]), NUM_SLOTS);
  assertEquals(
    defines("SLOT"),
    Object.fromEntries(Object.entries(SLOT).map(([name, slot]) => [name.toLowerCase(), slot])),
  );
});

Deno.test("specArgs() refuses a rule that the kernels do not have", () => {
  const spec = makeSpec(), rule = { name: "own", score: () => 0 };
  const refused = 'Cannot run the rule "own" in native code: expected a rule that the kernels have';
  assertThrows(() => specArgs({ ...spec, rule }, 0), RangeError, refused);
});
