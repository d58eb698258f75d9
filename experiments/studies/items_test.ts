/** Tests how the studies' item files are made; their digests are those of the recipes. */
import { fileURLToPath } from "node:url";
import { assertEquals, assertMatch } from "@std/assert";
import { exists } from "../commands/cli/files.ts";
import { unless } from "../../lib/testing.ts";
import { withFolder } from "../commands/testing.ts";
import { lackOfPython, python } from "../tools/testing_python.ts";

const SCRIPT = fileURLToPath(new URL("items.py", import.meta.url));

function run(...args: string[]): { code: number; lines: string[] } {
  const { code, stderr } = new Deno.Command(python, { args: ["-B", ...args] }).outputSync();
  return { code, lines: new TextDecoder().decode(stderr).trimEnd().split("\n") };
}

/** ARC items as in the source: the answer is a label, and choices have more fields. */
const arc = (id: string, stem: string) =>
  JSON.stringify({
    ...{ id, answerKey: "2" },
    question: {
      stem,
      choices: [{ text: "no", label: "1", para: "" }, { text: "yes", label: "2", para: "" }],
    },
  }) + "\n";

Deno.test({
  ...unless(lackOfPython([]), "items are made from their sources, each once, with the answer's number"),
  fn: () =>
    withFolder(async (folder) => {
      const place = `${folder}/GenMC/data/arc_easy/official`;
      await Deno.mkdir(place, { recursive: true });
      await Deno.writeTextFile(
        `${place}/test.jsonl`,
        ["a", "b", "c", "d"].map((id) => arc(id, `Is it ${id === "d" ? "a" : id}?`)).join(""),
      );
      const code = [
        "import json, sys; sys.path.insert(0, sys.argv[1]); import items",
        "print(''.join(items.shuffle(items.TASKS['arc_easy']('arc_easy', sys.argv[2]))), file=sys.stderr, end='')",
      ].join("\n");
      const { lines } = run("-c", code, SCRIPT.replace(/\/[^/]*$/, ""), folder);
      const found = lines.map((line) => JSON.parse(line));
      assertEquals(
        found.toSorted((a, b) => a.id < b.id ? -1 : 1),
        ["a", "b", "c"].map((id) => ({
          ...{ id: `arc_easy-${id}`, query: `Is it ${id}?`, choices: ["no", "yes"], gold: 1 },
        })),
      );
    }),
});

Deno.test({
  ...unless(
    lackOfPython([]),
    "items: a wrong call, and a source that is missing or of other contents, are refused in one line, nothing is written",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const data = `${folder}/data`;
      for (
        const [args, expected] of [
          [[], /^Cannot make the items: expected SOURCES DATA \[COUNT\]/],
          [[folder, data, "0"], /a positive number of items$/],
          [[folder, data], /^Cannot read "GenMC\/.*: .*; expected nju-websoft\/GenMC at eada4b06 in /],
        ] as const
      ) {
        const { code, lines } = run(SCRIPT, ...args);
        assertEquals([code, lines.length], [2, 1]);
        assertMatch(lines[0]!, expected);
      }
      const place = `${folder}/GenMC/data/arc_easy/official`;
      await Deno.mkdir(place, { recursive: true });
      await Deno.writeTextFile(`${place}/test.jsonl`, arc("a", "Is it?"));
      const { code, lines } = run(SCRIPT, folder, data);
      assertEquals([code, lines.length, exists(data)], [2, 1, false]);
      assertMatch(
        lines[0]!,
        /^Cannot use the source of arc_easy: found SHA-256 \w{64} of its 400 items, expected 0714/,
      );
    }),
});
