/** The small model on a device. */
import { Model } from "../../../lib/model/mod.ts";
import { uploadWeights } from "../../../lib/model/upload_testing.ts";
import { CONFIG, weights } from "../../../lib/model/small_testing.ts";
import type { CudaBackend } from "../backend.ts";

export * from "../../../lib/model/small_testing.ts";

/** The model on a device. */
export const modelOn = (backend: CudaBackend) => new Model(CONFIG, uploadWeights(weights, backend), backend);
