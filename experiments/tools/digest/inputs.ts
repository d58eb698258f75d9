/** Files that the runs read. Each digest writes them again, the same on every machine. */
import { writeSafetensors } from "../../../lib/model/mod.ts";

/** A text of many kinds of characters, about 110 tokens of `tiny`. */
const TEXT =
  `It was a quiet morning, and the old captain walked slowly down to the harbour. "The wind," he said, "will turn before
noon." Nobody answered (all 7 of them looked at the water), and then came the sound of a bell: once, twice. The captain
smiled. "Café Zoë is open," he said - "and we shall have our coffee first."\n`;

/** Numbers in [-1, 1) from a linear congruential generator. */
function* noise(seed: number): Generator<number> {
  for (let state = seed >>> 0;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 31 - 1;
  }
}

/** Keys and values of 60 tokens and 3 heads of 8: a slow walk with jumps, so that scores differ. */
function dump(dtype: "f32" | "bf16"): Uint8Array {
  const shape = [60, 3, 8], size = 60 * 3 * 8, random = noise(7);
  const next = () => random.next().value as number;
  const walk = () => {
    const data = new Float32Array(size);
    for (let t = 0; t < 60; t++) {
      for (let i = 0; i < 24; i++) {
        const before = t === 0 || t % 11 === 0 ? next() : data[(t - 1) * 24 + i]!;
        data[t * 24 + i] = 0.8 * before + 0.4 * next();
      }
    }
    return data;
  };
  const upper = (data: Float32Array) => new Uint16Array(data.buffer).filter((_, i) => i % 2 === 1);
  const tensor = () => ({ dtype, shape, data: dtype === "f32" ? walk() : upper(walk()) });
  const tensors = new Map([["keys", tensor()], ["values", tensor()]]);
  return writeSafetensors(tensors as Parameters<typeof writeSafetensors>[0]);
}

/** Writes all inputs to a folder. */
export function writeInputs(folder: string): void {
  const text = (name: string, content: string) => Deno.writeTextFileSync(`${folder}/${name}`, content);
  const json = (name: string, content: unknown) => text(name, JSON.stringify(content));
  text("text.txt", TEXT);
  text("short.txt", "Too short.");
  text("empty.txt", "");
  Deno.writeFileSync(`${folder}/latin.txt`, Uint8Array.of(0x66, 0xfc, 0x72));
  json("ids.json", Array.from({ length: 48 }, (_, i) => i === 0 ? 1 : 300 + (i * 37 + i * i) % 900));
  json("one.json", [1]);
  json("words.json", ["a"]);
  json("high.json", [1, 4096]);
  text("broken.json", "{");
  json("ratios.json", [0, 0, 0.25, 0.75, 0.5, 0.5, 0.5, 0.5, 0.25, 0.75]);
  json("two_ratios.json", [0, 0.5]);
  json("grid.json", [{ fusion: ["mean", "key"], "prune-ratio": [0.25] }, { preset: "paper", tau: [0.5, 4] }]);
  json("wrong_grid.json", { gama: [1] });
  Deno.writeFileSync(`${folder}/dump.safetensors`, dump("f32"));
  Deno.writeFileSync(`${folder}/bf16.safetensors`, dump("bf16"));
  text("model.gguf", "GGUF");
  Deno.mkdirSync(`${folder}/nothing`);
  Deno.mkdirSync(`${folder}/used`);
  text("used/study.db", "");
}
