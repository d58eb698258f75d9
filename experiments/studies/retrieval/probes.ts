/**
 * Probes a model with other ids than the probe's own: fewer or more random ones, and texts. Writes results/probes.json.
 *
 * usage: deno run -A experiments/studies/retrieval/probes.ts
 *          --texts FILE,FILE [--model smollm2-135m] [--threads N]
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "@std/cli/parse-args";
import { openCpu } from "../../../ffi/mod.ts";
import { wholeParts } from "../../../lib/filter/mod.ts";
import { resolveOptions } from "../../../lib/methods/mod.ts";
import { drawIds, findRetrievalLayers, loadModel, type RetrievalLayers } from "../../../lib/model/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { readVersion } from "../../../lib/version.ts";
import { writeWhole } from "../../commands/cli/files.ts";
import type { PlainTable } from "../../commands/cli/output/table.ts";

const SEEDS = [0, 1, 2, 3, 4], LENGTHS = [104, 128, 192, 255], TEXT_LENGTHS = [128, 255];
/** Characters of a text from which the ids of its probes come, one after the other. */
const TEXT_FROM = 300_000, TEXT_PROBES = 3;

/** Probes of one kind and number of ids. */
export interface Probes {
  readonly model: string;
  readonly modelSha256: string;
  readonly groups: readonly {
    readonly text: string;
    readonly textSha256?: string;
    readonly probes: readonly Pick<RetrievalLayers, "scores" | "heads" | "losses" | "probe">[];
  }[];
}

/** The parts that all probes of a group select, and those that only some do. */
function tabulate(sets: readonly (readonly string[])[]): [string, string] {
  const all = sets[0]!.filter((part) => sets.every((set) => set.includes(part)));
  const some = [...new Set(sets.flat())].filter((part) => !all.includes(part));
  const counted = some.map((part) => `${part} (${sets.filter((set) => set.includes(part)).length})`);
  return [all.join(", "), counted.join(", ") || "-"];
}

/** A row per kind and number of ids: losses, and which layers and KV heads the probes select. */
export function tabulateProbes({ groups }: Probes): PlainTable {
  const options = resolveOptions({ preset: "retrieval", kvRatio: 0.75 });
  return {
    columns: [
      ...["ids", "number", "probes", "loss, first and second half"],
      ...["layers of all probes", "of some (probes)", "KV heads of all probes", "of some (probes)"],
    ],
    left: [true, false, false, false, true, true, true, true],
    rows: groups.map(({ text, probes }) => {
      const parts = (whole: "auto" | "heads") =>
        probes.map(({ scores, heads }) => {
          const own = whole === "auto" ? scores : heads.flat(), perLayer = heads[0]!.length;
          const found = wholeParts(scores.length, { ...options, whole }, own);
          return found.map((part) =>
            whole === "auto" ? `${part}` : `${Math.floor(part / perLayer)}.${part % perLayer}`
          );
        });
      const mean = (which: 0 | 1) =>
        (probes.reduce((sum, { losses }) => sum + losses[which], 0) / probes.length).toFixed(1);
      return [
        ...[text, `${probes[0]!.probe.tokens}`, `${probes.length}`, `${mean(0)} and ${mean(1)}`],
        ...[...tabulate(parts("auto")), ...tabulate(parts("heads"))],
      ];
    }),
  };
}

if (import.meta.main) {
  const args = parseArgs(Deno.args, { string: ["texts", "model", "threads"] });
  const threads = args.threads === undefined ? undefined : Number(args.threads);
  const name = args.model ?? "smollm2-135m",
    loaded = await loadModel(name, await openCpu({ threads, build: true }));
  const { tokenizer } = loaded, groups: Probes["groups"][number][] = [];
  for (const tokens of LENGTHS) {
    const probes = SEEDS.map((seed) => {
      const ids = drawIds(tokenizer, { tokens, copies: 1, seed }).slice(-tokens);
      return { ...findRetrievalLayers(loaded, { ids, seed }) };
    });
    groups.push({ text: "random", probes });
  }
  for (const path of args.texts?.split(",") ?? []) {
    const whole = await Deno.readTextFile(path), part = whole.slice(TEXT_FROM, TEXT_FROM + 10_000);
    const ids = tokenizer.encode(part, { bos: false });
    for (const tokens of TEXT_LENGTHS) {
      const probes = Array.from(
        { length: TEXT_PROBES },
        (_, i) => findRetrievalLayers(loaded, { ids: ids.slice(i * tokens, (i + 1) * tokens) }),
      );
      groups.push({ text: path.replace(/^.*\//, ""), textSha256: await sha256(whole), probes });
    }
  }
  const found = { version: await readVersion(), model: name, modelSha256: loaded.sha256, groups };
  const round = (_: string, value: unknown) =>
    typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value;
  await writeWhole(
    fileURLToPath(new URL("results/probes.json", import.meta.url)),
    `${JSON.stringify(found, round)}\n`,
  );
}
