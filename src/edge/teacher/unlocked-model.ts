// A plain checkpoint ready to run: its segments in a temporary folder, loaded, removed again. Zone: edge.
// For students and other models of the data owner's own; there is no enclave and nothing is charged.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAdapted, openCheckpoint } from '../../model/checkpoint/open.js';
import type { TokenizerFiles } from '../../model/checkpoint/tokenizer-files.js';
import type { DecoderConfig } from '../../model/config.js';
import { describeFileError } from '../../model/files.js';
import { readSegmentWeight, type WeightData, writeSegments } from '../../model/segment-weights.js';
import { buildSegments, type SegmentGraph } from '../../model/segments.js';
import type { TensorSource } from '../../model/tensors.js';
import type { SegmentWeight } from '../../model/weights.js';
import { Accelerator, type RunnableSegment } from './accelerator.js';

export interface UnlockedModel {
  readonly config: DecoderConfig;
  readonly tokenizer: TokenizerFiles;
  readonly accelerator: Accelerator;
  close(): Promise<void>;
}

/** Segments that `writeSegments` wrote into `folder`, all on the accelerator. */
export function segmentsIn(folder: string, count: number): RunnableSegment[] {
  return Array.from({ length: count }, (_, i) => {
    return { place: 'accelerator', graph: join(folder, `${String(i).padStart(2, '0')}.onnx`) };
  });
}

/** Segments of a model that nobody has locked, loaded from a temporary folder, which `close` removes. */
export interface OpenSegments {
  readonly accelerator: Accelerator;
  readonly folder: string;
  /** Body, then head. */
  readonly segments: readonly SegmentGraph[];
  close(): Promise<void>;
}

/** How the weights are read: whole, or in tiles. */
export type WeightReader = (tensors: TensorSource, weight: SegmentWeight) => WeightData;

/**
 * Needs as much space in the temporary folder as the weights take in float32, and room for the largest of them in memory, twice, unless
 * `read` gives them in tiles.
 */
export async function openSegments(
  config: DecoderConfig,
  tensors: TensorSource,
  signal?: AbortSignal,
  read: WeightReader = readSegmentWeight,
): Promise<OpenSegments> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-model-'));
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const segments = buildSegments(config);
    await writeSegments(folder, segments, (weight) => {
      signal?.throwIfAborted();
      return read(tensors, weight);
    });
    const accelerator = await Accelerator.open(segmentsIn(folder, 2), config);
    const close = async (): Promise<void> => {
      await accelerator.close();
      await remove();
    };
    return { accelerator, folder, segments, close };
  } catch (error) {
    await remove();
    throw describeFileError(error, folder, 'write');
  }
}

/** Opens a folder, GGUF file or hub id, with the adapters of a PEFT folder where one is given. */
export async function openUnlockedModel(
  source: string,
  signal?: AbortSignal,
  read?: WeightReader,
  adapter?: string,
): Promise<UnlockedModel> {
  const { config, tensors, tokenizer } = await (adapter === undefined
    ? openCheckpoint(source)
    : openAdapted(adapter, source));
  try {
    const { accelerator, close } = await openSegments(config, tensors, signal, read);
    return { config, tokenizer, accelerator, close };
  } finally {
    await tensors.close();
  }
}
