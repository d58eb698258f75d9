import { assert, assertEquals } from "@std/assert";
import { TensorCache } from "../../lib/eval/mod.ts";
import { hostTensor, type Tensor } from "../../lib/tensor.ts";
import { withFolder } from "../testing.ts";
import { exists } from "./files.ts";
import { canShare, sharedFolder, TensorFiles } from "./tensor_files.ts";
import { unless } from "../../lib/testing.ts";

Deno.test({
  ...unless(
    canShare() ? undefined : "files cannot be mapped here",
    "spare tensors are computed by one process of all that share a folder",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const study = sharedFolder(`${folder}/study.db`), freed: Tensor[] = [];
      assertEquals(study, `${folder}/.dense`);
      await Deno.mkdir(study);
      await Deno.writeTextFile(`${study}/logits-0-0`, "left behind");
      {
        using files = TensorFiles.make(study);
        const open = (shared: TensorFiles) => new TensorCache(60, (tensor) => freed.push(tensor), shared);
        const [first, second] = [open(files), open(new TensorFiles(study))];
        const own = hostTensor("f32", [2, 3], Float32Array.of(1, 2, 3, 4, 5, 6)), never = () => assert(false);
        const found = first.get("logits 0 0", () => own, { spare: true });
        assert(found !== own);
        assertEquals(found, own);
        assertEquals(freed, [own]);
        assertEquals(second.get("logits 0 0", never as () => Tensor, { spare: true }), own);
        assert(second.has("logits 0 0"));
        // Who was not the first gets what is there.
        assertEquals(files.keep("logits 0 0", hostTensor("f32", [1], new Float32Array(1))), own);
        // What does not fit the budget is shared with nobody, nor is what is not spare.
        const large = hostTensor("f32", [10], new Float32Array(10)),
          plain = hostTensor("f32", [1], new Float32Array(1));
        assert(first.get("logits 0 1", () => large, { spare: true }) === large);
        assert(first.get("hidden 0", () => plain) === plain);
        assertEquals([...Deno.readDirSync(study)].map(({ name }) => name), ["logits-0-0"]);
      }
      assert(!exists(study));
    }),
});
