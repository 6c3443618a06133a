// Where weights come from: a checkpoint lists its tensors and reads them one at a time as float32.
// Zone: edge and owner. Tensor names are Hugging Face's (`model.layers.0.self_attn.q_proj.weight`), linear weights [out, in].

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
  close(): Promise<void>;
}
