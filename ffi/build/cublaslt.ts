/** Fetches NVIDIA's cuBLASLt, under NVIDIA's licence for CUDA, where none is installed. */
import { fetchedCublasLt, findCublasLt } from "../cuda/cublaslt.ts";
import { fetchFile, type FetchOptions, type WheelFile } from "./wheel.ts";

/** Releases by the major version of CUDA: the one of the pinned nvcc, and the last before it. */
const PINNED: { readonly [major: string]: Pick<WheelFile, "package" | "member" | "size"> } = {
  13: {
    package: {
      name: "nvidia-cublas",
      version: "13.0.2.14",
      sha256: [
        "0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c",
        "17165c296de689662b96e0ef4f21dfbff3092ff00d0e3e59470f5acb08c0f87d",
      ],
    },
    member: "nvidia/cu13/lib/libcublasLt.so.13",
    size: "421 MB",
  },
  12: {
    package: {
      name: "nvidia-cublas-cu12",
      version: "12.9.1.4",
      sha256: [
        "453611eb21a7c1f2c2156ed9f3a45b691deda0440ec550860290dc901af5b4c2",
        "7a950dae01add3b415a5a5cdc4ec818fb5858263e9cca59004bb99fdbbd3a5d6",
      ],
    },
    member: "nvidia/cublas/lib/libcublasLt.so.12",
    size: "581 MB",
  },
};

/**
 * Fetches cuBLASLt with pip, unless one is found or `TOKENFILTER_CUBLASLT` is set. A failed fetch is no error: the
 * library's own kernels serve, and a line names the reason.
 *
 * @param nvcc Version of the nvcc of the CUDA library: its drivers run a cuBLASLt of the same major version.
 */
export async function ensureCublasLt(nvcc: string, options: FetchOptions = {}): Promise<void> {
  const major = nvcc.split(".")[0]!, pinned = PINNED[major];
  if (Deno.env.get("TOKENFILTER_CUBLASLT") || pinned === undefined || Deno.build.os !== "linux") return;
  if (findCublasLt() !== undefined) return;
  const file = { ...pinned, title: "cuBLASLt", again: "deno task test:gpu" };
  await fetchFile(file, fetchedCublasLt(major), options);
}
