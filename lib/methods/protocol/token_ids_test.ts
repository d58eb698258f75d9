import { assertEquals, assertThrows } from "@std/assert";
import { createCustomRule, type ScoredToken } from "../mod.ts";
import { loadModel } from "../../model/load.ts";
import { ReferenceBackend } from "../../reference/mod.ts";

const { model, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
const ids = tokenizer.encode("It was a dark night, and the rain fell.", { bos: true });
const LAYER = 9, plan = { tail: 0.1, pruneRatio: 0.05, warmup: 2 };

/** A pruner whose rule notes what it is told. */
function listen() {
  const told: [position: number, id: number, text: string][] = [];
  const pruner = createCustomRule(config, ({ position, id, text, layer }: ScoredToken) => {
    if (layer === LAYER) told.push([position, id, text]);
    return position;
  }, plan);
  return { told, pruner };
}

const expected = Array.from(ids, (id, t) => [t, id, tokenizer.texts([id])[0]]);

Deno.test("a rule is told the id and text of each token, however they are fed", () => {
  const whole = listen(), pieces = listen(), forked = listen(), together = listen(), residual = listen();
  model.start(whole.pruner).feed(ids);
  const parts = model.start(pieces.pruner);
  for (let at = 0; at < ids.length; at += 3) parts.feed(ids.slice(at, at + 3));
  const begun = model.start(forked.pruner);
  begun.feed(ids.slice(0, 5));
  begun.fork().feed(ids.slice(5));
  model.feedTogether([{ sequence: model.start(), ids }, { sequence: model.start(together.pruner), ids }]);
  model.start(residual.pruner).feedResidual(model.residualAt(ids, LAYER), LAYER, ids);
  for (const { told } of [whole, pieces, forked, together, residual]) assertEquals(told, expected);
});

Deno.test("a rule that reads an id where there are only rows is refused", () => {
  const { pruner } = listen();
  const error = 'Cannot score a token by its "id": found rows alone, expected a model\'s run over a text';
  assertThrows(() => model.start(pruner).feedResidual(model.residualAt(ids, LAYER), LAYER), TypeError, error);
});
