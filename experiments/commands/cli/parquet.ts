/** Parquet files from untrusted sources. */
import {
  type AsyncBuffer,
  type Compressors,
  type FileMetaData,
  parquetMetadata,
  snappyUncompress,
} from "hyparquet";

/** Most rows per byte of a file: repeated values take next to nothing, but no row has only repeated values. */
const ROWS_A_BYTE = 8;

/** Highest compression ratio of Snappy. */
const SNAPPY_RATIO = 32;

/** Inputs of hyparquet's readers. */
export interface ParquetSource {
  readonly file: AsyncBuffer;
  readonly metadata: FileMetaData;
  readonly compressors: Compressors;
}

/** Unpacks a page. A stated length beyond Snappy's highest ratio is refused before memory is allocated. */
function unpackSnappy(packed: Uint8Array, length: number): Uint8Array {
  const most = SNAPPY_RATIO * packed.length;
  if (length > most) throw new Error(`found a page of ${length} bytes in ${packed.length}`);
  const out = new Uint8Array(length);
  snappyUncompress(packed, out);
  return out;
}

/**
 * Reads a file.
 *
 * @param read Reads it by hyparquet, with the metadata that were read already.
 * @throws {Error} If it is broken, in few words; also the errors of `read`.
 */
export async function readParquet<T>(
  { buffer, length }: Uint8Array<ArrayBuffer>,
  read: (source: ParquetSource) => Promise<T>,
): Promise<T> {
  let hasFailed = false;
  const file: AsyncBuffer = {
    byteLength: length,
    // hyparquet starts reading all columns before it checks any. If a check fails, the reads that have begun would fail
    // too, as unhandled rejections. After one turn of the event loop the failure is known, and these reads wait for
    // ever.
    async slice(start, end) {
      await new Promise((resolve) => setTimeout(resolve, 0));
      return hasFailed ? await new Promise(() => {}) : buffer.slice(start, end);
    },
  };
  try {
    const metadata = parquetMetadata(buffer);
    const rows = Math.max(...[metadata, ...metadata.row_groups].map(({ num_rows }) => Number(num_rows)));
    if (!(rows <= ROWS_A_BYTE * length)) throw new Error(`found ${rows} rows in ${length} bytes`);
    return await read({ file, metadata, compressors: { SNAPPY: unpackSnappy } });
  } catch (error) {
    hasFailed = true;
    // hyparquet reports an unexpected content only by JavaScript's own errors.
    if (error instanceof TypeError || error instanceof RangeError) {
      throw new Error("found no whole Parquet file");
    }
    throw error;
  }
}
