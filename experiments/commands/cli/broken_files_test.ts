/** Chat templates and Parquet files that are broken at random: each loads, or is refused in one line. */
import { assert } from "@std/assert";
import { parquetReadObjects } from "hyparquet";
import { UsageError } from "../../../lib/errors.ts";
import { breakBytes, fuzz, type Kind, type Random } from "../../../lib/model/formats/fuzz_testing.ts";
import { renderChat } from "../../../lib/model/mod.ts";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import chats from "../../../lib/model/tokenizer/testdata/chat_golden.json" with { type: "json" };
import { readParquet } from "./parquet.ts";

const HUB = new URL("../eval/testdata/hub/", import.meta.url);
const encoder = new TextEncoder(), decoder = new TextDecoder();

/** All files below a folder whose names end so. */
function listFiles(folder: URL, ending: string): URL[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
    isDirectory
      ? listFiles(new URL(`${name}/`, folder), ending)
      : name.endsWith(ending)
      ? [new URL(name, folder)]
      : []
  );
}

const NUMBERS = [-1, 0, 1, 7, 1000, 100_000, 10_000_000, 1e11, 2 ** 53];

/** Parts of a template that take long, or much memory: N is a number, T a text. */
const PARTS = [
  "{% for i in range(N) %}T{% endfor %}",
  "{% for i in range(N) %}{% for j in range(N) %}{% endfor %}{% endfor %}",
  "{% for message in messages %}{% for m in messages[::-1] %}{{ m.content }}{% endfor %}{% endfor %}",
  "{% set ns = namespace(a=T, b=[N]) %}",
  "{% set ns.a = ns.a ~ ns.a %}",
  "{% set ns.b = ns.b + ns.b %}",
  "{% set ns.b = [ns.b, ns.b] %}",
  "{% set ns.b = ns %}",
  "{{ ns.a }}{{ ns.b | tojson(indent=N) }}",
  "{{ ns.a | indent(N) }}{{ ns.b | join(ns.a) }}",
  "{{ ns.a.replace('a', ns.a) }}{{ ns.a | replace(T, ns.a) }}",
  "{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) }}{% endmacro %}{{ f(N) }}",
  "{{ messages | map(attribute='content') | list | sort | join(T) }}",
  "{{ ns.a.split(T) | length }}{{ (ns.a * N) | upper }}",
];

/** A template with parts put in, repeated or taken out; or with bytes broken. */
function breakTemplate(bytes: Uint8Array<ArrayBuffer>, random: Random): Uint8Array<ArrayBuffer> {
  if (random(3) === 0) return breakBytes(bytes, random);
  const pieces = decoder.decode(bytes).split(/(?<=%}|}})/);
  for (let n = 1 + random(6); n > 0; n--) {
    const part = PARTS[random(PARTS.length)]!.replaceAll("N", () => String(NUMBERS[random(NUMBERS.length)]))
      .replaceAll("T", () => `'${"a\\n".repeat(random(40))}'`);
    pieces.splice(random(pieces.length + 1), random(2), ...Array(1 + random(2) * random(40)).fill(part));
  }
  return encoder.encode(pieces.join(""));
}

const MESSAGES = ["user", "assistant", "user"].map((role, i) => ({
  role,
  content: `Line ${i}.\n`.repeat(50),
}));

const KINDS: { readonly [name: string]: Kind } = {
  "chat template": {
    files: chats.chats.map(({ template }) => encoder.encode(template)),
    breaks: breakTemplate,
    read(bytes) {
      const tokenizer = { chatTemplate: decoder.decode(bytes), bosId: 1, eosId: 2, piece: () => "<s>" };
      renderChat(tokenizer, MESSAGES);
    },
    refuses: (error) => error instanceof UsageError && !error.message.includes("\n"),
  },
  parquet: {
    files: listFiles(HUB, ".parquet").map((url) => Deno.readFileSync(url)),
    read: async (bytes) => void await readParquet(bytes, parquetReadObjects),
    // Only its own class: other errors are JavaScript's own.
    refuses: (error) =>
      error instanceof Error && error.constructor === Error && !error.message.includes("\n"),
  },
};

Deno.test("no failure in a broken Parquet file is left to itself", async () => {
  // The 16th of these makes hyparquet fail in a column that it has begun, and then in the next one's place in the schema.
  assert((await fuzz("parquet", 20, 5, KINDS.parquet)).refused > 10);
});

for (const kind of ["chat template", "parquet"]) {
  Deno.test({
    ...unless(
      IN_SLOW_TIER,
      `broken files are read or refused in one line, in little time and memory: ${kind}`,
    ),
    async fn() {
      const { files, refused } = await fuzz(kind, 600, 1, KINDS[kind]);
      assert(refused > files / 10 && refused < files, `${refused} of ${files} refused`);
    },
  });
}
