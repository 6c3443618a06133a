// Locks a checkpoint into a bundle: each weight is read, laid out, locked and written before the next. Zone: owner. DESIGN sections 3 and 5.
// The same keys and checkpoint give the same bundle, byte for byte.

import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { DecoderConfig } from '../model/config.js';
import { equaliseNeurons } from '../model/equalise-neurons.js';
import { buildSegment, buildSegments } from '../model/segments.js';
import { acceleratorPlan, hasOpenMatrices, type Span, spansOf } from '../model/spans.js';
import { fingerprintOf, type TensorSource } from '../model/tensors.js';
import type { WeightTile } from '../model/weight-tiles.js';
import { type SegmentWeight, sizeOfWeight } from '../model/weights.js';
import { vocabularyPermutation } from '../trusted/lock/vocabulary.js';
import { MalformedError, UnsupportedError } from '../trusted/wire/errors.js';
import { keyId } from '../trusted/wire/jws.js';
import {
  type BundleSegment,
  type EnclavePrecision,
  FORMAT_VERSION,
  type Manifest,
  type Plan,
  type Quantization,
  type Scheme,
  SEALED_PART,
} from '../trusted/wire/manifest.js';
import { type ManifestDraft, writeBundle } from './bundle-writer.js';
import { CalibratedWeights } from './calibrated-weights.js';
import { calibrationStateIn } from './calibration-state.js';
import type { LockJournal } from './lock-journal.js';
import { createOwnerKeys, type OwnerKeys } from './owner-keys.js';
import { encodeRounding, ROUNDING_FILE } from './rounding-record.js';
import { createScheme } from './scheme/lock-scheme.js';
import { lockedTiles, lockWeight } from './scheme/lock-weight.js';
import { basisChange, lockForSpan } from './scheme/span-lock.js';
import { sealPart } from './seal-parts.js';
import { gainsOf, itemOf, writeSpan } from './span-writer.js';

export interface LockProgress {
  /** Weights are locked and written, then the files of the bundle are hashed. */
  readonly stage: 'lock' | 'hash';
  /** The weight at work; empty while hashing. */
  readonly tensor: string;
  /** Weights done and in total. */
  readonly done: number;
  readonly total: number;
  /** Of the stage. The first report of a lock that goes on has what was done before. */
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
  /** Quantises the accelerator's matrices after they are locked; `none` when absent. */
  readonly quantize?: Quantization;
  /**
   * Token sequences of equal length of the owner's text: matrices are rounded so that what they put out on it changes least. Each to its
   * nearest code when absent. Only with `quantize`.
   */
  readonly calibration?: readonly Int32Array[];
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

/** Quantising needs a matrix on the accelerator: enclave-held parts have their own `precision`, and the embedding stays float32. */
function refuseIdleQuantize(plan: Plan, quantize: Quantization, calibration: LockOptions['calibration']): void {
  if (quantize === 'none' && calibration !== undefined)
    throw new UnsupportedError('calibration-idle', 'calibration text is for quantize int8 or int4', {});
  if (quantize === 'none' || hasOpenMatrices(plan)) return;
  const message = `--quantize ${quantize} is for blocks and head on the accelerator, and this plan has none there: leave it out and choose --enclave_precision, or another --placement`;
  throw new UnsupportedError('quantize-enclave', message, { quantize });
}

/**
 * Peak memory: a few tiles and tensors of a block, see scheme/lock-weight.ts; with `quantize` the largest matrix, a few times; with
 * `calibration` also a block in float32 and the hidden states of the text. A lock that was killed, interrupted or ran out of disk goes on with the same `keys` and everything else the same. Throws EnvironmentError('bundle-exists', 'disk-full', 'lock-unfinished',
 * 'run-locked'), or the checkpoint's MalformedError, which leaves nothing behind.
 */
export async function lockModel(options: LockOptions): Promise<LockedBundle> {
  const {
    checkpoint,
    outDir,
    scheme = 'rotation',
    precision = 'float32',
    quantize = 'none',
    calibration,
    onProgress,
  } = options;
  const keys = options.keys ?? createOwnerKeys(options.seed === undefined ? {} : { lockSeed: options.seed });
  const { config, tensors } = checkpoint;
  const plan = options.plan ?? acceleratorPlan(config.numHiddenLayers);
  refuseIdleQuantize(plan, quantize, calibration);
  const tokenizer = checkpoint.tokenizer as Readonly<Record<string, Uint8Array>>;
  const tokenizerJson = tokenizer['tokenizer.json'];
  if (tokenizerJson === undefined)
    throw new MalformedError('tokenizer-missing', 'the checkpoint has no tokenizer.json');
  const lock = createScheme(scheme, keys.lockSeed, config, { quantised: quantize !== 'none' });
  const vocabulary = vocabularyPermutation(keys.lockSeed, scheme, config.vocabSize);
  const spans = spansOf(plan);
  const weights = buildSegments(config, gainsOf(lock)).flatMap((segment) => segment.weights);
  await probeTensors(tensors, weights);
  const bytesTotal = 4 * weights.reduce((sum, weight) => sum + sizeOfWeight(weight), 0);
  let done = 0;
  let bytesDone = 0;
  const report = (stage: LockProgress['stage'], tensor: string, bytes = bytesDone): void =>
    onProgress?.({ stage, tensor, done, total: weights.length, bytesDone: bytes, bytesTotal });
  const lockedOf = (weight: SegmentWeight, span: Span): Promise<Float32Array> =>
    lockWeight(lockForSpan(lock, span), tensors, weight, span.basis);
  const evened = spans.map((span) => {
    const own = (weight: SegmentWeight): Promise<Float32Array> => lockedOf(weight, span);
    // The secret stretches of neurons would cost bits: they are evened out again, as anybody could who holds the bundle.
    if (quantize === 'none' || span.place === 'enclave') return own;
    return equaliseNeurons(buildSegment(config, span, gainsOf(lock)).weights, own);
  });
  const wholeOf = (weight: SegmentWeight, span: Span): Promise<Float32Array> => evened[span.index]!(weight);
  const tilesOf = (weight: SegmentWeight, span: Span, tile?: number): AsyncIterable<WeightTile> =>
    followed(weight, lockedTiles(lockForSpan(lock, span), tensors, weight, span.basis, tile ? { tile } : {}));
  async function* followed(weight: SegmentWeight, tiles: AsyncIterable<WeightTile>): AsyncGenerator<WeightTile> {
    for await (const tile of tiles) {
      yield tile;
      bytesDone += tile.data.byteLength;
      report('lock', weight.name);
    }
    done++;
    report('lock', weight.name);
  }
  const finished = (weight: SegmentWeight): void => {
    bytesDone += 4 * sizeOfWeight(weight);
    done++;
    report('lock', weight.name);
  };
  const fill = async (folder: string, journal: LockJournal): Promise<ManifestDraft> => {
    const before = spans
      .filter(({ place }) => place === 'accelerator')
      .flatMap((span) =>
        buildSegment(config, span, gainsOf(lock)).weights.filter((weight) => journal.has(itemOf(span, weight))),
      );
    done = before.length;
    bytesDone = 4 * before.reduce((sum, weight) => sum + sizeOfWeight(weight), 0);
    if (done > 0) report('lock', before.at(-1)!.name);
    const inside = join(folder, 'segments');
    await mkdir(inside, { recursive: true });
    const segments: BundleSegment[] = [];
    const state = calibrationStateIn(folder);
    const calibrated =
      calibration === undefined
        ? null
        : new CalibratedWeights({
            config,
            spans,
            bits: quantize === 'int8' ? 8 : 4,
            ...gainsOf(lock),
            sequences: calibration,
            weightOf: wholeOf,
            embeddingTiles: (weight, span) => lockedTiles(lockForSpan(lock, span), tensors, weight, span.basis),
            rowOf: (token, { place }) => (place === 'enclave' ? token : vocabulary[token]!),
            exitChange: (span) => basisChange(lock, config.hiddenSize, span),
            // Without the keys nobody can go on with this lock.
            ...(options.keys === undefined ? {} : { state }),
            onStep: () => report('lock', ''),
          });
    const common = { folder: inside, config, keys, precision, quantize, lock, journal };
    const write = { ...common, tilesOf, wholeOf, calibrated, followed, finished };
    try {
      for (const span of spans) segments.push(await writeSpan(span, write));
    } finally {
      await calibrated?.close();
    }
    await state.clear();
    if (calibrated !== null)
      await writeFile(join(folder, ROUNDING_FILE), encodeRounding({ method: 'gptq', tokens: tokensOf(calibration!) }));
    await writeFile(join(folder, SEALED_PART), sealPart({ lockSeed: keys.lockSeed }, keys.bundleKey, scheme, config));
    for (const [name, bytes] of Object.entries(tokenizer)) await writeFile(join(folder, name), bytes);
    return {
      formatVersion: FORMAT_VERSION,
      createdBy: `distillock ${version}`,
      model: { ...config } as unknown as Manifest['model'],
      scheme,
      quantize,
      plan,
      segments,
      ownerKeyId: keyId(keys.signingKey),
      tokenizerSha256: createHash('sha256').update(tokenizerJson).digest('hex'),
    };
  };
  const facts = {
    checkpoint: await digestCheckpoint(checkpoint),
    keys: digestKeys(keys),
    scheme,
    placement: JSON.stringify(plan),
    precision,
    quantize,
    calibration: calibration === undefined ? 'none' : digestSequences(calibration),
    version,
  };
  const bundleId = await writeBundle({
    outDir,
    keys,
    facts,
    resumable: options.keys !== undefined,
    fill,
    onHashed: (bytes) => report('hash', '', Math.min(bytes, bytesTotal)),
  });
  return { bundleId, keys };
}

/** Reads a row of every tensor: a format that cannot be read is known before hours of work. */
async function probeTensors(tensors: TensorSource, weights: readonly SegmentWeight[]): Promise<void> {
  for (const { tensor } of weights.flatMap(({ parts }) => parts)) {
    if (tensors.info(tensor).shape.length > 1) await tensors.readRows?.(tensor, 0, 1);
  }
}

async function digestCheckpoint({ config, tensors, tokenizer }: LockOptions['checkpoint']): Promise<string> {
  const hash = createHash('sha256')
    .update(JSON.stringify(config))
    .update(await fingerprintOf(tensors));
  for (const [name, bytes] of Object.entries(tokenizer as Readonly<Record<string, Uint8Array>>))
    hash.update(name).update(bytes);
  return hash.digest('hex');
}

function tokensOf(sequences: readonly Int32Array[]): number {
  return sequences.reduce((sum, { length }) => sum + length, 0);
}

function digestSequences(sequences: readonly Int32Array[]): string {
  const hash = createHash('sha256');
  for (const ids of sequences)
    hash.update(`${ids.length}\n`).update(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
  return hash.digest('hex');
}

/** One way: two of the keys are secret and random. */
function digestKeys({ signingKey, bundleKey, lockSeed }: OwnerKeys): string {
  const hash = createHash('sha256').update('distillock lock journal');
  return hash.update(signingKey).update(bundleKey).update(lockSeed).digest('hex');
}
