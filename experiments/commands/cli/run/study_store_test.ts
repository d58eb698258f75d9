import { assertEquals, assertMatch } from "@std/assert";
import { command as sweep } from "../../sweep.ts";
import { parseArguments } from "../flags/parse.ts";
import { flagValues, hasEnded, keepFlags, ownerName } from "./study_store.ts";

const namespaceOf = () => Deno.readLinkSync("/proc/self/ns/pid").match(/\d+/)![0];

Deno.test("an owner has ended where its process has, which only its own machine can say", async () => {
  const own = ownerName(), place = own.split("@").slice(1).join("@");
  assertMatch(own, new RegExp(`^${Deno.pid}-[0-9a-f]{8}@`));
  // On Linux a place is a namespace too: a container of the same host name may have the number for another process.
  assertEquals(place, Deno.hostname() + (Deno.build.os === "linux" ? `/${namespaceOf()}` : ""));
  const child = new Deno.Command(Deno.execPath(), { args: ["--version"], stdout: "null" }).spawn();
  const { pid } = child;
  await child.status;
  const ended = `${pid}-0a1b2c3d@${place}`,
    others = [`another-${place}`, `${place}1`, `${Deno.hostname()}/1`];
  const owners = [
    own,
    ended,
    ...others.map((other) => `${pid}-0a1b2c3d@${other}`),
    `${pid}-0a1b2c3d`,
    "somebody",
  ];
  assertEquals(owners.map(hasEnded), [false, true, false, false, false, false, false]);
});

Deno.test("a worker has the flags of its sweep, each as it was, but for what only a sweep takes", () => {
  const lines = [
    "--model tiny --task perplexity --context 64 --tokens 128 --backend cpu --cache-dtype bf16 --dtype q4_0",
    "--matmul bf16 --memory 500M --calibration none.txt --calibration-domain same --calibration-tokens 200",
  ];
  const words = lines.join(" ").split(" ");
  const { values } = parseArguments(sweep, [...words, "--jobs", "2", "--method", "key"]);
  const given = words.flatMap((word, i) => i % 2 === 0 ? [[word.slice(2), [words[i + 1]]] as const] : []);
  assertEquals([...flagValues(keepFlags(values))].sort(), given.sort());
});
