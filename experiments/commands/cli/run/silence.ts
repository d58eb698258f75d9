/** Reports the worker that a run waits for, if that worker's heartbeat has stopped. */
import type { HeldTrial } from "../../../../lib/sweep/mod.ts";
import type { Progress } from "../output/progress.ts";

/** Reports each such trial once. Its worker may compute a long chunk or have ended on another machine. */
export function tellSilence(progress: Progress): (held: readonly HeldTrial[]) => void {
  const told = new Set<string>();
  return (held) => {
    for (const { number, owner, untilMs } of held) {
      const key = `${number} ${owner}`;
      if (told.has(key)) continue;
      told.add(key);
      progress.line(
        `Waits for trial ${number}: worker ${owner} gives no sign, and has it until ${
          new Date(untilMs).toISOString()
        } ` +
          "(if it has ended, deno task study repair makes a study in which the trial waits)",
      );
    }
  };
}
