/** Digests that identify runs and trials. */
import { createHash } from "node:crypto";
import { effectiveKey, type ResolvedOptions } from "../../methods/bind/options.ts";
import { sha256 } from "../../sha256.ts";

/** Digest of the conditions: runs with the same one may be compared. */
export function digestConditions(conditions: object): Promise<string> {
  return sha256(JSON.stringify(Object.entries(conditions).sort(([a], [b]) => a < b ? -1 : 1)));
}

/** Short digest of the options that have an effect. */
export function digestTrialOptions(method: ResolvedOptions): string {
  return createHash("sha256").update(effectiveKey(method)).digest("hex").slice(0, 12);
}
