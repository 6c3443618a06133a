// Locks a checkpoint into a bundle: each weight is read, laid out, locked and written before the next. Zone: owner. DESIGN sections 3 and 5.
// The same keys and checkpoint give the same bundle, byte for byte.

import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { DecoderConfig } from '../model/config.js';
import { equaliseNeurons } from '../model/equalise-neurons.js';
import { writeSegments } from '../model/segment-weights.js';
import { buildSegments, type SegmentWeight, sizeOfWeight } from '../model/segments.js';
import type { TensorSource } from '../model/tensors.js';
import { sealPart } from '../trusted/lock/sealed-part.js';
import { MalformedError } from '../trusted/wire/errors.js';
import { keyId } from '../trusted/wire/jws.js';
import {
  FORMAT_VERSION,
  type Manifest,
  type Plan,
  type Quantization,
  type Scheme,
  SEALED_PART,
} from '../trusted/wire/manifest.js';
import { writeBundle } from './bundle-writer.js';
import { createOwnerKeys, type OwnerKeys } from './owner-keys.js';
import { createScheme } from './scheme/lock-scheme.js';
import { lockWeight } from './scheme/lock-weight.js';

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
  /** Quantises the accelerator's matrices after they are locked; `none` when absent. */
  readonly quantize?: Quantization;
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

const formats = { none: 'float32', int8: 'block8', int4: 'block4' } as const;

/** Everything on the accelerator: the one placement that exists so far. */
function acceleratorPlan(config: DecoderConfig): Plan {
  const blocks = Array.from({ length: config.numHiddenLayers }, () => 'accelerator' as const);
  return { embedding: 'accelerator', blocks, head: 'accelerator' };
}

/**
 * Peak memory: about three times the largest weight. Throws EnvironmentError('bundle-exists', 'disk-full'), or the checkpoint's
 * MalformedError; then nothing is left in `outDir`.
 */
export async function lockModel(options: LockOptions): Promise<LockedBundle> {
  const { checkpoint, outDir, scheme = 'rotation', quantize = 'none', onProgress } = options;
  const keys = options.keys ?? createOwnerKeys(options.seed === undefined ? {} : { lockSeed: options.seed });
  const { config, tensors } = checkpoint;
  const tokenizer = checkpoint.tokenizer as Readonly<Record<string, Uint8Array>>;
  const tokenizerJson = tokenizer['tokenizer.json'];
  if (tokenizerJson === undefined)
    throw new MalformedError('tokenizer-missing', 'the checkpoint has no tokenizer.json');
  const lock = createScheme(scheme, keys.lockSeed, config, { quantised: quantize !== 'none' });
  const segments = buildSegments(config, formats[quantize]);
  const weights = segments.flatMap((segment) => segment.weights);
  const bytesTotal = 4 * weights.reduce((sum, weight) => sum + sizeOfWeight(weight), 0);
  let done = 0;
  let bytesDone = 0;
  const lockOne = (weight: SegmentWeight): Promise<Float32Array> => lockWeight(lock, tensors, weight, 0);
  // The secret stretches of neurons would cost bits: they are evened out again, as anybody could who holds the bundle.
  const weightOf = quantize === 'none' ? lockOne : equaliseNeurons(weights, lockOne);
  async function lockedWeight(weight: SegmentWeight): Promise<Float32Array> {
    const locked = await weightOf(weight);
    done++;
    bytesDone += locked.byteLength;
    onProgress?.({ tensor: weight.name, done, total: weights.length, bytesDone, bytesTotal });
    return locked;
  }
  const bundleId = await writeBundle(outDir, keys, async (folder) => {
    const files = await writeSegments(join(folder, 'segments'), segments, lockedWeight);
    await writeFile(join(folder, SEALED_PART), sealPart({ lockSeed: keys.lockSeed }, keys.bundleKey, scheme, config));
    for (const [name, bytes] of Object.entries(tokenizer)) await writeFile(join(folder, name), bytes);
    return {
      formatVersion: FORMAT_VERSION,
      createdBy: `distillock ${version}`,
      model: { ...config } as unknown as Manifest['model'],
      scheme,
      quantize,
      plan: acceleratorPlan(config),
      segments: segments.map(({ name }, i) => {
        return { name, graph: `segments/${files[2 * i]}`, data: `segments/${files[2 * i + 1]}` };
      }),
      ownerKeyId: keyId(keys.signingKey),
      tokenizerSha256: createHash('sha256').update(tokenizerJson).digest('hex'),
    };
  });
  return { bundleId, keys };
}
