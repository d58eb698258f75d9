/** Key side: SnapKV's scores of each KV head, all heads of a layer compared with each other (Ada-KV, arXiv 2407.11550). */
import type { EvictionMethod } from "../protocol/method.ts";
import { snapkv } from "./snapkv.ts";

/**
 * Each KV head has rows of its own. The lowest scores of all heads of a layer are evicted first, so that heads with spread
 * attention keep more. Each head keeps at least a fifth of the equal budget, as in kvpress. The original evicts once.
 */
export const adakv: EvictionMethod<"adakv"> = {
  ...snapkv,
  name: "adakv",
  help:
    "evicts by snapkv's scores per KV head, lowest of all heads of a layer first, a fifth of the equal budget left to each " +
    "(adapted from Ada-SnapKV: at every block start)",
  apart: 0.2,
};
