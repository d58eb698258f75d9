/**
 * 50 kB of text that tokenizers find hard, the same on every machine: prose, digits, emoji, CJK and other scripts,
 * code, runs of spaces and newlines, combining marks, unusual white space, and what looks like special tokens.
 */
const PARTS = [
  "It was the best of times, it was the worst of times; we'd said \"don't\" -- and they'll say we've gone.",
  "THE QUICK BROWN FOX'S jumps OVER I'M you'RE dogs. e.g. U.S.A. co-operate naïve café",
  "0123456789 1,234,567.89 3.14159 2^53-1 0xDEADBEEF 1e-5 12:34:56 2026-11-25 ½ Ⅷ ٣٤٥ ४५६ ① 10²",
  "😀 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ❤️ 🇩🇪🇯🇵 ☃︎ ♟️ 🫠",
  "今天天气很好，我们去公园吧。東京タワーは高いです。한국어도 있습니다! 「引用」【括弧】",
  "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم สวัสดีชาวโลก नमस्ते दुनिया ọ̀rọ̀",
  "function f(x) {\n  return x => x**2 + a[i++] !== null && !(b ?? c); // TODO\n}\n",
  'def main():\n    if x == 1:\n\t\tprint(f"{x!r:>10}\\n")\n    return {\'a\': [1, 2], "b": None}\n',
  '<div class="a b"><!-- x --></div> https://example.org/a?b=c&d=%20#e user@example.com C:\\dir\\file.txt',
  "<s> </s> <unk> <|im_start|>user\nhi<|im_end|>\n<|endoftext|> <0x0A> [INST] <<SYS>> ▁▁ Ġthe Ċ <pad>",
  "a\u0301e\u0308 n\u0303 \u200b\u200d\ufeff\u00ad x\u00a0y\u2003z\u2028w\u0085v\u3000u \u202e\u2066",
  "$100 €50 £7 ~tilde~ ^caret^ `tick` |pipe| +plus= <less> {brace} [bracket] _under_ *star* #hash @at %",
  "!!!??? ... …… —–- ''\"\"``“”‘’«» ¿¡ ©®™ ±×÷ ∀∃∈ℝ∑√∞ ←→ ░▒▓ ♪♫",
  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbb hahahahaha antidisestablishmentarianism Donaudampfschifffahrt",
  "\u0000\u0001\u0007\u001b[31mred\u001b[0m\u007f\u0080\u009f",
  "\u{10ffff}\u{e000}\u{1d49c}\u{20000}\u{2a6d6}\u{1f9ff}\u{e0041}",
];
const GAPS = [
  " ",
  " ",
  " ",
  "  ",
  "   ",
  "       ",
  "\n",
  "\n\n",
  "\n\n\n\n",
  "\r\n",
  "\t",
  " \n ",
  "\n    ",
  "",
  "",
];

/** A linear congruential generator modulo 2^32: the next number, and an integer below n from its top bits. */
function createRandom(seed) {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * n);
  };
}

/** The text: whole parts, single words of them, and single characters, with gaps between. */
export function mixedText(bytes = 50_000, seed = 2) {
  const random = createRandom(seed);
  const pick = (list) => list[random(list.length)];
  const words = PARTS.flatMap((part) => part.split(" "));
  const characters = PARTS.flatMap((part) => [...part]);
  const utf8 = new TextEncoder();
  let text = "", size = 0;
  while (size < bytes) {
    const kind = random(8);
    const piece = (kind === 0 ? pick(PARTS) : kind < 6 ? pick(words) : pick(characters)) + pick(GAPS);
    text += piece;
    size += utf8.encode(piece).length;
  }
  return text;
}

/** The beginnings of all parts, with every gap in turn: short, and something of everything. */
export function sampleText(characters = 32) {
  return PARTS.map((part, i) => [...part].slice(0, characters).join("") + GAPS[i % GAPS.length]).join("");
}

/** Special tokens of small vocabularies, and what is written like some. */
const TOKENS = ["<s>", "</s>", "<unk>", "<|im_end|>", "<|user|>", "<think>", "<|none|>", "<div", "hahaha"];

/** Short strings, each of a few words, characters, gaps and special tokens; the first are empty, gaps, and whole parts. */
export function mixedStrings(count = 200, seed = 3) {
  const random = createRandom(seed), pick = (list) => list[random(list.length)];
  const words = PARTS.flatMap((part) => part.split(" ")), characters = PARTS.flatMap((part) => [...part]);
  const first = ["", ...new Set(GAPS), ...TOKENS, ...PARTS];
  return Array.from({ length: count }, (_, i) => {
    if (i < first.length) return first[i];
    let text = "";
    for (let n = 1 + random(8); n > 0; n--) {
      text += pick([words, words, words, characters, TOKENS].map((list) => pick(list))) + pick(GAPS);
    }
    return text;
  });
}
