/** Versions of a study's store, and the changes of its content from each to the next. */
import { type OptionsRecord, readRecord } from "../../methods/bind/options.ts";
import { digestTrialOptions } from "./digest.ts";
import { TABLES } from "./store_tables.ts";

type Names = { readonly [old: string]: string };

/** The changes of one version. */
interface Migration {
  /** Renamed fields and options, of all that is kept. */
  readonly fields?: Names;
  readonly flags?: Names;
  /** Whether an option that is renamed decides something in a trial, whose digest then differs. */
  readonly redigests?: (options: OptionsRecord) => boolean;
}

/** The changes in order: the first leads from version 1 to 2. Each new version of {@linkcode TABLES} adds one. */
export const MIGRATIONS: readonly Migration[] = [
  {}, // 2 adds digests; the content is the same
  {
    fields: { looksAhead: "nonCausal", wholeShare: "wholeFraction" },
    flags: { products: "matmul" },
    redigests: ({ whole = "none" }) => whole !== "none",
  },
];

/** Why a store of another version does not open, and the fix. */
export function explainVersion(version: number): string {
  const isOlder = version >= 1 && version < TABLES.version;
  return `found a store of version ${version}, expected ${TABLES.version} (${
    isOlder
      ? "deno task study repair writes a study of this version"
      : "open it with the version of this project that made it"
  })`;
}

function rename<T>(value: T, names: Names): T {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => rename(item, names)) as T;
  return Object.fromEntries(
    Object.entries(value).map(([name, own]) => [names[name] ?? name, rename(own, names)]),
  ) as T;
}

const since = (version: number) => MIGRATIONS.slice(version - 1);

/** Content of a store of a version, as the present version has it. @param place Its table, or its setting's key. */
export function migrate<T>(version: number, place: string, content: T): T {
  return since(version).reduce(
    (value, { fields = {}, flags = {} }) => rename(value, place === "flags" ? flags : fields),
    content,
  );
}

/** The present digest of a trial of a store of a version. @param options Migrated ones. */
export function migrateDigest(version: number, digest: string, options: OptionsRecord): string {
  const isOther = since(version).some(({ redigests }) => redigests?.(options));
  return isOther ? digestTrialOptions(readRecord(options)) : digest;
}
