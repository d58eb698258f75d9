/** The text that evaluation reads when none is given. */

/**
 * The built-in text: about 3,200 words written for this project (narrative, dialogue, letter, description,
 * instructions, essay, journal, fable). Its form is that of the books that `tiny` was trained on: straight quotes, `--`
 * for a dash, one paragraph per line.
 *
 * @returns The whole text. It is read on call, and needs only read permission.
 * @throws {Error} If a server does not send it.
 */
export async function readBuiltinText(): Promise<string> {
  const url = new URL("./prose.txt", import.meta.url);
  const response = await fetch(url);
  if (!response.ok) {
    throw new Error(`Cannot read "${url}": found HTTP status ${response.status}, expected 200`);
  }
  return await response.text();
}
