/** config.json files of published models, in the older and the newer notation, and files that are refused. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ModelFormatError } from "../../errors.ts";
import type { ConfigOptions } from "./config_reader.ts";
import { readModelConfig } from "./read_config.ts";
import { type CheckpointName, CHECKPOINTS, ggufFile, hfFolder, NAMES } from "../testdata/checkpoints.ts";

const configOf = (name: CheckpointName, changes: Record<string, unknown>, options?: ConfigOptions) =>
  readModelConfig(hfFolder(name, changes), options);
/** Changes that leave the newer keys out. */
const OLD = { rope_parameters: undefined, transformers_version: "4.40.0", torch_dtype: "bfloat16" };

Deno.test("readModelConfig() reads rotary scaling as older configs write it, like the newer", () => {
  const cases: [CheckpointName, Record<string, unknown>, ConfigOptions?][] = [
    ["llama", { rope_theta: 100 }],
    ["llama-linear-biases", { rope_theta: 100, rope_scaling: { type: "linear", factor: 4 } }],
    ["llama-dynamic", { rope_theta: 100, rope_scaling: { type: "dynamic", factor: 4 } }, {
      contextLength: 40,
    }],
    ["llama-3.1", {
      rope_theta: 100,
      rope_scaling: {
        rope_type: "llama3",
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 32,
      },
    }],
    ["llama-yarn", {
      rope_theta: 100,
      rope_scaling: { type: "yarn", factor: 4, original_max_position_embeddings: 16, beta_fast: 4 },
    }],
    ["phi3-short", {
      rope_theta: 100,
      partial_rotary_factor: 0.75,
      rope_scaling: { type: "su", short_factor: [1, 1.5, 2], long_factor: [1.5, 3, 6] },
    }],
    ["gemma3", {
      rope_theta: 400,
      rope_local_base_freq: 50,
      rope_scaling: { rope_type: "linear", factor: 8 },
    }],
  ];
  for (const [name, changes, options] of cases) {
    const wanted = readModelConfig(hfFolder(name), options);
    assertEquals(configOf(name, { ...OLD, ...changes }, options), wanted, name);
  }
});

Deno.test("readModelConfig() knows the defaults of each family", () => {
  const bare = { ...OLD, rope_theta: undefined };
  assertEquals(configOf("llama", bare).rope, { theta: 10_000 });
  assertEquals(configOf("smollm3", bare).rope, { theta: 2_000_000 });
  const gemma = configOf("gemma3-pattern", { ...bare, layer_types: undefined });
  assertEquals([gemma.rope, gemma.layers![0]], [
    { theta: 1_000_000 },
    { rope: { theta: 10_000 }, window: 8 },
  ]);
  assertEquals(gemma.layers!.map(({ window }) => window !== undefined), [
    true,
    true,
    true,
    true,
    true,
    false,
  ]);
  const paired = { layer_types: undefined, sliding_window_pattern: 2, _sliding_window_pattern: 2 };
  assertEquals(configOf("gemma3-pattern", paired).layers!.map(({ rope }) => rope !== undefined), [
    ...[true, false, true],
    ...[false, true, false],
  ]);
  // transformers' own of the class, whatever the heads' size.
  assertAlmostEquals(configOf("gemma3", { query_pre_attn_scalar: undefined }).attentionScale!, 1 / 16);
  const everywhere = (window: number) => new Array(4).fill({ window });
  assertEquals(configOf("mistral", { sliding_window: undefined }).layers, everywhere(4096));
  assertEquals(configOf("mistral", { sliding_window: 9 }).layers, everywhere(9));
  assertEquals(configOf("mistral", { sliding_window: null }).layers, undefined);
  assertEquals(configOf("phi3-short", { sliding_window: undefined }).layers, undefined);
  assertEquals(configOf("qwen2", { use_sliding_window: false, layer_types: undefined }).layers, undefined);
  const upper = configOf("qwen2", { layer_types: undefined }).layers!.map(({ window }) => window);
  assertEquals(upper, [undefined, undefined, 8, 8]);
  const deep = { num_hidden_layers: 30, layer_types: undefined, max_window_layers: undefined };
  const last = configOf("qwen2", deep).layers!.slice(26).map(({ window }) => window);
  assertEquals(last, [undefined, undefined, 8, 8]);
  const unturned = { use_sliding_window: true, sliding_window: 8, layer_types: undefined };
  assertEquals(configOf("smollm3", unturned).layers, [{}, {}, {}, { window: 8, rope: null }]);
  assertEquals(configOf("smollm3", { no_rope_layers: undefined, no_rope_layer_interval: 2 }).layers, [
    {},
    { rope: null },
    {},
    { rope: null },
  ]);
  assertEquals(configOf("smollm3", { no_rope_layers: undefined }).layers!.map(({ rope }) => rope), [
    undefined,
    undefined,
    undefined,
    null,
  ]);
  const ungrouped = configOf("llama", { num_key_value_heads: undefined, head_dim: undefined });
  assertEquals([ungrouped.numKvHeads, ungrouped.headDim], [4, 8]);
  assertEquals(configOf("llama", { tie_word_embeddings: undefined }).tieWordEmbeddings, true);
  assertEquals(configOf("mistral", { tie_word_embeddings: undefined }).tieWordEmbeddings, false);
});

Deno.test("readModelConfig() takes what a config.json says twice, where it says the same", () => {
  // As transformers 5.2 saves Phi-3.
  for (const name of ["phi3", "phi3-short"] as const) {
    const { rope_parameters: rope } = CHECKPOINTS[name].config as { rope_parameters: Record<string, number> };
    const { partial_rotary_factor: factor = 1, rope_theta } = rope;
    const twice = { partial_rotary_factor: factor, rope_theta };
    const rope_parameters: Record<string, unknown> = { ...rope, partial_rotary_factor: factor };
    assertEquals(configOf(name, { ...twice, rope_parameters }), configOf(name, {}));
    const cases = [["partial_rotary_factor", 0.5], ["rope_theta", 7]] as const;
    for (const [key, value] of cases) {
      assertThrows(
        () => configOf(name, { ...twice, rope_parameters, [key]: value }),
        ModelFormatError,
        `"${key}": found ${value}, expected the ${rope_parameters[key]} of "rope_parameters.${key}"`,
      );
    }
  }
  const { rope_parameters } = CHECKPOINTS.gemma3.config as { rope_parameters: object };
  const flat = { rope_parameters: { ...rope_parameters, rope_theta: null, rope_type: "default" } };
  assertEquals(configOf("gemma3", flat), configOf("gemma3", {}));
  assertThrows(
    () => configOf("phi3-short", { original_max_position_embeddings: 32 }),
    ModelFormatError,
    '"original_max_position_embeddings": found 32, expected the 48 of "rope_parameters.original_max',
  );
  assertThrows(
    () => configOf("gemma3-pattern", { layer_types: undefined, _sliding_window_pattern: 2 }),
    ModelFormatError,
    '"_sliding_window_pattern": found 2, expected the 6 of "sliding_window_pattern", or layer_types',
  );
});

Deno.test("readModelConfig() makes rotary embeddings that depend on the length for the one asked for", () => {
  const at = (contextLength?: number) => {
    const { rope, maxPositions } = configOf(
      "phi3-short",
      {},
      contextLength === undefined ? {} : { contextLength },
    );
    return [rope.factors![2], maxPositions];
  };
  assertEquals([at(), at(48), at(49)], [[2, 48], [2, 48], [6, 49]]);
  const dynamic = (contextLength: number) =>
    configOf("llama-dynamic", {}, { contextLength }).rope.factors?.[1];
  assertEquals([dynamic(8), dynamic(16)], [undefined, undefined]);
  // The base grows by (4 * 32 / 16 - 3)^(8 / 6); pair 1 of 4 takes its quarter power.
  assertAlmostEquals(dynamic(32)!, 5 ** (8 / 6 / 4), 1e-12);
});

Deno.test("readModelConfig() works YaRN's and LongRoPE's magnitudes out, and takes those given", () => {
  const yarn = (more: Record<string, unknown>) =>
    configOf("llama-yarn", {
      rope_parameters: {
        rope_type: "yarn",
        rope_theta: 100,
        factor: 4,
        original_max_position_embeddings: 16,
        ...more,
      },
    }).rope.magnitude;
  const usual = 0.1 * Math.log(4) + 1;
  assertAlmostEquals(yarn({})!, usual);
  assertAlmostEquals(yarn({ factor: null })!, usual);
  assertAlmostEquals(
    yarn({ mscale: 2, mscale_all_dim: 0.5 })!,
    (0.2 * Math.log(4) + 1) / (0.05 * Math.log(4) + 1),
  );
  assertAlmostEquals(yarn({ mscale: 2 })!, usual);
  assertEquals([yarn({ attention_factor: 3 }), yarn({ factor: 1 })], [3, 1]);
  const { rope_parameters } = CHECKPOINTS["phi3-short"].config as { rope_parameters: object };
  const long = (more: object) =>
    configOf("phi3-short", { rope_parameters: { ...rope_parameters, ...more } }).rope.magnitude;
  assertAlmostEquals(long({})!, Math.sqrt(1 + Math.log(64 / 48) / Math.log(48)));
  assertEquals([long({ attention_factor: 2 }), long({ factor: 1 }), long({ factor: 0.5 })], [2, 1, 1]);
});

Deno.test("readModelConfig() reads a folder that transformers saved from a GGUF, whose config says so", () => {
  const saved = { _model_name_or_path: "SmolLM2-135M", unk_token_id: 0 };
  assertEquals(configOf("llama", saved), configOf("llama", {}));
});

Deno.test("readModelConfig() refuses what it does not know in a config.json, and names the key", () => {
  const rope = (parameters: object) => ({ rope_parameters: { rope_theta: 100, ...parameters } });
  const cases: [CheckpointName, Record<string, unknown>, string][] = [
    ["llama", { architectures: ["MambaForCausalLM"] }, '"architectures": found "MambaForCausalLM"'],
    ["llama", { something_new: 1 }, '"something_new": found a key that this project does not support'],
    ["llama", { quantization_config: { quant_method: "gptq" } }, '"quantization_config.quant_method"'],
    ["llama", { hidden_act: "gelu" }, '"hidden_act": found "gelu", expected "silu"'],
    ["llama", { pretraining_tp: 2 }, '"pretraining_tp": found 2'],
    ["llama", { layer_types: ["sliding_attention"] }, '"layer_types": found a key'],
    ["llama", { num_hidden_layers: "4" }, '"num_hidden_layers": found "4", expected an integer'],
    ["llama", { num_hidden_layers: 0 }, '"num_hidden_layers": found 0'],
    ["llama", { num_key_value_heads: 3 }, '"num_key_value_heads": found 3'],
    ["llama", { head_dim: undefined, num_attention_heads: 6 }, "expected a divisor of hidden_size 32"],
    ["llama", { head_dim: 7 }, '"head_dim": found heads of 7'],
    ["llama", { rms_norm_eps: 0 }, '"rms_norm_eps": found 0'],
    ["llama", { vocab_size: undefined }, '"vocab_size": found no such key'],
    ["llama", { attention_bias: "yes" }, '"attention_bias": found "yes", expected true or false'],
    ["llama", rope({ rope_type: "mrope" }), '"rope_parameters.rope_type": found "mrope"'],
    ["llama", rope({ rope_type: "linear" }), '"rope_parameters.factor": found no such key'],
    ["llama", rope({ rope_type: "linear", factor: -1 }), '"rope_parameters.factor": found -1'],
    ["llama", rope({ rope_type: "default", mrope_section: [1] }), '"rope_parameters.mrope_section"'],
    [
      "llama",
      rope({ rope_type: "default", partial_rotary_factor: 0.4 }),
      "found 3 of the 8 values of a head",
    ],
    ["llama", rope({ rope_type: "default", partial_rotary_factor: 0.1 }), "found 0 of the 8 values"],
    ["llama", { partial_rotary_factor: 0.5 }, '"partial_rotary_factor": found 4 of the 8 values of a head'],
    [
      "qwen3",
      rope({ rope_type: "default", partial_rotary_factor: 0.5 }),
      "found 8 of the 16 values of a head",
    ],
    ["phi3-short", rope({ rope_type: "longrope", short_factor: [1], long_factor: [1] }), "found 1 numbers"],
    [
      "phi3-short",
      rope({ rope_type: "longrope", short_factor: [1, 0, 1, 1] }),
      '"rope_parameters.short_factor"',
    ],
    ["phi3", { attention_bias: true }, '"attention_bias": found true, expected false'],
    [
      "phi3-short",
      { original_max_position_embeddings: undefined },
      '"original_max_position_embeddings": found no such key',
    ],
    ["gemma3", { final_logit_softcapping: 30 }, '"final_logit_softcapping": found a key'],
    ["gemma3", { use_bidirectional_attention: true }, '"use_bidirectional_attention": found true'],
    ["gemma3", { hidden_activation: "gelu" }, '"hidden_activation": found "gelu"'],
    ["gemma3", { sliding_window: null }, '"sliding_window": found no such key'],
    ["gemma3", { layer_types: ["full_attention"] }, "found 1 entries, expected one for each of 4 layers"],
    ["gemma3", { layer_types: ["chunked_attention"] }, 'found "chunked_attention"'],
    ["qwen2", { use_sliding_window: false }, "found sliding_attention without use_sliding_window"],
    ["qwen2", { sliding_window: null }, '"sliding_window": found no such key'],
    ["smollm3", { no_rope_layers: [1, 0] }, '"no_rope_layers": found 2 entries'],
  ];
  for (const [name, changes, message] of cases) {
    const error = assertThrows(() => configOf(name, changes), ModelFormatError);
    assert(error.message.includes(message), `${error.message} lacks ${message}`);
    assertEquals(error.file, `${name}/config.json`);
  }
});

Deno.test("readModelConfig() refuses a config.json that is nested too deeply", () => {
  let deep: unknown = {};
  for (let i = 0; i < 9; i++) deep = { a: deep };
  assertThrows(() => configOf("llama", { a: deep }), ModelFormatError, "more than 8 levels");
});

Deno.test("readModelConfig() reads rotary scaling of GGUF files", () => {
  const f32 = (key: string, value: number) => ({ [key]: [`llama.${key}`, "float32", value] as const });
  const type = (value: string) => ({
    "rope.scaling.type": ["llama.rope.scaling.type", "string", value] as const,
  });
  const ropeOf = (changes: Parameters<typeof ggufFile>[1]) =>
    readModelConfig(ggufFile("llama", changes)).rope;
  assertEquals(ropeOf({}), { theta: 100 });
  const four = f32("rope.scaling.factor", 4);
  assertEquals(ropeOf({ ...type("linear"), ...four }).factors, [4, 4, 4, 4]);
  assertEquals(ropeOf(f32("rope.scale_linear", 2)).factors, [2, 2, 2, 2]);
  assertEquals(ropeOf(f32("rope.scaling.attn_factor", 2)).magnitude, 2);
  const original = { o: ["llama.rope.scaling.original_context_length", "uint32", 16] as const };
  const yarn = ropeOf({ ...type("yarn"), ...four, ...original }),
    { rope } = configOf("llama-yarn", {
      rope_parameters: {
        rope_type: "yarn",
        rope_theta: 100,
        factor: 4,
        original_max_position_embeddings: 16,
      },
    });
  assertEquals(yarn, rope);
  const long = readModelConfig(ggufFile("phi3-long"), { contextLength: 64 });
  assertEquals([long.rope.factors, long.maxPositions], [[1.5, 3, 6], 64]);
  assertEquals(readModelConfig(ggufFile("phi3-long")).rope.factors, [1, 1.5, 2]);
});

Deno.test("every checkpoint's config reads the sizes that it was made with", () => {
  for (const name of NAMES) {
    const { numHeads, numKvHeads, hiddenSize, intermediateSize, vocabSize } = readModelConfig(hfFolder(name));
    assertEquals([numHeads, numKvHeads, hiddenSize, intermediateSize, vocabSize], [4, 2, 32, 24, 48], name);
  }
});
