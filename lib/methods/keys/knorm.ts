import type { RuleMethod } from "../protocol/method.ts";
import { norm } from "../../filter/similarity.ts";

/** norm(k) over all KV heads: long keys are evicted. */
export const knorm: RuleMethod<"knorm"> = {
  name: "knorm",
  help: "how long the key is",
  reads: () => ["key"],
  score: ({ key }) => norm(key, 0, key.length),
};
