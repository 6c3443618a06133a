// What the enclave program needs from the platform it runs on: everything outside this interface does not exist for it.
// Zone: trusted. One adapter per platform in ../platform; tests pass a fake.

/** A tensor given to or taken from a graph. */
export interface PortTensor {
  readonly data: Float32Array | Int32Array | BigInt64Array | Uint8Array;
  readonly shape: readonly number[];
}

export type PortTensors = Readonly<Record<string, PortTensor>>;

export interface LoadedGraph {
  /**
   * The outputs named in `fetch`, into the buffers that `into` gives for some of them; inputs that the graph does not have are left out.
   */
  run(feeds: PortTensors, fetch: readonly string[], into?: PortTensors): Promise<PortTensors>;
}

export interface PlatformPort {
  /** Evidence kind: `simulated`, later `sgx`, `tdx`, `snp`, `tpm`. */
  readonly kind: string;
  /** The bundle's own files, as found on the untrusted disk. */
  readonly bundle: { readonly manifest: Uint8Array; readonly manifestJws: string; readonly sealedPart: Uint8Array };
  /** Ed25519 public key of the owner, pinned at launch and covered by the report data. */
  readonly ownerKey: Uint8Array;
  /**
   * X25519 public key made by the platform for this process. The platform replaces the body of an `unlock` frame by what
   * HPKE opens with the private key, or by nothing when it does not open.
   */
  readonly encryptionKey: Uint8Array;
  /** 32 bytes that only this enclave on this machine can obtain. */
  readonly sealingKey: Uint8Array;
  /** Bytes that weights and activations of enclave-held parts may take (`--tee-memory`), beyond the runtime's own. */
  readonly memoryBytes: number;
  /** `length` bytes of one of the bundle's files, from the untrusted disk; valid until the next call, which may use the same memory. */
  readBundle(path: string, offset: number, length: number): Uint8Array;
  /** Loads an ONNX graph into the enclave's own runtime. */
  loadGraph(model: Uint8Array): Promise<LoadedGraph>;
  /** Unix seconds. */
  now(): number;
  /** The platform's signature over 64 bytes of report data. */
  quote(reportData: Uint8Array): Uint8Array;
  /** Sealed states on the disk, of which the newest that opens counts; none before the first save. */
  loadState(): readonly Uint8Array[];
  /**
   * Returns once the bytes are durable; throws otherwise. Whatever happens, the state of the version before stays; that of two
   * versions before is gone when it returns.
   */
  saveState(bytes: Uint8Array, version: number): void;
}
