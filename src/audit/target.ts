// What is attacked: a bundle behind its licensed enclave, or, for controls, the same model without a lock. Zone: owner.
// Attacks see a target and nothing else of the owner's, so the same code runs against both.
import type { Gate } from '../edge/teacher/gate.js';
import { openGate } from '../edge/teacher/gate.js';
import type { LockedTeacher } from '../edge/teacher/locked-teacher.js';
import type { Runner } from '../edge/teacher/pass.js';
import { expectedTensors } from '../model/checkpoint/expected-tensors.js';
import type { DecoderConfig } from '../model/config.js';
import { acceleratorPlan } from '../model/spans.js';
import type { TensorSource } from '../model/tensors.js';
import type { Plan, Scheme } from '../trusted/wire/manifest.js';
import { cloneConfig, type LockedWeights, readLockedWeights } from './locked-weights.js';
import type { OpenBundle } from './open-parts.js';

export interface Target {
  /** `rotation`, `permutation`, or `none` for an unlocked model. */
  readonly scheme: Scheme | 'none';
  /** As on the command line: `accelerator`, `enclave`, `shielded:0,head`. */
  readonly placement: string;
  readonly config: DecoderConfig;
  readonly plan: Plan;
  /** Readable in the bundle. */
  readonly weights: LockedWeights;
  /** Public checkpoint of the same shape that the teacher descends from, or shares an ancestor with, by tensor name. */
  readonly ancestor?: ReadonlyMap<string, Float32Array> | undefined;
  /** Further bundles of the same model that the attacker holds, each locked with secrets of its own. */
  readonly also?: readonly OpenBundle[] | undefined;
  /** Largest k that the licence releases. */
  readonly topK: number;
  readonly runner: Runner;
  /** A licensed session. Throws PolicyError once the budget is used up. */
  session(): Promise<Gate>;
}

/** A licensed bundle: `teacher` must have been unlocked. */
export async function bundleTarget(teacher: LockedTeacher, placement: string, topK: number): Promise<Target> {
  const { bundle } = teacher;
  const { scheme, plan } = bundle.manifest;
  return {
    scheme,
    placement,
    config: bundle.config,
    plan,
    weights: await readLockedWeights(bundle),
    topK,
    runner: await teacher.accelerator(),
    session: () => teacher.gate({ topK, temperature: 1 }),
  };
}

/** Every weight of an unlocked checkpoint, head apart from embedding. */
export async function readWeights(config: DecoderConfig, tensors: TensorSource): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>();
  for (const { name } of expectedTensors(cloneConfig(config))) {
    const tied = name === 'lm_head.weight' && config.tieWordEmbeddings;
    weights.set(name, await tensors.read(tied ? 'model.embed_tokens.weight' : name));
  }
  return weights;
}

/** The control: no lock, no enclave, everything readable. */
export async function unlockedTarget(
  config: DecoderConfig,
  tensors: TensorSource,
  runner: Runner,
  topK: number,
): Promise<Target> {
  const weights = await readWeights(config, tensors);
  const plan = acceleratorPlan(config.numHiddenLayers);
  return {
    scheme: 'none',
    placement: 'accelerator',
    config,
    plan,
    weights,
    topK,
    runner,
    session: async () => openGate,
  };
}
