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
import { buildSegments } from '../../model/segments.js';
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

/**
 * Opens a folder, GGUF file or hub id, with the adapters of a PEFT folder where one is given. Needs as much space in the temporary folder as the weights take in float32, and room for the largest
 * of them in memory, twice, unless `read` gives them in tiles.
 */
export async function openUnlockedModel(
  source: string,
  signal?: AbortSignal,
  read: (tensors: TensorSource, weight: SegmentWeight) => WeightData = readSegmentWeight,
  adapter?: string,
): Promise<UnlockedModel> {
  const { config, tensors, tokenizer } = await (adapter === undefined
    ? openCheckpoint(source)
    : openAdapted(adapter, source));
  const folder = await mkdtemp(join(tmpdir(), 'distillock-model-'));
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    await writeSegments(folder, buildSegments(config), (weight) => {
      signal?.throwIfAborted();
      return read(tensors, weight);
    });
    const accelerator = await Accelerator.open(segmentsIn(folder, 2), config);
    const close = async (): Promise<void> => {
      await accelerator.close();
      await remove();
    };
    return { config, tokenizer, accelerator, close };
  } catch (error) {
    await remove();
    throw describeFileError(error, folder, 'write');
  } finally {
    await tensors.close();
  }
}
