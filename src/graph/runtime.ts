// Runs graphs: a thin layer over ONNX Runtime sessions with typed arrays in and out.
// Zone: edge. Passing a parameter's own buffer as a preallocated output updates it in place on CPU.
import './no-telemetry.js';
import * as ort from 'onnxruntime-node';
import { EnvironmentError, MalformedError } from '../trusted/wire/errors.js';

export interface SessionOptions {
  /** Threads inside one operator; default: the runtime's choice (physical cores). */
  readonly threads?: number;
  /** false: idle threads sleep instead of polling for work, which leaves the cores to other sessions and processes. */
  readonly spin?: boolean;
  /**
   * false: weights stay in the mapped file and are paged in as they are used. Otherwise the runtime copies matrices into memory, laid
   * out for its kernels: up to 2.7 times faster at few rows, 1.1 at many.
   */
  readonly prepack?: boolean;
  /** Writes the runtime's own profile to a file with this prefix; `endProfiling` happens at close. */
  readonly profilePrefix?: string;
  /** false runs the graph node by node as written, e.g. to time repeated operators that would otherwise be merged. */
  readonly optimise?: boolean;
}

export type TensorData = Float32Array | Int32Array | BigInt64Array | Uint8Array;

/** A concrete tensor: data and shape. */
export interface Tensor {
  readonly data: TensorData;
  readonly shape: readonly number[];
}

export type Feeds = Readonly<Record<string, Tensor>>;

const elementTypes = {
  Float32Array: 'float32',
  Int32Array: 'int32',
  BigInt64Array: 'int64',
  Uint8Array: 'uint8',
} as const;

function toOrt({ data, shape }: Tensor): ort.Tensor {
  const type = elementTypes[data.constructor.name as keyof typeof elementTypes];
  return new ort.Tensor(type, data as Float32Array, shape as number[]);
}

/** One loaded graph. Not safe for concurrent `run`s with shared preallocated outputs. */
export class Session {
  readonly #session: ort.InferenceSession;
  readonly #profiling: boolean;

  private constructor(session: ort.InferenceSession, profiling: boolean) {
    this.#session = session;
    this.#profiling = profiling;
  }

  /** Loads a model from ONNX bytes or from a file (external data is read beside the file, memory-mapped). */
  static async open(model: Uint8Array | string, options: SessionOptions = {}): Promise<Session> {
    const settings: ort.InferenceSession.SessionOptions = {
      graphOptimizationLevel: options.optimise === false ? 'disabled' : 'all',
      executionMode: 'sequential',
      enableMemPattern: true,
      logSeverityLevel: 3,
      extra: {
        session: {
          ...(options.spin === false ? { intra_op: { allow_spinning: '0' } } : {}),
          ...(options.prepack === false ? { disable_prepacking: '1' } : {}),
        },
      },
      ...(options.threads === undefined ? {} : { intraOpNumThreads: options.threads }),
      ...(options.profilePrefix === undefined
        ? {}
        : { enableProfiling: true, profileFilePrefix: options.profilePrefix }),
    };
    try {
      const session =
        typeof model === 'string'
          ? await ort.InferenceSession.create(model, settings)
          : await ort.InferenceSession.create(model, settings);
      return new Session(session, options.profilePrefix !== undefined);
    } catch (cause) {
      const where = typeof model === 'string' ? model : 'a generated graph';
      throw new MalformedError(
        'graph-rejected',
        `the runtime rejected ${where}: ${(cause as Error).message}`,
        {},
        cause,
      );
    }
  }

  get inputNames(): readonly string[] {
    return this.#session.inputNames;
  }

  get outputNames(): readonly string[] {
    return this.#session.outputNames;
  }

  /** Runs the graph. `into` gives buffers for some outputs; the outputs named in `fetch` (default all) come back. */
  async run(
    feeds: Feeds,
    into: Feeds = {},
    fetch: readonly string[] = this.outputNames,
  ): Promise<Record<string, Tensor>> {
    const ortFeeds = Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, toOrt(tensor)]));
    const fetches: Record<string, ort.Tensor | null> = {};
    for (const name of fetch) fetches[name] = into[name] ? toOrt(into[name]) : null;
    let results: ort.InferenceSession.OnnxValueMapType;
    try {
      results = await this.#session.run(ortFeeds, fetches as ort.InferenceSession.FetchesType);
    } catch (cause) {
      throw new EnvironmentError('graph-run-failed', `the runtime failed: ${(cause as Error).message}`, {}, cause);
    }
    const out: Record<string, Tensor> = {};
    for (const name of fetch) {
      const tensor = results[name] as ort.Tensor;
      out[name] = { data: tensor.data as TensorData, shape: tensor.dims };
    }
    return out;
  }

  async close(): Promise<void> {
    if (this.#profiling) this.#session.endProfiling();
    await this.#session.release();
  }
}
