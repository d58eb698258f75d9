/** Variable tracking: which variables hold a value that is handed on from one to the next. */
import { defineSoughtTask, type Draw, type GeneratedTask, NOISE } from "../items/generated_task.ts";

/** Variables that a value is handed on to, after the first. */
const HOPS = 4;
const EXAMPLE_PIECES = 5;
/** With fewer tokens there is no room for one. */
const SHORT = 1024;

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** Different names with the given number of letters. */
function drawNames(count: number, letters: number, draw: Draw): string[] {
  const names = new Set<string>();
  while (names.size < count) {
    names.add(Array.from({ length: letters }, () => LETTERS[draw(LETTERS.length)]).join(""));
  }
  return [...names];
}

/** A question, up to its answer, and the names that are the answer. */
function ask(pieces: number, letters: number, draw: Draw) {
  const names = drawNames(HOPS + 1, letters, draw), value = 10_000 + draw(89_999);
  const places = names.map(() => draw(1000) / 1000).sort((a, b) => a - b);
  const lines = Array<string>(pieces).fill(NOISE);
  names.forEach((name, i) => {
    const line = i === 0 ? `VAR ${name} = ${value}` : `VAR ${name} = VAR ${names[i - 1]}`;
    lines.splice(Math.floor(places[i]! * (pieces + 1)) + i, 0, line);
  });
  const text =
    `Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n${
      lines.join("\n")
    }\n` +
    `Question: Find all variables that are assigned the value ${value} in the text above. Answer: According to the ` +
    `chain(s) of variable assignment in the text above, ${names.length} variables are assgined the value ${value}, they are:`;
  return { text, names };
}

/** RULER's variable tracking: one chain of four hops, after one example with short names. */
export const variableTracking: GeneratedTask = defineSoughtTask({
  name: "variable_tracking",
  help: "all variables that receive a value in a chain through a long text",
  says:
    "RULER's variable tracking: one chain of four hops in its repeated noise, its words to the letter, after one example " +
    "with names of three letters (not below 1,024 tokens)",
  least: 1,
  maxTokens: 30,
  make({ pieces, draw, tokens }) {
    const example = ask(EXAMPLE_PIECES, 3, draw), { text, names } = ask(pieces, 5, draw);
    const before = tokens < SHORT ? "" : `${example.text} ${example.names.join(" ")}\n\n`;
    return { context: `${before}${text}`, answers: names };
  },
});
