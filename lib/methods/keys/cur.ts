/** -norm(k) * norm(v) over all KV heads: the core of CurDKV's leverage scores. */
import { norm } from "../../filter/similarity.ts";
import type { RuleMethod } from "../protocol/method.ts";

export const cur: RuleMethod<"cur"> = {
  name: "cur",
  help: "how small the key and the value are",
  reads: () => ["key", "value"],
  score: ({ key, value }) => -norm(key, 0, key.length) * norm(value, 0, value.length),
};
