// Where weights come from: a checkpoint lists its tensors and reads them one at a time as float32.
// Zone: edge and owner. Tensor names are Hugging Face's (`model.layers.0.self_attn.q_proj.weight`), linear weights [out, in].
import { createHash } from 'node:crypto';

export interface TensorInfo {
  readonly name: string;
  readonly shape: readonly number[];
  /** As stored: F32, F16, BF16, Q4_K, … Reading always gives float32. */
  readonly dtype: string;
}

/** Named tensors that are read one at a time, so a model larger than memory can be processed. */
export interface TensorSource {
  list(): readonly TensorInfo[];
  has(name: string): boolean;
  info(name: string): TensorInfo;
  /** Throws MalformedError naming file and tensor when it is missing, truncated or has a wrong shape. */
  read(name: string): Promise<Float32Array>;
  /** Rows start … start + count of a tensor of two axes, as `read` gives them. Absent: only whole tensors can be read. */
  readRows?(name: string, start: number, count: number): Promise<Float32Array>;
  /** Changes when the weights do (sizes and times of files, or their values). Absent: only names and shapes tell. */
  fingerprint?(): Promise<string>;
  close(): Promise<void>;
}

/** What `fingerprint` gives, or a digest of names, shapes and formats. */
export async function fingerprintOf(tensors: TensorSource): Promise<string> {
  if (tensors.fingerprint) return tensors.fingerprint();
  return createHash('sha256').update(JSON.stringify(tensors.list())).digest('hex');
}
