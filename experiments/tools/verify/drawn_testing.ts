/** Cases that an outside tool draws by a seed. */
import { runPython } from "../testing_python.ts";

/** `TOKENFILTER_DRAW_SEED`, to draw other cases or the same again; else the day's, so that each day draws its own. */
export const drawnSeed: number = Number(
  Deno.env.get("TOKENFILTER_DRAW_SEED") ?? Math.floor(Date.now() / 86_400_000),
);

/** Runs a script, by its path from this folder, that draws cases into a folder. @returns Its cases.json */
export async function drawCases<Cases>(script: string, count: number, folder: string): Promise<Cases> {
  await runPython(`${import.meta.dirname}/${script}`, String(drawnSeed), String(count), folder);
  return JSON.parse(Deno.readTextFileSync(`${folder}/cases.json`));
}
