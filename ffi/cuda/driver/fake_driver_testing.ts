/** A stand-in for libcuda, compiled here, and drivers on it; for tests. */
import { fileURLToPath } from "node:url";
import { assert } from "@std/assert";
import { CudaMemory } from "../device_memory.ts";
import { CudaDriver } from "./driver.ts";
import { DRIVER_SYMBOLS } from "./driver_symbols.ts";

/** A folder for what tests compile. */
export const folder = await Deno.makeTempDir();
/** Path of the stand-in. */
export const path = `${folder}/libcuda.so`;
const source = fileURLToPath(new URL("../testdata/fake_driver.c", import.meta.url));
/** The C compiler at hand. */
export const compiler =
  Deno.env.get("CXX")?.split(" ")[0].replace("g++", "gcc").replace("clang++", "clang") ??
    "gcc";
const built = await new Deno.Command(compiler, {
  args: ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", source, "-o", path],
}).output();
assert(built.success, new TextDecoder().decode(built.stderr));

const library = Deno.dlopen(path, {
  ...DRIVER_SYMBOLS,
  fake_live: { parameters: [], result: "i32" },
  fake_waits: { parameters: [], result: "i32" },
  fake_events: { parameters: [], result: "i32" },
  fake_streams: { parameters: [], result: "i32" },
  fake_contexts: { parameters: [], result: "i32" },
  fake_misuses: { parameters: [], result: "i32" },
  fake_set: { parameters: ["buffer", "i64"], result: "void" },
});
/** Its functions and counts. */
export const fake = library.symbols;

/** A driver with the given settings: its own, since files that run at the same time share the process's environment. */
export function driverWith(settings: { readonly [name: string]: number } = {}): CudaDriver {
  const defaults = {
    FAKE_VERSION: 13000,
    FAKE_DEVICES: 1,
    FAKE_ARCH: 90,
    FAKE_MEMORY: 2 ** 30,
    FAKE_INIT: 0,
    FAKE_ALLOC: 0,
    FAKE_CLEAR: 0,
    FAKE_STREAM: 0,
    FAKE_MODE: 0,
    FAKE_TABLES: 0,
  };
  for (const [name, value] of Object.entries({ ...defaults, ...settings })) {
    fake.fake_set(new TextEncoder().encode(`${name}\0`), BigInt(value));
  }
  return new CudaDriver(fake);
}

/** Memory of such a driver's first device. */
export function memoryWith(settings: { readonly [name: string]: number } = {}): CudaMemory {
  const driver = driverWith(settings);
  return new CudaMemory(driver, driver.device(0));
}

/** Counts of objects that were not given back: memory and graphs, events, streams, contexts; and of misuses. */
export function leftOvers(): { left: number[]; misuses: number } {
  const { fake_live, fake_events, fake_streams, fake_contexts, fake_misuses } = fake;
  return {
    left: [fake_live, fake_events, fake_streams, fake_contexts].map((count) => count()),
    misuses: fake_misuses(),
  };
}
