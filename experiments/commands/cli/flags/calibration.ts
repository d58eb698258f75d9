/** The text that offline methods are fitted on: `--calibration FILE`. */
import { UsageError } from "../../../../lib/errors.ts";
import { type Calibration, setCalibration } from "../../../../lib/methods/protocol/calibration.ts";
import type { ModelFile } from "../../../../lib/model/open.ts";
import { DEFAULT_CONTEXT } from "../../../../lib/eval/chunks/chunks.ts";
import { sha256 } from "../../../../lib/sha256.ts";
import { CALIBRATION_TOKENS } from "./flags.ts";
import { readText } from "../files.ts";
import { endFitIfInterrupted } from "../run/interrupt.ts";
import { type FlagValues, textOf } from "./parse.ts";
import { readCount } from "./text.ts";

const DOMAINS: { readonly [name: string]: Calibration["domain"] } = { same: "same domain", other: "other" };

/** A calibration text that no tokenizer has encoded yet. */
interface PlannedCalibration extends Calibration {
  readonly text: string;
  readonly tokens: number;
}

let planned: PlannedCalibration | undefined;

/**
 * Reads `--calibration` and the flags that describe its text. Without the flag, methods that need a calibration text
 * are refused from then on.
 *
 * @param given The text, where it is no file of `--calibration`.
 * @throws {UsageError} If the file cannot be read, or its label is missing or none.
 */
export async function takeCalibration(values: FlagValues, given?: string): Promise<void> {
  planned = undefined;
  setCalibration(undefined);
  const path = textOf(values, "calibration");
  const label = textOf(values, "calibration-domain");
  const tokens = readCount(values, "calibration-tokens", 2) ?? CALIBRATION_TOKENS;
  if (path === undefined) {
    const alone = ["calibration-domain", "calibration-tokens"].find((name) => values.has(name));
    if (alone === undefined) return;
    throw new UsageError(`Cannot use --${alone} without a calibration text: expected --calibration FILE`);
  }
  const domain = label === undefined || !Object.hasOwn(DOMAINS, label) ? undefined : DOMAINS[label]!;
  if (domain === undefined) {
    const found = label === undefined ? "no --calibration-domain" : `--calibration-domain ${label}`;
    throw new UsageError(
      `Cannot label the text of --calibration: found ${found}, expected same (of the evaluated text's kind) or other`,
    );
  }
  const text = given ?? await readText(path);
  planned = { text, tokens, domain, sha256: await sha256(text), chunks: [] };
  setCalibration(planned);
}

/** The text of `--calibration` in a model's tokens. @throws {UsageError} If it has fewer than two. */
export function encodeCalibration({ tokenizer }: Pick<ModelFile, "tokenizer">): void {
  if (planned === undefined) return;
  const { text, tokens, domain, sha256 } = planned;
  const ids = tokenizer.encode(text, { bos: tokenizer.addsBos }).slice(0, tokens);
  if (ids.length < 2) {
    throw new UsageError(
      `Cannot use the text of --calibration: found ${ids.length} tokens, expected at least 2`,
    );
  }
  const chunks = Array.from(
    { length: Math.max(1, Math.floor(ids.length / DEFAULT_CONTEXT)) },
    (_, i) => ids.slice(i * DEFAULT_CONTEXT, (i + 1) * DEFAULT_CONTEXT),
  );
  setCalibration({ domain, sha256, chunks, onStep: endFitIfInterrupted });
}
