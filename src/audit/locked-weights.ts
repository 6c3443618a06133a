// What the bundle gives away at rest: the accelerator's weights, split into tensors under their checkpoint names, in whatever basis
// the lock has put them. Zone: owner (as any holder of the bundle). What is missing for a clone is the vocabulary's order and whatever the enclave holds.
import { open } from 'node:fs/promises';
import type { Bundle } from '../edge/bundle.js';
import { expectedTensors } from '../model/checkpoint/expected-tensors.js';
import type { DecoderConfig } from '../model/config.js';
import { placeWeights } from '../model/segment-weights.js';
import { buildSegment } from '../model/segments.js';
import { spansOf } from '../model/spans.js';
import { type SegmentWeight, sizeOfWeight } from '../model/weights.js';
import { UnsupportedError } from '../trusted/wire/errors.js';

/** The shape that clones have: the teacher's, its head apart from its embedding (a lock unties them). */
export function cloneConfig(config: DecoderConfig): DecoderConfig {
  return { ...config, tieWordEmbeddings: false };
}

/** Checkpoint name → float32 in the checkpoint's layout ([out, in], tables [rows, width]); parts inside the enclave are missing. */
export type LockedWeights = ReadonlyMap<string, Float32Array>;

/** Throws UnsupportedError for quantised bundles and for output norms that became matrices. */
export async function readLockedWeights(bundle: Bundle): Promise<LockedWeights> {
  const { manifest, config } = bundle;
  if (manifest.quantize !== 'none')
    throw new UnsupportedError(
      'audit-quantized',
      `${bundle.dir}: the audit reads float32 bundles; lock without --quantize`,
    );
  const shapes = new Map(expectedTensors(cloneConfig(config)).map(({ name, shape }) => [name, shape]));
  const weights = new Map<string, Float32Array>();
  for (const span of spansOf(manifest.plan)) {
    const listed = bundle.segments[span.index]!;
    if (listed.place === 'enclave') continue;
    const segment = buildSegment(config, span);
    const file = await open(listed.graph.replace(/onnx$/, 'data'));
    try {
      for (const weight of segment.weights) {
        const { offset, length } = placeWeights(segment).get(weight.name)!;
        const bytes = new Uint8Array(length);
        await file.read(bytes, 0, length, offset);
        for (const [name, data] of split(weight, new Float32Array(bytes.buffer), shapes)) weights.set(name, data);
      }
    } finally {
      await file.close();
    }
  }
  return weights;
}

// The inverse of `readSegmentWeight`: columns of a joined [in, out] matrix back to tensors [out, in].
function split(
  weight: SegmentWeight,
  data: Float32Array,
  shapes: ReadonlyMap<string, readonly number[]>,
): [string, Float32Array][] {
  if (data.length !== sizeOfWeight(weight)) throw new RangeError(`${weight.name} is not whole`);
  if (weight.kind === 'diagonal')
    throw new UnsupportedError(
      'audit-family',
      `${weight.name}: the audit does not know models that normalise a sublayer's output`,
    );
  if (weight.kind === 'table' || weight.kind === 'gain') return [[nameOf(weight, 0), data]];
  const [inputs, outputs] = weight.kind === 'matrix' ? (weight.shape as [number, number]) : [1, weight.shape[0]!];
  let at = 0;
  return weight.parts.map((_, i) => {
    const name = nameOf(weight, i);
    const columns = shapes.get(name)![0]!;
    const tensor = new Float32Array(columns * inputs);
    for (let row = 0; row < inputs; row += 1)
      for (let column = 0; column < columns; column += 1)
        tensor[column * inputs + row] = data[row * outputs + at + column]!;
    at += columns;
    return [name, tensor];
  });
}

// A tied head is read from the embedding's tensor, and is the head's all the same.
function nameOf(weight: SegmentWeight, part: number): string {
  return weight.name === 'lm_head.weight' ? weight.name : weight.parts[part]!.tensor;
}
