/** Files of models, broken at random: each must load, or be refused by a ModelFormatError, in little time and memory. */
import { ModelFormatError, UsageError } from "../../errors.ts";
import { ReferenceBackend } from "../../reference/mod.ts";
import type { ModelSource } from "../config/config_reader.ts";
import { expectFinite } from "../open.ts";
import { Model } from "../model.ts";
import { readModelConfig } from "../config/read_config.ts";
import { memoryBytes } from "./_byte_source.ts";
import { JsonKeys } from "./_keyed_file.ts";
import { parseGguf } from "./gguf.ts";
import { readIndex } from "./hf_folder.ts";
import { readSafetensors, writeSafetensors } from "./safetensors.ts";
import chats from "../tokenizer/testdata/chat_golden.json" with { type: "json" };
import { CHECKPOINTS, hfFolder } from "../testdata/checkpoints.ts";
import { buildGguf } from "../testdata/gguf_builder.ts";
import families from "../tokenizer/testdata/families_golden.json" with { type: "json" };
import pieces from "../tokenizer/testdata/sentencepiece_golden.json" with { type: "json" };
import tokenizers from "../tokenizer/testdata/hf_tokenizer_golden.json" with { type: "json" };
import { smallLlamaParts } from "../testdata/small_llama.ts";
import { tekkenAsHf } from "../tokenizer/_tekken.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { loadWeights } from "../load_weights.ts";

/** A whole number in [0, n). */
export type Random = (n: number) => number;

/** A kind of file: whole ones, and how one is read. */
export interface Kind {
  readonly files: readonly Uint8Array<ArrayBuffer>[];
  readonly isJson?: boolean;
  /** Breaks a file otherwise than byte by byte. */
  readonly breaks?: (bytes: Uint8Array<ArrayBuffer>, random: Random) => Uint8Array<ArrayBuffer>;
  readonly read: (bytes: Uint8Array<ArrayBuffer>, file: number) => void | Promise<void>;
  /** Whether an error refuses a file as it must; default: a ModelFormatError that names a byte or a key. */
  readonly refuses?: (error: unknown) => boolean;
}

/** Puts weights on a backend and tries them on a token. */
function tryModel(source: ModelSource): void {
  const config = readModelConfig(source),
    model = new Model(config, loadWeights(source, config), new ReferenceBackend());
  expectFinite({ name: "m", model }, Int32Array.of(0));
}

/** Whether it is the error of {@linkcode tryModel} about weights that a file may contain, and that are useless. */
const isNotFinite = (error: unknown) =>
  error instanceof UsageError && error.message.includes("expected finite numbers");

const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const NAMES = Object.keys(CHECKPOINTS) as (keyof typeof CHECKPOINTS)[];
const FOLDERS = NAMES.map((name) => hfFolder(name));

/** The kinds of files that a model comes in. */
export const KINDS: { readonly [name: string]: Kind } = {
  gguf: {
    files: [buildGguf(smallLlamaParts())],
    read(bytes) {
      const gguf = parseGguf(bytes, "m.gguf");
      tryModel(gguf);
      Tokenizer.fromGguf(gguf).encode("ab ab");
    },
    refuses: (error) => isPlaced(error) || isNotFinite(error),
  },
  safetensors: {
    files: FOLDERS.map(({ tensors }) => writeSafetensors(tensors)),
    read(bytes, file) {
      const { tensors } = readSafetensors(memoryBytes(bytes, "model.safetensors"));
      tryModel({ ...FOLDERS[file]!, tensors });
    },
    refuses: (error) => isPlaced(error) || isNotFinite(error),
  },
  config: {
    isJson: true,
    files: NAMES.map((name) => encode(CHECKPOINTS[name].config)),
    read(bytes, file) {
      const source = { ...FOLDERS[file]!, config: new JsonKeys("config.json", decode(bytes)) };
      loadWeights(source, readModelConfig(source));
    },
  },
  index: {
    isJson: true,
    files: [
      encode({
        metadata: { total_size: 9 },
        weight_map: {
          "a.weight": "model-00001-of-00002.safetensors",
          "b.weight": "model-00002-of-00002.safetensors",
        },
      }),
    ],
    read: (bytes) => void readIndex("model.safetensors.index.json", decode(bytes)),
  },
  tokenizer: {
    isJson: true,
    files: Object.values(tokenizers.cases).map(({ json }) => encode(json)),
    read: (bytes) => void Tokenizer.fromHf("tokenizer.json", decode(bytes)).encode("ab <s> 12"),
  },
  sentencepiece: {
    files: [...chats.models, pieces.llama].map(({ model }) => Uint8Array.fromBase64(model)),
    read: (bytes) => void Tokenizer.fromSentencePiece("tokenizer.model", bytes).encode("ab <s>  12 \u00bd"),
  },
  tekken: {
    isJson: true,
    files: [encode(families.tekken.json)],
    read: (bytes) => void Tokenizer.fromHf("t", tekkenAsHf("tekken.json", decode(bytes))).encode("ab <s> 12"),
  },
};

/** Numbers in [0, n) from a seed (xorshift32). */
export function createRandom(seed: number): Random {
  let state = Math.imul(seed, 2654435761) >>> 0 || 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state = (state ^ state << 5) >>> 0;
    return Math.floor(state / 2 ** 32 * n);
  };
}

/** Unexpected values. */
const ODD = [
  null,
  true,
  -1,
  0,
  0.5,
  1e308,
  2 ** 53,
  -(2 ** 31),
  "",
  "\u0000\n",
  "x".repeat(2000),
  [],
  {},
  [[[]]],
  [-1],
  { a: {} },
];

/** A JSON text with a value, chosen at random, replaced, removed or repeated. */
function breakJson(bytes: Uint8Array<ArrayBuffer>, random: Random): Uint8Array<ArrayBuffer> {
  const root = JSON.parse(decode(bytes));
  for (let n = 1 + random(2); n > 0; n--) {
    let at = root;
    for (;;) {
      const keys = Object.keys(at);
      if (keys.length === 0) break;
      const key = keys[random(keys.length)]!, inner = at[key];
      if (typeof inner === "object" && inner !== null && random(4) > 0) {
        at = inner;
        continue;
      }
      const how = random(6);
      if (how === 0) delete at[key];
      else if (how === 1) at[`${key}_`] = inner;
      else at[key] = structuredClone(ODD[random(ODD.length)]);
      break;
    }
  }
  return encode(root);
}

/** Bytes of which some are changed, put in, taken out, repeated or cut off. */
export function breakBytes(bytes: Uint8Array<ArrayBuffer>, random: Random): Uint8Array<ArrayBuffer> {
  let out = bytes.slice();
  for (let n = 1 + random(3); n > 0; n--) {
    const at = random(out.length + 1), size = 1 + random(16);
    const joined = (middle: Uint8Array, after: number) =>
      Uint8Array.from([...out.subarray(0, at), ...middle, ...out.subarray(after)]);
    switch (random(7)) {
      case 0:
        out = out.slice(0, at);
        break;
      case 1:
        out = joined(new Uint8Array(size).map(() => random(256)), at);
        break;
      case 2:
        out = joined(new Uint8Array(0), at + size);
        break;
      case 3:
        out = joined(out.subarray(at, at + size), at);
        break;
      case 4: // a 64-bit number of an extreme value
        out.set(new Uint8Array(Math.min(8, out.length - at)).fill(random(2) * 255), at);
        break;
      default:
        if (at < out.length) out[at] = random(4) > 0 ? out[at]! ^ 1 << random(8) : random(256);
    }
  }
  return out;
}

/** Whether an error is one line that names the broken file and the place in it. */
function isPlaced(error: unknown): boolean {
  if (!(error instanceof ModelFormatError) || error.message.includes("\n")) return false;
  return error.offset !== undefined || /: .*(".*"|JSON|tokens|SentencePiece)/.test(error.message);
}

/** Results of a run over broken files. */
export interface FuzzOutcome {
  readonly files: number;
  readonly refused: number;
  /** The longest time that one took, in milliseconds, and the most bytes that one allocated beyond four times its size. */
  readonly slowestMs: number;
  readonly mostBytes: number;
}

/** Milliseconds that one file may take. */
const MOST_MS = 2000;
/** Bytes that one file may allocate, besides four times its own size. */
const SPARE_BYTES = 64 * 2 ** 20;

/**
 * Reads a number of broken files.
 *
 * @throws {Error} If a file is not refused as it must be, takes over 2 s twice, or allocates too much. The message
 * contains the arguments that repeat it.
 */
export async function fuzz(
  name: string,
  count: number,
  seed: number,
  kind: Kind = KINDS[name]!,
): Promise<FuzzOutcome> {
  const { files, isJson, breaks = breakBytes } = kind;
  let refused = 0, slowestMs = 0, mostBytes = 0;
  for (let i = 0; i < count; i++) {
    const random = createRandom(seed * 1_000_003 + i), file = random(files.length);
    const broken = isJson && random(2) === 0 ? breakJson(files[file]!, random) : breaks(files[file]!, random);
    const fail = (why: string, cause?: unknown) =>
      new Error(`Broken file fuzz("${name}", …, ${seed}) ${i}: ${why}`, { cause });
    const most = 4 * broken.length + SPARE_BYTES;
    // A machine may be busy, and garbage not yet collected: only a file that is too slow or too large twice counts.
    let once = await readOnce(kind, broken, file, fail);
    if (once.ms > MOST_MS || once.allocated > most) once = await readOnce(kind, broken, file, fail);
    const { ms, allocated } = once;
    if (once.isRefused) refused++;
    slowestMs = Math.max(slowestMs, ms);
    mostBytes = Math.max(mostBytes, allocated - 4 * broken.length);
    if (ms > MOST_MS) throw fail(`took ${ms} ms`);
    if (allocated > most) {
      throw fail(`allocated ${allocated} bytes for ${broken.length}`);
    }
  }
  return { files: count, refused, slowestMs, mostBytes };
}

/** Reads a broken file: whether it was refused as it must be, milliseconds, and bytes that were allocated. */
async function readOnce(
  { read, refuses = isPlaced }: Kind,
  broken: Uint8Array<ArrayBuffer>,
  file: number,
  fail: (why: string, cause?: unknown) => Error,
) {
  const heap = Deno.memoryUsage().heapUsed, counter = new AllocationCounter(), begin = performance.now();
  let isRefused = false;
  try {
    await read(broken, file);
  } catch (error) {
    if (!refuses(error)) {
      throw fail(`found ${error}, expected an error that says in one line what is wrong`, error);
    }
    isRefused = true;
  } finally {
    counter[Symbol.dispose]();
  }
  const ms = performance.now() - begin;
  return { isRefused, ms, allocated: counter.bytes + Math.max(0, Deno.memoryUsage().heapUsed - heap) };
}

/** Counts the bytes of typed arrays that are made by their length while it lives. */
export class AllocationCounter {
  bytes = 0;
  readonly #names = ["Uint8Array", "Uint16Array", "Int32Array", "Float32Array", "Float64Array"] as const;
  readonly #own = this.#names.map((name) => globalThis[name]);

  constructor() {
    this.#names.forEach((name, i) => {
      const construct = (target: typeof Uint8Array, args: unknown[], like: unknown) => {
        // A length that is none (NaN, negative) makes an empty array, or an error.
        const length = typeof args[0] === "number" && args[0] > 0 ? args[0] : 0;
        this.bytes += length * target.BYTES_PER_ELEMENT;
        return Reflect.construct(target, args, like as typeof Uint8Array);
      };
      Object.assign(globalThis, {
        [name]: new Proxy(this.#own[i]!, { construct } as ProxyHandler<typeof Uint8Array>),
      });
    });
  }

  [Symbol.dispose](): void {
    this.#names.forEach((name, i) => Object.assign(globalThis, { [name]: this.#own[i] }));
  }
}
