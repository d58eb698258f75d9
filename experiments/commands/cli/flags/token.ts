/** The token that requests to a server must have. */
import { timingSafeEqual } from "node:crypto";
import { UsageError } from "../../../../lib/errors.ts";
import { readText } from "../files.ts";

export const LOCALHOST = "127.0.0.1";

/** Names by which this machine reaches itself: another machine cannot point them to it. */
export const OWN_NAMES: ReadonlySet<string> = new Set([LOCALHOST, "localhost", "[::1]"]);

/** Addresses that only this machine reaches. */
const LOOPBACK = /^(127\.\d+\.\d+\.\d+|localhost|::1)$/;

/** The token of a file, else of TOKENFILTER_TOKEN. @throws {UsageError} If an address of others needs one, or it is none. */
export async function readToken(path: string | undefined, host: string): Promise<string | undefined> {
  const token = path === undefined ? Deno.env.get("TOKENFILTER_TOKEN") : (await readText(path)).trim();
  if (token !== undefined && !/^[\x21-\x7e]{8,}$/.test(token)) {
    throw new UsageError("Cannot use the token: expected at least 8 printable characters without spaces");
  }
  if (token === undefined && !LOOPBACK.test(host)) {
    throw new UsageError(
      `Cannot serve on ${host} without a token: expected --token-file FILE or TOKENFILTER_TOKEN, or --host ${LOCALHOST}`,
    );
  }
  return token;
}

/** Whether a secret is the expected one. The time of the comparison does not depend on where they differ. */
export function sameSecret(given: string, wanted: string): boolean {
  const utf8 = new TextEncoder(), [own, other] = [utf8.encode(given), utf8.encode(wanted)];
  return own.length === other.length && timingSafeEqual(own, other);
}
