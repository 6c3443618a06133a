// Locks a checkpoint into a bundle: each weight is read, laid out, locked and written before the next. Zone: owner. DESIGN sections 3 and 5.
// The same keys and checkpoint give the same bundle, byte for byte.

import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { DecoderConfig } from '../model/config.js';
import { writeSegment } from '../model/segment-weights.js';
import { buildSegment, buildSegments } from '../model/segments.js';
import { acceleratorPlan, type Span, spansOf } from '../model/spans.js';
import type { TensorSource } from '../model/tensors.js';
import { type SegmentWeight, sizeOfWeight } from '../model/weights.js';
import { sealPart } from '../trusted/lock/sealed-part.js';
import { MalformedError } from '../trusted/wire/errors.js';
import { keyId } from '../trusted/wire/jws.js';
import {
  type BundleSegment,
  type EnclavePrecision,
  FORMAT_VERSION,
  type Manifest,
  type Plan,
  type Scheme,
  SEALED_PART,
} from '../trusted/wire/manifest.js';
import { writeBundle } from './bundle-writer.js';
import { createOwnerKeys, type OwnerKeys } from './owner-keys.js';
import { createScheme, type LockScheme } from './scheme/lock-scheme.js';
import { lockWeight } from './scheme/lock-weight.js';
import { basisChange, lockForSpan } from './scheme/span-lock.js';
import { writeSealedSpan } from './sealed-writer.js';

export interface LockProgress {
  readonly tensor: string;
  /** Weights done and in total. */
  readonly done: number;
  readonly total: number;
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

export interface LockOptions {
  readonly checkpoint: {
    readonly config: DecoderConfig;
    readonly tensors: TensorSource;
    /** File name → bytes; `tokenizer.json` must be there. */
    readonly tokenizer: object;
  };
  readonly outDir: string;
  readonly scheme?: Scheme;
  /** Where each part lies; everything on the accelerator when absent. */
  readonly plan?: Plan;
  /** How enclave-held parts compute; float32 when absent. */
  readonly precision?: EnclavePrecision;
  /** Keys of an earlier lock, to repeat it; new ones when absent. */
  readonly keys?: OwnerKeys;
  /** 32 bytes; only without `keys`. */
  readonly seed?: Uint8Array;
  readonly onProgress?: (progress: LockProgress) => void;
}

export interface LockedBundle {
  readonly bundleId: string;
  /** Save them: without them no licence can be granted. */
  readonly keys: OwnerKeys;
}

const { version } = createRequire(import.meta.url)('../../../package.json') as { version: string };

/** Weights of a span that lies in the enclave, or on the accelerator, and where they are written to. */
interface LockedSpans {
  readonly lock: LockScheme;
  readonly keys: OwnerKeys;
  readonly config: DecoderConfig;
  readonly precision: EnclavePrecision;
  weightOf(weight: SegmentWeight, span: Span): Promise<Float32Array>;
}

const stem = (index: number): string => String(index).padStart(2, '0');

async function writeSpan(folder: string, span: Span, spans: LockedSpans): Promise<BundleSegment> {
  const { lock, keys, config, precision } = spans;
  const weightOf = (weight: SegmentWeight): Promise<Float32Array> => spans.weightOf(weight, span);
  const { name, place } = span;
  if (place === 'accelerator') {
    const [graph, data] = await writeSegment(folder, buildSegment(config, span), weightOf);
    return { place, name, graph: `segments/${graph}`, data: `segments/${data}` };
  }
  const sealed = `${stem(span.index)}.sealed`;
  const exitChange = (): Promise<Float32Array | null> => basisChange(lock, config.hiddenSize, span);
  await writeSealedSpan(join(folder, sealed), {
    span,
    config,
    precision,
    bundleKey: keys.bundleKey,
    weightOf,
    exitChange,
  });
  return { place, name, sealed: `segments/${sealed}`, precision };
}

/**
 * Peak memory: about three times the largest weight. Throws EnvironmentError('bundle-exists', 'disk-full'), or the checkpoint's
 * MalformedError; then nothing is left in `outDir`.
 */
export async function lockModel(options: LockOptions): Promise<LockedBundle> {
  const { checkpoint, outDir, scheme = 'rotation', precision = 'float32', onProgress } = options;
  const keys = options.keys ?? createOwnerKeys(options.seed === undefined ? {} : { lockSeed: options.seed });
  const { config, tensors } = checkpoint;
  const plan = options.plan ?? acceleratorPlan(config.numHiddenLayers);
  const tokenizer = checkpoint.tokenizer as Readonly<Record<string, Uint8Array>>;
  const tokenizerJson = tokenizer['tokenizer.json'];
  if (tokenizerJson === undefined)
    throw new MalformedError('tokenizer-missing', 'the checkpoint has no tokenizer.json');
  const lock = createScheme(scheme, keys.lockSeed, config);
  const weights = buildSegments(config).flatMap((segment) => segment.weights);
  const bytesTotal = 4 * weights.reduce((sum, weight) => sum + sizeOfWeight(weight), 0);
  let done = 0;
  let bytesDone = 0;
  async function weightOf(weight: SegmentWeight, span: Span): Promise<Float32Array> {
    const locked = await lockWeight(lockForSpan(lock, span), tensors, weight, span.basis);
    done++;
    bytesDone += locked.byteLength;
    onProgress?.({ tensor: weight.name, done, total: weights.length, bytesDone, bytesTotal });
    return locked;
  }
  const bundleId = await writeBundle(outDir, keys, async (folder) => {
    await mkdir(join(folder, 'segments'));
    const segments: BundleSegment[] = [];
    for (const span of spansOf(plan))
      segments.push(await writeSpan(join(folder, 'segments'), span, { lock, keys, config, precision, weightOf }));
    await writeFile(join(folder, SEALED_PART), sealPart({ lockSeed: keys.lockSeed }, keys.bundleKey, scheme, config));
    for (const [name, bytes] of Object.entries(tokenizer)) await writeFile(join(folder, name), bytes);
    return {
      formatVersion: FORMAT_VERSION,
      createdBy: `distillock ${version}`,
      model: { ...config } as unknown as Manifest['model'],
      scheme,
      plan,
      segments,
      ownerKeyId: keyId(keys.signingKey),
      tokenizerSha256: createHash('sha256').update(tokenizerJson).digest('hex'),
    };
  });
  return { bundleId, keys };
}
