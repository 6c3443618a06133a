// Writes one span of a bundle: an accelerator segment weight by weight, quantised where the lock says so, or an enclave span sealed.
// Zone: owner. DESIGN sections 4 and 5.
import { join } from 'node:path';
import type { DecoderConfig } from '../model/config.js';
import { type WeightData, writeSegment } from '../model/segment-weights.js';
import { buildSegment } from '../model/segments.js';
import type { Span } from '../model/spans.js';
import type { StoredTensor } from '../model/stored-weight.js';
import { joinTiles, type WeightTile, wholeTile } from '../model/weight-tiles.js';
import type { SegmentWeight } from '../model/weights.js';
import type { BundleSegment, EnclavePrecision, Quantization } from '../trusted/wire/manifest.js';
import type { CalibratedWeights } from './calibrated-weights.js';
import type { LockJournal } from './lock-journal.js';
import type { OwnerKeys } from './owner-keys.js';
import type { LockScheme } from './scheme/lock-scheme.js';
import { basisChange } from './scheme/span-lock.js';
import { writeSealedSpan } from './sealed-writer.js';

/** What every span of a lock has in common. */
export interface SpanJob {
  readonly folder: string;
  readonly config: DecoderConfig;
  readonly keys: OwnerKeys;
  readonly precision: EnclavePrecision;
  readonly quantize: Quantization;
  readonly lock: LockScheme;
  readonly journal: LockJournal;
  /** In tiles of about `tileBytes`. */
  tilesOf(weight: SegmentWeight, span: Span, tileBytes?: number): AsyncIterable<WeightTile>;
  /** A weight of a block in one piece, its neurons evened out where it is going to be quantised; as no progress. */
  wholeOf(weight: SegmentWeight, span: Span): Promise<Float32Array>;
  /** Rounds the accelerator's matrices with calibration text; null: each to its nearest code. */
  readonly calibrated: CalibratedWeights | null;
  /** Reports tiles of a weight as they pass. */
  followed(weight: SegmentWeight, tiles: AsyncIterable<WeightTile>): AsyncIterable<WeightTile>;
  /** Reports a whole weight. */
  finished(weight: SegmentWeight): void;
}

const formats = { none: 'float32', int8: 'block8', int4: 'block4' } as const;

/** Norms behind a sublayer become a matrix where gains are folded away. */
export const gainsOf = ({ foldsGains }: LockScheme): { denseOutputGains: boolean } => ({
  denseOutputGains: foldsGains,
});

/** Name of a weight in the journal. */
export const itemOf = (span: Span, weight: SegmentWeight): string => `${span.index}/${weight.name}`;

export async function writeSpan(span: Span, job: SpanJob): Promise<BundleSegment> {
  const { name, place } = span;
  if (place === 'enclave') return writeEnclaveSpan(span, job);
  const { folder, config, lock, journal, quantize } = job;
  const segment = buildSegment(config, span, { ...gainsOf(lock), format: formats[quantize] });
  const dataOf = (weight: SegmentWeight): WeightData => {
    if (job.calibrated !== null && (weight.format ?? 'float32') !== 'float32') return roundedWeight(weight, span, job);
    // Outside blocks nothing is evened out, and the embedding may be large.
    return quantize === 'none' || weight.block === null
      ? job.tilesOf(weight, span)
      : job.followed(weight, inOnePiece(weight, job.wholeOf(weight, span)));
  };
  const [graph, data] = await writeSegment(folder, segment, dataOf, {
    has: (_, weight) => journal.has(itemOf(span, weight)),
    add: (_, written) => journal.add(written.map((weight) => itemOf(span, weight))),
  });
  return { place, name, graph: `segments/${graph}`, data: `segments/${data}` };
}

async function* inOnePiece(weight: SegmentWeight, data: Promise<Float32Array>): AsyncGenerator<WeightTile> {
  yield wholeTile(weight, await data);
}

async function roundedWeight(weight: SegmentWeight, span: Span, job: SpanJob): Promise<readonly StoredTensor[]> {
  const tensors = await job.calibrated!.tensorsOf(weight, span);
  job.finished(weight);
  return tensors;
}

/** One file of sealed pieces, done as a whole or not at all. */
async function writeEnclaveSpan(span: Span, job: SpanJob): Promise<BundleSegment> {
  const { folder, config, keys, precision, lock, journal } = job;
  const sealed = `${String(span.index).padStart(2, '0')}.sealed`;
  const item = `${span.index}/sealed`;
  if (!journal.has(item)) {
    await writeSealedSpan(join(folder, sealed), {
      span,
      config,
      precision,
      ...gainsOf(lock),
      bundleKey: keys.bundleKey,
      weightOf: (weight) => joinTiles(weight, job.tilesOf(weight, span)),
      tilesOf: (weight, tileBytes) => job.tilesOf(weight, span, tileBytes),
      exitChange: () => basisChange(lock, config.hiddenSize, span),
    });
    await journal.add([item]);
  }
  return { place: 'enclave', name: span.name, sealed: `segments/${sealed}`, precision };
}
