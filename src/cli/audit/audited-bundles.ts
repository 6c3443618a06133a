// What an audit attacks: the bundle that was given, or the model locked into every scheme and placement asked for. Zone: owner.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Bundle, openBundle } from '../../edge/bundle.js';
import type { UnlockedModel } from '../../edge/teacher/unlocked-model.js';
import type { Checkpoint } from '../../model/checkpoint/hf-directory.js';
import { openTokenizer } from '../../model/tokenizer.js';
import { compareLocked } from '../../owner/compare-lock.js';
import { checkKeysOfBundle } from '../../owner/keys-of-bundle.js';
import type { LockProgress } from '../../owner/lock-checkpoint.js';
import { loadOwnerKeys, type OwnerKeys } from '../../owner/owner-keys.js';
import { planNamed } from '../../owner/placement.js';
import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import type { Scheme } from '../../trusted/wire/manifest.js';
import { placementOf } from '../describe-plan.js';
import { lockHere, type OwnedBundle } from '../experiment/on-one-machine.js';
import { logProbabilitiesOf, openOwnerModel } from '../owner-model.js';
import { checkSameModel } from '../same-model.js';
import type { Context } from '../verb.js';

export interface AuditedBundle {
  readonly scheme: Scheme;
  readonly placement: string;
  readonly locked: OwnedBundle;
}

/** Tokens that must come out the same before anything is attacked. */
const CHECKED_TOKENS = 96;
/** Nats: rounding of float32 paths, and of int8 inside the enclave. */
const SAME = 1e-3;
const SAME_INT8_KL = 0.1;

/** The bundle as its owner opens it. Throws UnsupportedError('audit-quantized'), MalformedError('lock-keys'). */
export async function openGiven(dir: string, keyFile: string): Promise<{ bundle: Bundle; keys: OwnerKeys }> {
  const keys = await loadOwnerKeys(keyFile);
  const bundle = await openBundle(dir, { ownerKey: keys.signingKey });
  await checkKeysOfBundle(dir, bundle.manifest, keys, keyFile);
  const { quantize } = bundle.manifest;
  if (quantize !== 'none') {
    const message = `${dir} has ${quantize} matrices, which the attacks do not read; audit the same model with the same --scheme and --placement locked without --quantize: integers are those weights rounded, so what is broken there is broken here`;
    throw new UnsupportedError('audit-quantized', message, { bundle: dir, quantize });
  }
  return { bundle, keys };
}

/** Throws MalformedError('model-differs') unless `bundle` says what `model` says on the first tokens of `textFile`. */
export async function checkOriginal(
  bundle: Bundle,
  keys: OwnerKeys,
  plain: UnlockedModel,
  model: string,
  textFile: string,
): Promise<void> {
  await checkSameModel(bundle, plain, model);
  const text = (await readFile(textFile, 'utf8')).slice(0, 32 * CHECKED_TOKENS);
  const ids = (await openTokenizer(plain.tokenizer)).encode(text).slice(0, CHECKED_TOKENS);
  const locked = await openOwnerModel(bundle, keys);
  try {
    const pair = {
      original: logProbabilitiesOf(plain.accelerator),
      locked: locked.logProbabilities,
      vocabSize: plain.config.vocabSize,
    };
    const found = await compareLocked(pair, [ids], { topK: 32, tolerance: SAME });
    const rounds = bundle.manifest.segments.some((part) => part.place === 'enclave' && part.precision === 'int8');
    if (found.equal || (rounds && found.kl <= SAME_INT8_KL)) return;
    const message = `${bundle.dir} was not locked from ${model}: on ${ids.length} tokens their log-probabilities differ by up to ${found.maxDelta.toExponential(1)} nats (KL ${found.kl.toExponential(1)}); name the checkpoint that was locked`;
    throw new MalformedError('model-differs', message, { bundle: bundle.dir, model });
  } finally {
    await locked.close();
  }
}

export function asAudited({ bundle, keys }: { bundle: Bundle; keys: OwnerKeys }): AuditedBundle {
  const { scheme, plan } = bundle.manifest;
  const locked = { bundleDir: bundle.dir, bundleId: bundle.bundleId, keys };
  return { scheme, placement: placementOf(plan), locked };
}

/** Locks `checkpoint` with keys of its own for each; parts inside the enclave compute in float32. */
export async function lockAll(
  checkpoint: Checkpoint,
  schemes: readonly Scheme[],
  placements: readonly string[],
  folder: string,
  context: Context,
): Promise<AuditedBundle[]> {
  // A misspelt one should not wait for the others.
  const plans = placements.map((placement) => planNamed(placement, checkpoint.config.numHiddenLayers));
  const bundles: AuditedBundle[] = [];
  const started = performance.now();
  const progress = context.progress('locking');
  for (const scheme of schemes)
    for (const plan of plans) {
      const inside = join(folder, String(bundles.length));
      const onProgress = ({ stage, bytesDone, bytesTotal }: LockProgress): void => {
        context.signal.throwIfAborted();
        if (stage !== 'lock' || performance.now() - started < 2000) return;
        const total = schemes.length * plans.length * bytesTotal;
        const done = bundles.length * bytesTotal + bytesDone;
        progress.update({ tokens: Math.round(done / 1e6), totalTokens: Math.round(total / 1e6), unit: 'MB' });
      };
      const locked = await lockHere(checkpoint, inside, 'audited', { scheme, plan, precision: 'float32', onProgress });
      bundles.push({ scheme, placement: placementOf(plan), locked });
    }
  progress.stop();
  return bundles;
}
