/** Files that command lines of the golden tests read: `TMP/` in an argument stands for their folder. */
import { writeSafetensors } from "../../../lib/model/mod.ts";
import { hostTensor } from "../../../lib/tensor.ts";

/** A text of many kinds of characters, 97 tokens of `tiny`. */
const TEXT =
  `It was a quiet morning, and the old captain walked slowly down to the harbour. "The wind," he said, "will turn before
noon." Nobody answered (all 7 of them looked at the water), and then came the sound of a bell: once, twice. The captain
smiled. "Café Zoë is open," he said - "and we shall have our coffee first."\n`;

/** Numbers in [-1, 1) from a linear congruential generator. */
function createNoise(seed: number): () => number {
  let state = seed;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
}

/** Keys and values of 60 tokens and 3 heads of 8: a slow walk with jumps, so that scores differ. */
function createDump(dtype: "f32" | "bf16"): Uint8Array {
  const shape = [60, 3, 8], next = createNoise(7);
  const walk = () => {
    const data = new Float32Array(60 * 24);
    for (let i = 0; i < data.length; i++) {
      const token = Math.floor(i / 24), before = token % 11 === 0 ? next() : data[i - 24]!;
      data[i] = 0.8 * before + 0.4 * next();
    }
    return data;
  };
  const upper = (data: Float32Array<ArrayBuffer>) =>
    new Uint16Array(data.buffer).filter((_, i) => i % 2 === 1);
  const tensor = () =>
    dtype === "f32" ? hostTensor("f32", shape, walk()) : hostTensor("bf16", shape, upper(walk()));
  return writeSafetensors(new Map([["keys", tensor()], ["values", tensor()]]));
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
  json("float.json", [1, 2.5]);
  json("minus.json", [1, -2]);
  json("words.json", ["a"]);
  json("high.json", [1, 4096]);
  text("broken.json", "{");
  json("ratios.json", [0, 0, 0.25, 0.75, 0.5, 0.5, 0.5, 0.5, 0.25, 0.75]);
  json("two_ratios.json", [0, 0.5]);
  json("grid.json", [{ fusion: ["mean", "key"], "prune-ratio": [0.25] }, { preset: "paper", tau: [0.5, 4] }]);
  json("wrong_grid.json", { gama: [1] });
  json("wordy_grid.json", { tau: ["a"] });
  json("space.json", { fusion: ["variance", "key"], "prune-ratio": { low: 0.3, high: 0.6 } });
  Deno.writeFileSync(`${folder}/dump.safetensors`, createDump("f32"));
  Deno.writeFileSync(`${folder}/bf16.safetensors`, createDump("bf16"));
  text("model.gguf", "GGUF");
  Deno.mkdirSync(`${folder}/nothing`);
  Deno.mkdirSync(`${folder}/used`);
  text("used/study.db", "");
}
