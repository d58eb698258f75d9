/** `@std/assert` from npm, where JSR cannot be reached. */
export {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertFalse,
  assertGreaterOrEqual,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertNotEquals,
  assertNotStrictEquals,
  assertObjectMatch,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "npm:deno-std@1.4.0/assert/mod.js";
