import { assertAlmostEquals, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { loadModel } from "../../../lib/model/mod.ts";
import { tabulatePeers } from "../../../lib/plot/mod.ts";
import { Progress } from "../../commands/cli/output/progress.ts";
import { withFolder } from "../../commands/testing.ts";
import { lackOfPython } from "../testing_python.ts";
import { unless } from "../../../lib/testing.ts";
import { measurePeers, ownEngine, type PeerEngine, racePeers, startPeer } from "./peers.ts";

const ids = Int32Array.from({ length: 40 }, (_, i) => i);

/** An engine whose times are those of a list, turn by turn. */
function fake(engine: string, prefills: number[], loss: number, log: string[], method = "dense"): PeerEngine {
  let turn = -1;
  return {
    engine,
    method,
    run(own, tokens) {
      log.push(`${engine} ${tokens} of ${own.length}`);
      const prefillMs = turn < 0 ? 1e6 : prefills[turn % prefills.length]! * tokens;
      turn++;
      return { prefillMs, decodeMs: [prefillMs, prefillMs, prefillMs + 1], losses: [loss, loss + 2] };
    },
  };
}

Deno.test("racePeers() lets engines take turns at each length, and takes medians without the first, uncounted run", async () => {
  const log: string[] = [], done: number[] = [];
  const engines = [fake("a", [3, 1, 2], 1, log), fake("b", [6, 8, 7], 1.1, log)];
  const rows = await racePeers(engines, ids, [16, 8, 8], { turns: 3, onProgress: (x) => done.push(x) });
  assertEquals(log.slice(0, 8), ["a", "b", "a", "b", "a", "b", "a", "b"].map((name) => `${name} 8 of 16`));
  assertEquals(log.slice(8), ["a", "b", "a", "b", "a", "b"].map((name) => `${name} 16 of 24`));
  assertEquals(rows.map((row) => [row.engine, row.tokens, row.prefillMs, row.decodeMs]), [
    ["a", 8, 16, 16],
    ["b", 8, 56, 56],
    ["a", 16, 32, 32],
    ["b", 16, 112, 112],
  ]);
  assertAlmostEquals(done.at(-1)!, 1, 1e-12);
  const { rows: cells } = tabulatePeers(rows);
  assertEquals(cells[1], ["8", "b", "dense", "143", "3.50", "17.9", "3.50"]);
});

Deno.test("racePeers() trusts no engine whose losses are others, but lets a filtered model have its own", async () => {
  const race = (method: string) =>
    racePeers([fake("a", [1], 1, []), fake("b", [1], 1.3, [], method)], ids, [8], { turns: 1 });
  await assertRejects(() => race("dense"), Error, "Cannot trust b: found a loss of 2.300 nats");
  assertEquals((await race("keys")).length, 2);
});

Deno.test("measurePeers() ends the engines that it has started where another one fails", async () => {
  const closed: string[] = [], plan = { model: "tiny", lengths: [8], text: undefined, threads: 1, turns: 1 };
  const start: typeof startPeer = (engine, { threads, positions }) => {
    if (engine === "PyTorch") return Promise.reject(new Error("no memory"));
    assertEquals([threads, positions > 8], [1, true]);
    const close = () => Promise.resolve(void closed.push(engine));
    return Promise.resolve({ ...fake(engine, [1], 1, []), close });
  };
  const race = measurePeers(new ReferenceBackend(), new Progress(undefined), plan, start);
  await assertRejects(() => race, Error, "no memory");
  const none = () => Promise.resolve("it is not installed");
  const alone = measurePeers(new ReferenceBackend(), new Progress(undefined), plan, none);
  await assertRejects(() => alone, UsageError, "pip install llama-cpp-python");
  assertEquals(closed, ["llama.cpp"]);
});

Deno.test("ownEngine() feeds a prefill and then token by token, with the losses of the ids behind it", async () => {
  const { model } = await loadModel("tiny", new ReferenceBackend());
  const run = await ownEngine(model, "dense").run(ids.slice(0, 12), 8);
  assertEquals([run.decodeMs.length, run.losses.length], [3, 4]);
  const logits = model.logits(model.start().feed(ids.slice(0, 12))), own = model.backend.read(logits);
  const [, vocabulary] = own.shape,
    row = (own.data as Float32Array).subarray(7 * vocabulary!, 8 * vocabulary!);
  const total = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
  assertAlmostEquals(run.losses[0]!, total - row[8]!, 1e-5);
});

const PLAN = { path: "model.gguf", device: "cpu", threads: 3, positions: 6 } as const;

Deno.test("startPeer() says why an engine is not there", async () => {
  for (
    const [python, why] of [["false", "has no llama_cpp"], ["no-such-python", 'found no "no-such-python"']]
  ) {
    assertStringIncludes(await startPeer("llama.cpp", PLAN, python) as string, why!);
  }
});

const FAKE_LLAMA = `import ctypes, os, sys
__version__ = "0.0.1"
llama_cpp = sys.modules[__name__]
class Params:
    use_extra_bufts = True
def llama_model_default_params():
    return Params()
class Llama:
    def __init__(self, path, n_ctx, n_threads, **_):
        self.ctx, self.fed, self.limit = self, [], n_ctx
        self.ends = "FAKE_FAULT" in os.environ and llama_model_default_params().use_extra_bufts
        assert n_threads == 3
    def n_vocab(self):
        return 5
    def reset(self):
        self.fed = []
    def eval(self, ids):
        self.fed += ids
        if 13 in ids or self.ends: os._exit(1)
        assert len(self.fed) <= self.limit
def llama_get_logits_ith(llama, row):
    assert row == -1
    return (ctypes.c_float * 5)(*(v * len(llama.fed) / 8 for v in range(5)))
`;

Deno.test({
  ...unless(
    lackOfPython(["numpy"]),
    "startPeer() talks to peers.py: losses behind a prefill, from llama-cpp-python's logits",
  ),
  fn: () =>
    withFolder(async (folder) => {
      Deno.writeTextFileSync(`${folder}/llama_cpp.py`, FAKE_LLAMA);
      const python = (name: string, more: string) => {
        const script = `#!/bin/sh\n${more} PYTHONPATH="${folder}" exec python3 "$@"\n`;
        Deno.writeTextFileSync(`${folder}/${name}`, script, { mode: 0o755 });
        return `${folder}/${name}`;
      };
      const own = python("python", "");
      assertStringIncludes(
        await startPeer("llama.cpp", { ...PLAN, path: folder }, own) as string,
        "llama.cpp: llama.cpp reads .gguf files alone",
      );
      const peer = await startPeer("llama.cpp", PLAN, own) as PeerEngine;
      try {
        assertEquals(peer.engine, "llama.cpp (llama-cpp-python 0.0.1)");
        for (let run = 0; run < 2; run++) { // a second run begins again
          const { decodeMs, losses } = await peer.run(Int32Array.of(1, 2, 3, 4, 0, 2), 4);
          assertEquals([decodeMs.length, losses.length], [1, 2]);
          for (const [i, [fed, target]] of [[4, 0], [5, 2]].entries()) {
            const logits = [0, 1, 2, 3, 4].map((v) => v * fed! / 8);
            const total = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
            assertAlmostEquals(losses[i]!, total - logits[target!]!, 1e-6);
          }
        }
        await assertRejects(
          async () => await peer.run(new Int32Array(9), 8),
          Error,
          "Cannot race llama_cpp",
        );
        // A dead engine is reported as such, however often it is asked, and can be closed.
        for (let time = 0; time < 2; time++) {
          await assertRejects(
            async () => await peer.run(Int32Array.of(1, 13, 2), 2),
            Error,
            "its process ended",
          );
        }
      } finally {
        await peer.close!();
      }
      // One that its own layouts of weights end does without them.
      const faulty = python("faulty", "FAKE_FAULT=1");
      const plain = await startPeer("llama.cpp", PLAN, faulty) as PeerEngine;
      try {
        assertEquals(plain.engine, "llama.cpp (llama-cpp-python 0.0.1, weights not repacked)");
        assertEquals((await plain.run(Int32Array.of(1, 2, 3), 2)).losses.length, 1);
      } finally {
        await plain.close!();
      }
    }),
});
