/** Python's regular expressions, as far as YAML of lm-evaluation-harness has them, in JavaScript. */

/** Escapes of letters and digits with one meaning in both; \d and \w are Unicode's in Python. */
const ESCAPES: { readonly [letter: string]: string } = {
  ...{ d: "\\p{Nd}", D: "\\P{Nd}", A: "(?<![^])", Z: "(?![^])" },
  ...Object.fromEntries([..."sSbBnrtfv123456789"].map((letter) => [letter, `\\${letter}`])),
};

/**
 * Compiles a pattern; its flags may stand at its beginning.
 *
 * @param source As Python's `re` reads it.
 * @throws {RangeError} If JavaScript has no such pattern.
 */
export function compilePython(source: string): RegExp {
  const [whole, given = ""] = source.match(/^\(\?([ims]+)\)/) ?? [""];
  let pattern = "", isInClass = false;
  const rest = source.slice(whole.length),
    refuse = (what: string) =>
      new RangeError(
        `found ${what} in the pattern ${JSON.stringify(source)}, expected what JavaScript has too`,
      );
  for (let i = 0; i < rest.length; i++) {
    const char = rest[i]!, next = rest[i + 1];
    if (char === "\\" && next !== undefined) {
      i++;
      if (next === "w" || next === "W") {
        if (isInClass && next === "W") throw refuse("\\W in a class");
        pattern += isInClass ? "\\p{L}\\p{N}_" : `[${next === "W" ? "^" : ""}\\p{L}\\p{N}_]`;
      } else if (!/[a-z0-9]/i.test(next)) pattern += `\\u{${next.codePointAt(0)!.toString(16)}}`;
      else if (Object.hasOwn(ESCAPES, next) && !(isInClass && "AZbB".includes(next))) {
        pattern += ESCAPES[next];
      } else throw refuse(`\\${next}`);
    } else if (isInClass) {
      isInClass = char !== "]";
      // In a class of Python, these are themselves.
      pattern += "[(){}/|".includes(char) ? `\\${char}` : char;
    } else {
      isInClass = char === "[";
      pattern += char === "(" && rest.startsWith("?P<", i + 1) ? (i += 2, "(?") : char;
    }
  }
  try {
    return new RegExp(pattern, `gu${given}`);
  } catch (error) {
    throw refuse((error as Error).message.replace(/^Invalid regular expression: /, ""));
  }
}

/** What `re.findall` gives: of each match its text, or its group, or all its groups where there are several. */
export function findAll(pattern: RegExp, text: string): string[][] {
  return [...text.matchAll(pattern)].map(([whole, ...groups]) =>
    groups.length === 0 ? [whole] : groups.map((group) => group ?? "")
  );
}
