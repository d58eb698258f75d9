/** How the pages of retrieval layers call rules and whole parts. */

/** Methods of the literature, as their papers call them. */
export const METHODS: { readonly [rule: string]: string } = {
  streaming: "StreamingLLM",
  snapkv: "SnapKV",
  h2o: "H2O",
  tova: "TOVA",
  "keydiff-cache": "KeyDiff",
  knorm: "Knorm",
  lagkv: "LagKV",
  "expected-attention": "ExpectedAttention",
  adakv: "AdaKV",
  "duo-attention": "DuoAttention",
  "razor-attention": "RazorAttention",
};

/** Whole parts of SmolLM2-135M. */
export const WHOLE: { readonly [whole: string]: string } = {
  none: "none",
  auto: "4 layers",
  heads: "7 KV heads",
};

/** A rule's name; a method of the literature is `(adapted)` where it evicts at every block start. */
export function nameOf({ rule, once }: { readonly rule: string; readonly once?: boolean }): string {
  const method = METHODS[rule];
  return method === undefined ? `\`${rule}\`` : once ? method : `${method} (adapted)`;
}
