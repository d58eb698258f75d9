/** Special tokens in texts, conversations, and SentencePiece's files, against the Python packages that people use. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Template } from "@huggingface/jinja";
import { createHash } from "node:crypto";
import { ModelFormatError, UsageError } from "../../errors.ts";
import { diskFolder } from "../formats/_disk.ts";
import { NO_SETTINGS, readTokenizerSettings } from "./_tokenizer_settings.ts";
import { renderTemplate } from "./_chat_template.ts";
import { encodeChat, renderChat } from "./chat.ts";
import { parseGguf } from "../formats/gguf.ts";
import golden from "./testdata/chat_golden.json" with { type: "json" };
import { buildGguf } from "../testdata/gguf_builder.ts";
import hfGolden from "./testdata/hf_tokenizer_golden.json" with { type: "json" };
import { mixedText, sampleText } from "./testdata/mixed_text.mjs";
import { smallLlamaParts } from "../testdata/small_llama.ts";
import { readVocabulary } from "../testdata/vocabularies.ts";
import { Tokenizer } from "./tokenizer.ts";

const hf = (name: keyof typeof hfGolden.cases, settings = NO_SETTINGS) =>
  Tokenizer.fromHf("tokenizer.json", JSON.stringify(hfGolden.cases[name].json), settings);

for (const [name, lists] of Object.entries(golden.special)) {
  Deno.test(`${name}: Tokenizer.encode() takes special tokens in a text as tokenizers does, where asked`, () => {
    const tokenizer = hf(name as keyof typeof hfGolden.cases);
    golden.texts.forEach((text, i) => {
      assertEquals([...tokenizer.encode(text, { bos: false, special: true })], lists[i]);
    });
    assert(tokenizer.encode(golden.texts[0]!, { bos: false }).length > lists[0]!.length, "else characters");
  });
}

Deno.test("Tokenizer.encode() never puts two BOS, and takes one that is written for a token where asked", async () => {
  const tiny = Tokenizer.fromGguf(await readVocabulary("tiny")),
    words = [...tiny.encode("It", { bos: false })];
  assertEquals([...tiny.encode("<s>It", { special: true })], [1, ...words]);
  assertEquals([...tiny.encode("<s>It</s> It", { bos: false, special: true })], [
    ...[1, ...words, 2],
    ...tiny.encode(" It", { bos: false }),
  ]);
  assertEquals([...tiny.encode("It", { special: true })], [1, ...words]);
  assertEquals([...hf("llama-3").encode("<s>Hi", { special: true })].filter((id) => id === 1), [1]);
  const smollm = Tokenizer.fromGguf(await readVocabulary("smollm"));
  assertEquals([...smollm.encode("<|im_start|>user\nHi<|im_end|>", { special: true })], [
    1,
    ...smollm.encode("user\nHi"),
    2,
  ]);
  const asked = hf("qwen2", { ...NO_SETTINGS, addsBos: true, bosToken: "<s>" });
  assertEquals([asked.addsBos, asked.encode("Hi")[0]], [true, 1]);
  const named = hf("qwen2", { ...NO_SETTINGS, bosToken: "<s>" });
  assertEquals([named.bosId, named.addsBos], [1, false]);
  assertEquals(hf("llama-3", { ...NO_SETTINGS, addsBos: false }).addsBos, false);
  assertEquals([tiny.eosId, [...tiny.endIds]], [2, [2]]);
  assertEquals([smollm.eosId, [...smollm.endIds].sort()], [2, [0, 2]]);
});

for (const { name, template, rendered } of golden.chats) {
  Deno.test(`renderChat() writes what transformers does, template ${name}`, () => {
    const tokenizer = hf("llama-3", { ...NO_SETTINGS, eosToken: "</s>", chatTemplate: template });
    rendered.forEach((want, i) => {
      const render = () => renderChat(tokenizer, golden.messages[i]!);
      if (want.text === undefined) assertThrows(render, UsageError, want.error!);
      else assertEquals(render(), want.text);
    });
    const ids = encodeChat(tokenizer, golden.messages[0]!), text = rendered[0]!.text!;
    assertEquals(ids.filter((id) => id === tokenizer.bosId).length, text.startsWith("<s>") ? 1 : 0);
    assertEquals([...ids], [...tokenizer.encode(text, { bos: false, special: true })]);
  });
}

Deno.test("renderChat() needs a template, and says where it breaks", () => {
  assertThrows(() => renderChat(hf("llama-3"), []), UsageError, "have no chat template");
  const broken = hf("llama-3", { ...NO_SETTINGS, chatTemplate: "{% for %}" });
  assertThrows(
    () => renderChat(broken, []),
    UsageError,
    "Cannot write these messages by the model's chat template",
  );
  const template = ["tokenizer.chat_template", "string", "{{ messages[0].content }}!"] as const;
  const gguf = Tokenizer.fromGguf(
    parseGguf(buildGguf(smallLlamaParts({ [template[0]]: [...template] })), "m.gguf"),
  );
  assertEquals(renderChat(gguf, [{ role: "user", content: "Hi" }]), "Hi!");
});

/** Templates that would take hours, gigabytes, or stop the process. */
const HOSTILE = {
  "a long loop": "{% for i in range(30000000) %}{% endfor %}",
  "a range of no end": "{% set r = range %}{{ r(100000000000) | length }}",
  "nested loops": "{% for i in range(3000) %}{% for j in range(3000) %}{% endfor %}{% endfor %}",
  "calls of calls":
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
  "a text doubled": `{% set ns = namespace(t='a') %}${"{% set ns.t = ns.t ~ ns.t %}".repeat(40)}{{ ns.t }}`,
  "a list doubled": `{% set ns = namespace(t=[1]) %}${"{% set ns.t = ns.t + ns.t %}".repeat(40)}{{ ns.t }}`,
  "a list of itself twice": `{% set ns = namespace(t=[1]) %}${
    "{% set ns.t = [ns.t, ns.t] %}".repeat(60)
  }{{ ns.t | tojson }}`,
  "namespaces of themselves":
    Array.from({ length: 60 }, (_, i) => `{% set n${i} = namespace(a=1, b=1) %}`).join("") +
    Array.from({ length: 59 }, (_, i) => `{% set n${i + 1}.a = n${i} %}{% set n${i + 1}.b = n${i} %}`).join(
      "",
    ) +
    "{{ n59 | tojson }}",
  "a namespace in itself": "{% set n = namespace(a=1) %}{% set n.a = n %}{{ n | tojson }}",
  "a wide indent": "{{ 'a\nb' | indent(400000000) }}",
  "a wide indent of a block": "{% filter indent(400000000) %}a\nb\n{% endfilter %}",
  "wide JSON": "{{ [1, 2] | tojson(indent=400000000) }}",
  "long for short": `{% set a = '${"a".repeat(30_000)}' %}{{ a.replace('a', a) }}`,
  "long for short, by a computed name": `{% set a = '${
    "a".repeat(30_000)
  }' %}{{ a['rep' ~ 'lace']('a', a) }}`,
  "a long separator": `{% set a = '${"a".repeat(30_000)}' %}{{ range(20000) | join(a) }}`,
  "a long text": "{% for i in range(20000) %}0123456789012345678901234567890123456789{% endfor %}",
  "a long template": " ".repeat(300_000),
};

for (const [what, template] of Object.entries(HOSTILE)) {
  Deno.test(`renderChat() ends a template that takes too much: ${what}`, () => {
    const tokenizer = hf("llama-3", { ...NO_SETTINGS, chatTemplate: template });
    const error = assertThrows(() => renderChat(tokenizer, [{ role: "user", content: "Hi" }]), UsageError);
    assert(!error.message.includes("\n") && error.message.length < 300, error.message);
  });
}

Deno.test("renderChat() gives templates what the library's own rendering gives them", () => {
  const templates = [
    "{{ range(3) | list | tojson }} {{ range(1, 10, 3) | list | tojson }} {{ range(5, 0, -2) | list | tojson }}",
    "{{ range(0) | length }} {{ range(4, 2) | length }} {{ true }} {{ False }} {{ none is none }} {{ None }}",
    "{{ strftime_now('%Y-%m %%') }} {{ strftime_now('%d %B') }} {% set n = namespace(a=1) %}{% set n.a = 2 %}{{ n.a }}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{% break %}{% endfor %}{{ messages[-1:] | tojson }}",
  ];
  for (const source of templates) {
    const messages = [{ role: "user", content: "Hi" }], values = { messages };
    assertEquals(renderTemplate(source, values), new Template(source).render(values), source);
  }
  for (const source of ["{{ range(1, 2, 0) }}", "{{ raise_exception('No.') }}"]) {
    const { message } = assertThrows(() => new Template(source).render({}), Error);
    assertThrows(() => renderTemplate(source, { messages: [] }), Error, message);
  }
});

Deno.test("renderChat() has steps enough for a long conversation, and for a long text", () => {
  const template = golden.chats[0]!.template,
    tokenizer = hf("llama-3", { ...NO_SETTINGS, chatTemplate: template });
  const speakers = ["user", "assistant"];
  const many = Array.from(
    { length: 2001 },
    (_, i) => ({ role: speakers[i % 2]!, content: `${i} ${"word ".repeat(20)}` }),
  );
  assert(renderChat(tokenizer, many).includes("2000 word"));
  const long = [{ role: "user", content: "word ".repeat(400_000) }];
  assert(renderChat(tokenizer, long).length > 2_000_000);
  // A part of a large value that is looked up costs a step, and not as many as the value has parts.
  const looks =
    "{% for message in messages %}{{ messages[loop.index0].role }}{{ messages | length }}{% endfor %}";
  const looking = hf("llama-3", { ...NO_SETTINGS, chatTemplate: looks });
  assert(renderChat(looking, many).startsWith("user2001assistant2001"));
});

const models = golden.models.map((model) => ({ ...model, bytes: Uint8Array.fromBase64(model.model) }));
const text = mixedText(12_000).replaceAll("\u2581", "_"), sample = sampleText().replaceAll("\u2581", "_");

for (const { options, bytes, count, sha256, sample: want } of models) {
  Deno.test(`Tokenizer.fromSentencePiece() has SentencePiece's ids, ${JSON.stringify(options)}`, () => {
    const tokenizer = Tokenizer.fromSentencePiece("tokenizer.model", bytes);
    assertEquals([...tokenizer.encode(sample, { bos: false })], want);
    const ids = tokenizer.encode(text, { bos: false });
    assertEquals(ids.length, count);
    assertEquals(createHash("sha256").update(new Uint8Array(ids.buffer)).digest("hex"), sha256);
    assertEquals(tokenizer.decode(ids), text);
    assertEquals([tokenizer.bosId, tokenizer.eosId, tokenizer.addsBos], [1, 2, true]);
    const [end] = tokenizer.encode("<|im_end|>", { bos: false, special: true });
    assertEquals(new Set([2, end]), tokenizer.endIds);
    const settings = { ...NO_SETTINGS, addsBos: false, endIds: [5] };
    const other = Tokenizer.fromSentencePiece("tokenizer.model", bytes, settings);
    assertEquals([other.addsBos, other.endIds.has(5)], [false, true]);
  });
}

Deno.test("Tokenizer.fromSentencePiece() takes added tokens, and refuses what would change ids", () => {
  const { bytes } = models[0]!, size = Tokenizer.fromSentencePiece("m", bytes).vocabSize;
  const added = [{ id: 0, content: "<unk>", special: true }, {
    id: size,
    content: "<|user|>",
    special: true,
  }];
  const tokenizer = Tokenizer.fromSentencePiece("m", bytes, { ...NO_SETTINGS, added });
  assertEquals([...tokenizer.encode("<|user|>", { bos: false, special: true })], [size]);
  const far = { ...NO_SETTINGS, added: [{ id: size + 1, content: "x", special: false }] };
  const strips = { ...NO_SETTINGS, added: [{ id: size, content: "x", special: true, strips: true }] };
  assertThrows(
    () => Tokenizer.fromSentencePiece("m", bytes, strips),
    ModelFormatError,
    '"added_tokens_decoder"',
  );
  assertThrows(
    () => Tokenizer.fromSentencePiece("m", bytes, far),
    ModelFormatError,
    `expected ${size} first`,
  );

  // Later fields take the place of earlier ones, so that a message behind the file changes it.
  const changed = (message: number, write: (writer: BinaryWriter) => void) => {
    const writer = new BinaryWriter().tag(message, WireType.LengthDelimited).fork();
    write(writer);
    const more = writer.join().finish();
    return Uint8Array.from([...bytes, ...more]);
  };
  const cases: [Uint8Array, string][] = [
    [changed(2, (w) => w.tag(3, WireType.Varint).int32(1)), '"trainer_spec.model_type": found 1, expected 2'],
    [
      changed(2, (w) => w.tag(35, WireType.Varint).bool(false).tag(40, WireType.Varint).int32(1)),
      '"trainer_spec.unk_id": found 1',
    ],
    [changed(2, (w) => w.tag(24, WireType.Varint).bool(true)), "treat_whitespace_as_suffix"],
    [changed(3, (w) => w.tag(5, WireType.Varint).bool(false)), "escape_whitespaces"],
    [changed(3, (w) => w.tag(4, WireType.Varint).bool(true)), "remove_extra_whitespaces"],
    [
      changed(3, (w) => w.tag(2, WireType.LengthDelimited).bytes(Uint8Array.of(7, 0, 0, 0, 1))),
      '"bytes of normalizer_spec.precompiled_charsmap": found 5, expected 0',
    ],
    [
      changed(1, (w) => w.tag(1, WireType.LengthDelimited).string("<s>")),
      '"pieces": found "<s>" as token 1 and',
    ],
    [
      changed(1, (w) => w.tag(1, WireType.LengthDelimited).string("q~").tag(3, WireType.Varint).int32(9)),
      '"pieces": found type 9',
    ],
    [new Uint8Array(0), '"pieces": found none'],
    [bytes.subarray(0, bytes.length - 3), "found no SentencePiece model"],
    [Uint8Array.of(0xff, 0xff, 0xff), "found no SentencePiece model"],
  ];
  for (const [value, message] of cases) {
    assertThrows(() => Tokenizer.fromSentencePiece("m", value), ModelFormatError, message);
  }

  const noBytes = changed(2, (w) => w.tag(35, WireType.Varint).bool(false));
  const unknown = Tokenizer.fromSentencePiece("m", noBytes), space = unknown.encode(" ", { bos: false })[0];
  // A run of unknown characters is one token.
  assertEquals([...unknown.encode("\u2f00\u2f01 \u2f00", { bos: false })], [space, 0, space, 0]);
});

Deno.test("Tokenizer.fromSentencePiece() gives a tokenizer or a ModelFormatError, whatever the bytes", () => {
  const { bytes } = models[0]!;
  let state = 9, refused = 0;
  const random = (n: number) => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) % n;
  for (let trial = 0; trial < 300; trial++) {
    const copy = bytes.slice(0, random(4) === 0 ? random(bytes.length) : undefined);
    for (let i = 0; i < 1 + random(4); i++) copy[random(copy.length || 1)] = random(256);
    try {
      Tokenizer.fromSentencePiece("m", copy).encode("any text");
    } catch (error) {
      assert(error instanceof ModelFormatError, String(error));
      refused++;
    }
  }
  assert(refused > 50, `${refused}`);
});

Deno.test("readTokenizerSettings() reads a folder's files, and names a key that holds what it cannot", async () => {
  const folder = await Deno.makeTempDir();
  const write = (name: string, value: unknown) =>
    Deno.writeTextFile(`${folder}/${name}`, typeof value === "string" ? value : JSON.stringify(value));
  assertEquals(await readTokenizerSettings(diskFolder(folder)), NO_SETTINGS);
  await write("tokenizer_config.json", {
    add_bos_token: false,
    legacy: false,
    add_prefix_space: null,
    bos_token: { content: "<s>" },
    eos_token: "</s>",
    added_tokens_decoder: { 9: { content: "<x>", special: true }, 2: { content: "</s>", special: true } },
    chat_template: [{ name: "tool", template: "no" }, { name: "default", template: "yes" }],
  });
  await write("generation_config.json", { eos_token_id: [2, 9] });
  await write("added_tokens.json", { "<y>": 10 });
  assertEquals(await readTokenizerSettings(diskFolder(folder)), {
    addsBos: false,
    legacy: false,
    addsSpace: undefined,
    bosToken: "<s>",
    eosToken: "</s>",
    endIds: [2, 9],
    added: [
      { id: 2, content: "</s>", special: true },
      { id: 9, content: "<x>", special: true },
      { id: 10, content: "<y>", special: false },
    ],
    chatTemplate: "yes",
  });
  await write("chat_template.jinja", "first");
  assertEquals((await readTokenizerSettings(diskFolder(folder))).chatTemplate, "first");
  await Deno.remove(`${folder}/chat_template.jinja`);
  for (
    const [value, part] of [
      [{ add_bos_token: 1 }, '"add_bos_token": found 1'],
      [{ legacy: "no" }, '"legacy": found "no"'],
      [{ add_prefix_space: 0 }, '"add_prefix_space": found 0'],
      [{ chat_template: 3 }, '"chat_template": found 3'],
      [{ added_tokens_decoder: { 3: {} } }, '"added_tokens_decoder": found {}'],
      [{ added_tokens_decoder: { x: { content: "a" } } }, "expected whole numbers for ids"],
      ["[", "found no JSON text"],
    ] as const
  ) {
    await write("tokenizer_config.json", value);
    const error = await readTokenizerSettings(diskFolder(folder)).then(() => undefined, (error) => error);
    assert(error instanceof ModelFormatError && error.message.includes(part), String(error));
  }
  await Deno.remove(folder, { recursive: true });
});
