/** Texts of strangers (names in files, studies and queues) that do nothing to a terminal. */

/** Control characters but line ends and tabs, and marks that turn the direction of the text behind them. */
const ACTIVE = /[^\P{Cc}\n\t]|[\u202a-\u202e\u2066-\u2069]/gu;

/** Line ends of all kinds, and tabs. */
const BREAKS = /[\n\t\u2028\u2029]/g;

const escape = (char: string) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;

/**
 * Escapes control characters of a text, except line ends and tabs, and marks of direction. Otherwise a name could change a
 * colour, move the cursor, or show another order than it has. JSON keeps its meaning.
 */
export function escapeControls(text: string): string {
  return text.replaceAll(ACTIVE, escape);
}

/** The same of a text that is one line or one cell: line ends and tabs too. */
export function escapeLine(text: string): string {
  return escapeControls(text).replaceAll(BREAKS, escape);
}
