/** Weights on the CUDA library: uploaded once, in the file's own bytes, quantised where the file is. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { byteSize } from "../../lib/dtype.ts";
import { scoreSequence } from "../../lib/eval/mod.ts";
import {
  loadModel,
  loadWeights,
  Model,
  type ModelWeights,
  parseGguf,
  resolveModel,
} from "../../lib/model/mod.ts";
import { uploadWeights } from "../../lib/model/upload_testing.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, type HostTensor, type Tensor } from "../../lib/tensor.ts";
import { numbers, randomWeight } from "../../kernels/testing/inputs.ts";
import type { CudaBackend } from "./backend.ts";
import type { DeviceTensor } from "./memory.ts";
import { CONFIG, weights } from "./small_model/testing.ts";
import { testOnDevice } from "./testing.ts";

/** The backend, and the tensors uploaded to it. */
function counting(backend: CudaBackend): { backend: CudaBackend; uploads: HostTensor[] } {
  const uploads: HostTensor[] = [];
  const proxy = new Proxy(backend, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (name !== "upload") return typeof value === "function" ? value.bind(target) : value;
      return (tensor: HostTensor) => (uploads.push(tensor), target.upload(tensor));
    },
  });
  return { backend: proxy, uploads };
}

/** Every matrix and norm of a model. */
function* tensorsOf(all: ModelWeights): Generator<Tensor> {
  yield all.embedding;
  for (const layer of all.layers) yield* Object.values(layer) as Tensor[];
  yield all.outputNorm;
  if (all.output !== all.embedding) yield all.output;
}

testOnDevice("loadModel() on CUDA uploads each weight once, as it is in the file", async (backend) => {
  const { backend: counted, uploads } = counting(backend);
  const { model, config } = await loadModel("tiny", counted);
  const { bytes, path } = await resolveModel("tiny");
  const gguf = parseGguf(bytes, path), own = [...tensorsOf(loadWeights(gguf, config))] as HostTensor[];
  // Besides, the angles of the rotary embedding, and the numbers that the token takes on which the model is tried.
  assertEquals(uploads.filter(({ dtype }) => dtype !== "f64" && dtype !== "i32").length, own.length);
  const found = [...tensorsOf(model.weights)] as DeviceTensor[];
  found.forEach((tensor, i) => {
    const { dtype, shape, data } = own[i]!;
    assertEquals([tensor.dtype, tensor.shape], [dtype, shape]);
    assertEquals(tensor.buffer.bytes, byteSize(dtype, shape.reduce((a, b) => a * b)));
    const same = uploads.filter((upload) =>
      upload.data.length === data.length && data.every((value, at) => value === upload.data[at])
    );
    assertEquals(same.length, 1);
  });
  assertEquals(found.filter(({ dtype }) => dtype === "q8_0").length > 7 * config.numLayers - 1, true);

  // A layer of it, as the reference computes it; a run uploads ids and positions, no weight.
  const before = uploads.length, tokens = Int32Array.of(1, 300, 17, 42, 900);
  const cut = { ...config, numLayers: 1 };
  const truth = new Model(cut, loadWeights(gguf, config), new ReferenceBackend());
  const want = scoreSequence(truth, tokens),
    got = scoreSequence(new Model(cut, model.weights, counted), tokens);
  got.nll.forEach((loss, i) => assertAlmostEquals(loss, want.nll[i]!, 1e-4));
  const later = uploads.slice(before);
  assert(later.length > 0 && later.every(({ dtype }) => ["i32", "f32", "f64"].includes(dtype)));
  assert(later.every(({ data }) => data.byteLength <= 4 * 5 * config.hiddenSize));
});

testOnDevice(
  "a model of 4-bit and mixed weights runs on CUDA as on the reference, in prefill and decode",
  (backend) => {
    const next = numbers(11);
    const matrix = (dtype: "q4_0" | "q4_1" | "q8_0", { shape }: Tensor) =>
      randomWeight(dtype, shape as [number, number], next);
    const layers = weights.layers.slice(0, 2).map((layer) => ({
      ...layer,
      q: matrix("q4_0", layer.q),
      k: matrix("q4_1", layer.k),
      v: matrix("q8_0", layer.v),
      o: matrix("q4_0", layer.o),
      gate: matrix("q4_0", layer.gate),
      up: matrix("q4_1", layer.up),
      down: matrix("q8_0", layer.down),
    }));
    const mixed: ModelWeights<HostTensor> = { ...weights, layers, output: matrix("q4_0", weights.output) };
    const config = { ...CONFIG, numLayers: 2 },
      tokens = Int32Array.from({ length: 20 }, (_, i) => (i * 37) % 131);
    const truth = new Model(config, mixed, new ReferenceBackend());
    const model = new Model(config, uploadWeights(mixed, backend), backend);
    for (const name of ["q", "k", "v", "o", "gate", "up", "down"] as const) {
      const { dtype, buffer } = model.weights.layers[0]![name] as DeviceTensor;
      assertEquals([dtype, buffer.bytes], [layers[0]![name].dtype, layers[0]![name].data.byteLength]);
    }
    const want = scoreSequence(truth, tokens);
    for (const phase of ["prefill", "decode"] as const) {
      const got = scoreSequence(model, tokens, undefined, { phase });
      assertEquals(got.fedByHost, undefined);
      got.nll.forEach((loss, i) => assertAlmostEquals(loss, want.nll[i]!, 1e-3));
    }
    const logits = f32Data(backend.read(model.logits(model.start().feed(tokens))));
    const expected = f32Data(truth.logits(truth.start().feed(tokens)));
    logits.forEach((logit, i) =>
      assertAlmostEquals(logit, expected[i]!, 1e-3 * Math.max(1, Math.abs(expected[i]!)))
    );
  },
);
