import { assert, assertEquals } from "@std/assert";
import { noteConverted, warnOfLength } from "./model.ts";

Deno.test("warnOfLength() speaks from one token past the model's context on", () => {
  let text = "";
  const stream = {
    writeSync: (bytes: Uint8Array) => (text += new TextDecoder().decode(bytes), bytes.length),
  };
  warnOfLength(512, { contextLength: 512 }, undefined, stream);
  assertEquals(text, "");
  warnOfLength(513, { contextLength: 512 }, undefined, stream);
  assertEquals(text, "Warning: chunks of 513 tokens; the model was trained on 512\n");
});

Deno.test("noteConverted() names the types that run as others, where there are any", () => {
  let text = "";
  const stream = {
    writeSync: (bytes: Uint8Array) => (text += new TextDecoder().decode(bytes), bytes.length),
  };
  noteConverted({ converted: new Map() }, stream);
  assertEquals(text, "");
  noteConverted({ converted: new Map([["Q5_K", "f16"], ["MXFP4", "q8_0"]]) }, stream);
  assert(text.endsWith("they run otherwise: Q5_K as f16, MXFP4 as q8_0\n"), text);
});
