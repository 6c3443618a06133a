// The model's public shape as manifest.json gives it, checked field by field. Zone: edge.
import { z } from 'zod';
import type { DecoderConfig } from '../model/config.js';
import { families } from '../model/families/index.js';
import { MalformedError } from '../trusted/wire/errors.js';
import type { Manifest } from '../trusted/wire/manifest.js';

const count = z.int().positive();
const token = z.int().nonnegative();
const ropeScaling = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('linear'), factor: z.number().positive() }),
  z.strictObject({
    type: z.literal('llama3'),
    factor: z.number().positive(),
    lowFreqFactor: z.number().positive(),
    highFreqFactor: z.number().positive(),
    originalMaxPositionEmbeddings: count,
  }),
]);
const schema = z.strictObject({
  modelType: z.enum(families.map((family) => family.modelType)),
  vocabSize: count,
  hiddenSize: count,
  intermediateSize: count,
  numHiddenLayers: count,
  numAttentionHeads: count,
  numKeyValueHeads: count,
  headDim: count,
  rmsNormEps: z.number().positive(),
  ropeTheta: z.number().positive(),
  ropeScaling: ropeScaling.nullable(),
  maxPositionEmbeddings: count,
  slidingWindow: count.nullable(),
  qkvBias: z.boolean(),
  outputBias: z.boolean(),
  mlpBias: z.boolean(),
  tieWordEmbeddings: z.boolean(),
  bosTokenId: token.nullable(),
  eosTokenIds: z.array(token),
  padTokenId: token.nullable(),
  initializerRange: z.number().nonnegative(),
  slidingBlocks: z.array(z.boolean()).nullable(),
  localRopeTheta: z.number().positive().nullable(),
  positions: z.enum(['rope', 'learned']),
  norms: z.enum(['pre', 'post', 'both']),
  qkNorm: z.enum(['head', 'width']).nullable(),
  activation: z.enum(['silu', 'gelu']),
  gatedMlp: z.boolean(),
  attentionScale: z.number().positive().nullable(),
  attentionSoftCap: z.number().positive().nullable(),
  finalSoftCap: z.number().positive().nullable(),
  headBias: z.boolean(),
});

/** Throws MalformedError('manifest-model') naming the first field that is missing, unknown or out of range. */
export function configOfManifest(manifest: Manifest): DecoderConfig {
  const parsed = schema.safeParse(manifest.model);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const key = issue?.path.join('.') ?? '';
  throw new MalformedError('manifest-model', `manifest.json: model.${key}: ${issue?.message ?? 'invalid'}`, { key });
}
