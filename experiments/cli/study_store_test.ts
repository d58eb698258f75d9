import { assertEquals, assertMatch } from "@std/assert";
import { hasEnded, ownerName } from "./study_store.ts";

Deno.test("an owner has ended where its process has, which only its own machine can say", async () => {
  const own = ownerName(), host = Deno.hostname();
  assertMatch(own, new RegExp(`^${Deno.pid}-[0-9a-f]{8}@`));
  const child = new Deno.Command(Deno.execPath(), { args: ["--version"], stdout: "null" }).spawn();
  const { pid } = child;
  await child.status;
  const ended = `${pid}-0a1b2c3d@${host}`;
  const owners = [own, ended, `${pid}-0a1b2c3d@another-${host}`, `${pid}-0a1b2c3d`, "somebody"];
  assertEquals(owners.map(hasEnded), [false, true, false, false, false]);
});
