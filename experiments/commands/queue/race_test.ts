import { assertEquals } from "@std/assert";
import { keepRace, type QueuedRace } from "./race.ts";

Deno.test("keepRace() joins the race of a sweep once, and none for a job without a race", async () => {
  const joined: unknown[] = [], race = { kind: "halving", seed: 7 } as const;
  const raceOf = keepRace((...asked) => {
    joined.push(asked);
    return Promise.resolve({} as QueuedRace);
  });
  assertEquals(await raceOf({ sweep: "a" }), undefined);
  assertEquals(joined, []);
  const first = await raceOf({ sweep: "a", race });
  assertEquals(await raceOf({ sweep: "a", race }) === first, true);
  assertEquals(await raceOf({ sweep: "b", race }) === first, false);
  assertEquals(joined, [[race, "a"], [race, "b"]]);
});
