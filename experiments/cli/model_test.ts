import { assertEquals } from "@std/assert";
import { warnOfLength } from "./model.ts";

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
