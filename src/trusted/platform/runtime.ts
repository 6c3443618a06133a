// The enclave's own ONNX Runtime, for bundles that place parts inside: on the measured allow-list, loaded only when needed.
// Zone: trusted. Its reports to the vendor are switched off before it loads (see graph/no-telemetry.ts).
import type { LoadedGraph, PortTensor, PortTensors } from '../enclave/port.js';

const TYPES = {
  Float32Array: 'float32',
  Int32Array: 'int32',
  BigInt64Array: 'int64',
  Uint8Array: 'uint8',
} as const;

/** Loads an ONNX graph; rejects with the runtime's error, of which nothing leaves the enclave. */
export async function loadGraph(model: Uint8Array): Promise<LoadedGraph> {
  process.env.ORT_DISABLE_TELEMETRY = '1';
  const ort = await import('onnxruntime-node');
  const session = await ort.InferenceSession.create(model, {
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    logSeverityLevel: 4,
    // Accelerator and enclave share the cores: threads that poll after their work would take time from the other side.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
  const wanted = new Set(session.inputNames);
  const tensorOf = ({ data, shape }: PortTensor) => {
    const type = TYPES[data.constructor.name as keyof typeof TYPES];
    return new ort.Tensor(type as 'float32', data as Float32Array, shape as number[]);
  };
  async function run(feeds: PortTensors, fetch: readonly string[], into: PortTensors = {}): Promise<PortTensors> {
    const given = Object.entries(feeds).filter(([name]) => wanted.has(name));
    const tensors = given.map(([name, tensor]) => [name, tensorOf(tensor)] as const);
    const fetches = fetch.map((name) => [name, into[name] ? tensorOf(into[name]) : null] as const);
    const results = await session.run(Object.fromEntries(tensors), Object.fromEntries(fetches));
    const outputs = Object.entries(results).map(([name, { data, dims }]) => [name, { data, shape: dims }] as const);
    return Object.fromEntries(outputs) as Record<string, PortTensor>;
  }
  return { run };
}
