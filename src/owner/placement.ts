// Chooses which parts of a model lie in the enclave, and says why. Zone: owner. DESIGN section 4.
// `auto` never gives up protection against the recorder unless told to: only with everything inside does a recorder of a licensed
// session see nothing but ciphertext and black-box outputs.
import type { DecoderConfig } from '../model/config.js';
import { acceleratorPlan, shieldedPlan, uniformPlan } from '../model/spans.js';
import { activationFloats, buildBlock } from '../model/streamed-graphs.js';
import { MalformedError, PolicyError } from '../trusted/wire/errors.js';
import type { EnclavePrecision, Plan, Scheme } from '../trusted/wire/manifest.js';

export interface PlacementFacts {
  readonly config: DecoderConfig;
  readonly scheme: Scheme;
  /** Matrix products that the device's TEE and accelerator do, in GFLOP/s. */
  readonly teeGflops: number;
  readonly acceleratorGflops: number;
  /** Where the two figures come from, for the explanation. */
  readonly speedSource: string;
  readonly teeMemoryMb: number;
  /** Tokens that the licence will allow; null: not known. */
  readonly budgetTokens: number | null;
  /** A public checkpoint that this one was fine-tuned from exists; null: not known, treated as yes. */
  readonly ancestor: boolean | null;
  /** The owner accepts that a recorder of a licensed session clones the model. */
  readonly acceptRecorder: boolean;
}

export interface Placement {
  readonly plan: Plan;
  readonly precision: EnclavePrecision;
  /** Sentences for the owner. */
  readonly reasons: readonly string[];
}

/** Share of the machine's own speed that a TEE keeps: published cost of a confidential VM 4 to 8 % (arXiv 2509.18886). */
export const TEE_SPEED = 0.94;
export const TEE_SPEED_SOURCE = 'measured on this machine, less 6 % for a TEE as published';

/** An enclave this close to the accelerator's speed, or a job this short, is no reason to give anything up. */
const SPEED_NEAR = 0.8;
const SHORT_HOURS = 0.5;
/** Tokens of the smallest batch an enclave must be able to take. */
const SMALLEST_BATCH = 256;

/** Weights that a token meets in products, without the embedding. */
function productWeights(config: DecoderConfig): { blocks: number; head: number } {
  const { hiddenSize, intermediateSize, numHiddenLayers, numAttentionHeads, numKeyValueHeads, headDim, vocabSize } =
    config;
  const attention = hiddenSize * headDim * (2 * numAttentionHeads + 2 * numKeyValueHeads);
  const block = attention + (config.gatedMlp ? 3 : 2) * hiddenSize * intermediateSize;
  // Behind norms of sublayer outputs, see ForwardOptions.
  const mixing = config.norms === 'pre' ? 0 : 2 * hiddenSize ** 2;
  return { blocks: numHiddenLayers * (block + mixing), head: hiddenSize * vocabSize };
}

/** Trusted bytes for streaming block by block over the smallest batch: two blocks, the batch, and one group's activations. */
export function leastTeeBytes(config: DecoderConfig, precision: EnclavePrecision): number {
  const inputs = buildBlock(config, 0, precision, { denseOutputGains: true }).weights.flatMap(
    (weight) => weight.inputs,
  );
  const bytes = inputs.reduce((sum, { shape, dtype }) => {
    const elements = shape.reduce<number>((product, length) => product * Number(length), 1);
    return sum + elements * (dtype === 'uint8' ? 1 : 4);
  }, 0);
  return 2 * bytes + SMALLEST_BATCH * 4 * (config.hiddenSize + activationFloats(config));
}

function hoursFor(budgetTokens: number, flopsPerToken: number, gflops: number): number {
  return (budgetTokens * flopsPerToken) / (gflops * 1e9) / 3600;
}

/** Everything inside. Throws PolicyError('tee-memory') when not even a block at a time fits. */
function enclavePlacement(facts: PlacementFacts, precision: EnclavePrecision, why: readonly string[]): Placement {
  const { config, teeMemoryMb } = facts;
  const leastMb = Math.ceil(leastTeeBytes(config, precision) / 1e6);
  if (leastMb > teeMemoryMb) {
    const message = `the enclave placement needs ${leastMb} MB of trusted memory, --tee_memory says ${teeMemoryMb}; name a TEE with more, or trade protection against the recorder with --accept_recorder`;
    throw new PolicyError('tee-memory', message, { leastMb, teeMemoryMb });
  }
  const plan = uniformPlan(config.numHiddenLayers, 'enclave');
  const how = `weights stream through ${teeMemoryMb} MB of trusted memory block by block (at least ${leastMb} MB), ${precision}`;
  return { plan, precision, reasons: [...why, how] };
}

/** int8 wants a rotated residual, of which no channel is an outlier, and a width at which products are what takes the time. */
const INT8_LEAST_WIDTH = 256;

function cheapPrecision({ scheme, config }: PlacementFacts): EnclavePrecision {
  return scheme === 'rotation' && config.hiddenSize >= INT8_LEAST_WIDTH ? 'int8' : 'float32';
}

/** `--placement auto`. Throws PolicyError('tee-memory'). */
export function choosePlacement(facts: PlacementFacts): Placement {
  const { config, teeGflops, acceleratorGflops, speedSource, budgetTokens, ancestor, acceptRecorder } = facts;
  const { blocks, head } = productWeights(config);
  const precision = cheapPrecision(facts);
  const ratio = teeGflops / acceleratorGflops;
  const hours = budgetTokens === null ? null : hoursFor(budgetTokens, 2 * (blocks + head), teeGflops);
  const speed = `the enclave does ${Math.round(teeGflops)} GFLOP/s, ${ratio.toFixed(2)} of the accelerator (${speedSource})`;
  const time =
    hours === null
      ? []
      : [`the whole budget of ${budgetTokens} tokens takes it about ${hours.toFixed(2)} hours in float32`];
  if (!acceptRecorder) {
    const why =
      'everything inside: with any part of the model on the accelerator, a recorder of a licensed session can clone it';
    return enclavePlacement(facts, precision, [why, speed, ...time]);
  }
  if (ratio >= SPEED_NEAR || (hours !== null && hours <= SHORT_HOURS)) {
    const why = 'everything inside although the recorder was accepted: it costs too little time to give anything up';
    return enclavePlacement(facts, precision, [why, speed, ...time]);
  }
  const reasons = [
    'embedding and head inside, blocks on the accelerator: the recorder of a licensed session can clone the model (--accept_recorder)',
    'a copy of the bundle alone holds no vocabulary, so it is no mere substitution cipher',
    ancestor === false
      ? 'no public ancestor exists that locked blocks could be matched against'
      : 'a public ancestor may exist: locked blocks can be matched against it',
    speed,
    ...time,
  ];
  return { plan: shieldedPlan(config.numHiddenLayers, ['embedding', 'head']), precision: 'float32', reasons };
}

/**
 * What `--placement` names: `auto`, `accelerator`, `enclave`, or `shielded:` with parts by name or block number.
 * Throws MalformedError('placement' | 'plan-part') or PolicyError('tee-memory').
 */
export function parsePlacement(text: string, facts: PlacementFacts): Placement {
  const { config } = facts;
  if (text === 'auto') return choosePlacement(facts);
  if (text === 'enclave') return enclavePlacement(facts, cheapPrecision(facts), ['as asked: everything inside']);
  const plan = planNamed(text, config.numHiddenLayers);
  const reason =
    text === 'accelerator'
      ? 'as asked: everything on the accelerator; a recorder of a licensed session can clone the model'
      : 'as asked: the named parts inside; a recorder of a licensed session can still clone the model';
  return { plan, precision: 'float32', reasons: [reason] };
}

/** The plan of `accelerator`, `enclave` or `shielded:PARTS`. Throws MalformedError('placement' | 'plan-part'). */
export function planNamed(text: string, blocks: number): Plan {
  if (text === 'accelerator') return acceleratorPlan(blocks);
  if (text === 'enclave') return uniformPlan(blocks, 'enclave');
  const parts = /^shielded:(.+)$/.exec(text)?.[1]?.split(',');
  if (parts === undefined) {
    const message = `placement "${text}" is not auto, accelerator, enclave or shielded:PART,PART…`;
    throw new MalformedError('placement', message, { placement: text });
  }
  return shieldedPlan(blocks, parts);
}
