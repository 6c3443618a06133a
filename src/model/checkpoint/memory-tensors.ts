// A TensorSource over tensors that are already in memory: a student being trained, a fixture, a random initialisation.
// Zone: edge and owner.

import { createHash } from 'node:crypto';
import { MalformedError } from '../../trusted/wire/errors.js';
import type { TensorInfo, TensorSource } from '../tensors.js';

export interface MemoryTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Reading hands out the given arrays themselves, not copies. Throws MalformedError when an array does not fill its shape. */
export function memoryTensors(tensors: Iterable<MemoryTensor>, label = 'memory'): TensorSource {
  const byName = new Map<string, MemoryTensor>();
  for (const tensor of tensors) {
    const size = tensor.shape.reduce((product, extent) => product * extent, 1);
    if (size !== tensor.data.length) {
      throw new MalformedError(
        'tensor-shape',
        `${label}: tensor "${tensor.name}" has ${tensor.data.length} values, shape [${tensor.shape.join(', ')}] needs ${size}.`,
        { file: label, tensor: tensor.name },
      );
    }
    byName.set(tensor.name, tensor);
  }
  const find = (name: string): MemoryTensor => {
    const tensor = byName.get(name);
    if (tensor === undefined) {
      throw new MalformedError('tensor-missing', `${label} has no tensor "${name}".`, { file: label, tensor: name });
    }
    return tensor;
  };
  const info = (name: string): TensorInfo => ({ name, shape: find(name).shape, dtype: 'F32' });
  return {
    list: () => [...byName.keys()].map(info),
    has: (name) => byName.has(name),
    info,
    read: async (name) => find(name).data,
    readRows: async (name, start, count) => {
      const { shape, data } = find(name);
      const width = data.length / (shape[0] ?? 1);
      return data.subarray(start * width, (start + count) * width);
    },
    fingerprint: async () => {
      const hash = createHash('sha256');
      for (const { name, shape, data } of byName.values()) {
        hash.update(JSON.stringify([name, shape]));
        hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      }
      return hash.digest('hex');
    },
    close: async () => undefined,
  };
}
