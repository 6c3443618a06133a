// The tensors that a weight is stored as, by format: what a data file holds and what a graph with streamed weights is fed.
// Zone: owner and edge. Names are those that linear-lowering.ts gives the graph.
import { quantiseWeight, scalesName } from './quantise.js';
import { type BlockWeight, blockShapes, quantiseBlocks, zerosName } from './quantise-blocks.js';
import { type SegmentWeight, sizeOfWeight } from './weights.js';

export interface StoredTensor {
  readonly name: string;
  readonly data: Float32Array | Uint8Array;
  readonly shape: readonly number[];
}

/** Bytes of each tensor that a weight is stored as, in the order of `storedTensors`. */
export function storedSizes(weight: SegmentWeight): { readonly name: string; readonly bytes: number }[] {
  const { name, shape, format = 'float32' } = weight;
  const size = sizeOfWeight(weight);
  if (format === 'float32') return [{ name, bytes: 4 * size }];
  const [inputs, outputs] = shape as [number, number];
  const scales = scalesName(name);
  if (format === 'int8') {
    return [
      { name, bytes: size },
      { name: scales, bytes: 4 * outputs },
    ];
  }
  const shapes = blockShapes(inputs, outputs, format === 'block4' ? 4 : 8);
  const length = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);
  return [
    { name, bytes: length(shapes.codes) },
    { name: scales, bytes: 4 * length(shapes.scales) },
    ...(shapes.zeros === null ? [] : [{ name: zerosName(name), bytes: length(shapes.zeros) }]),
  ];
}

/** `data` is the weight in float32, in the layout of the segment. */
export function storedTensors(weight: SegmentWeight, data: Float32Array): StoredTensor[] {
  const { name, shape, format = 'float32' } = weight;
  if (format === 'float32') return [{ name, data, shape }];
  const [inputs, outputs] = shape as [number, number];
  if (format === 'int8') {
    const { codes, scales } = quantiseWeight(weight, data);
    return [
      { name, data: codes, shape },
      { name: scalesName(name), data: scales, shape: [outputs] },
    ];
  }
  const bits = format === 'block4' ? 4 : 8;
  return blockTensors(weight, bits, quantiseBlocks(data, inputs, outputs, bits));
}

/** The tensors of a weight that is in blocks already. */
export function blockTensors(
  { name, shape }: SegmentWeight,
  bits: 4 | 8,
  { codes, scales, zeros }: BlockWeight,
): StoredTensor[] {
  const [inputs, outputs] = shape as [number, number];
  const shapes = blockShapes(inputs, outputs, bits);
  return [
    { name, data: codes, shape: shapes.codes },
    { name: scalesName(name), data: scales, shape: shapes.scales },
    ...(zeros === null || shapes.zeros === null ? [] : [{ name: zerosName(name), data: zeros, shape: shapes.zeros }]),
  ];
}
