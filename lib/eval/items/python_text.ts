/** White space as Python's texts have it, which the harness's prompts are cut by: JavaScript's has U+FEFF too, and no U+0085. */

/** Its characters, for a class of a pattern. */
export const PYTHON_SPACE = String
  .raw`\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000`;
const START = new RegExp(`^[${PYTHON_SPACE}]+`),
  END = new RegExp(`(?<![${PYTHON_SPACE}])[${PYTHON_SPACE}]+$`);

/** A text without the white space at its end, as `str.rstrip()`. */
export const stripEnd = (text: string): string => text.replace(END, "");

/** A text without the white space at both ends, as `str.strip()`. */
export const strip = (text: string): string => stripEnd(text.replace(START, ""));
