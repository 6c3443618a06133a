// `--ancestor`: the weights of a public checkpoint that the audited model descends from, or of a relative. Zone: owner (as attacker).
import { readWeights } from '../../audit/target.js';
import { openCheckpoint } from '../../model/checkpoint/open.js';
import type { DecoderConfig } from '../../model/config.js';
import { MalformedError } from '../../trusted/wire/errors.js';

const SHAPE = ['modelType', 'vocabSize', 'hiddenSize', 'intermediateSize', 'numHiddenLayers', 'headDim'] as const;

/** Throws MalformedError('audit-ancestor') when its shape is another than that of the model. */
export async function readAncestor(source: string, config: DecoderConfig): Promise<Map<string, Float32Array>> {
  const { config: found, tensors } = await openCheckpoint(source);
  try {
    checkShape(found, config, 'audit-ancestor', `${source} is no ancestor of this model`);
    return await readWeights(found, tensors);
  } finally {
    await tensors.close();
  }
}

/** Throws MalformedError(`code`) with `message` and what differs. */
export function checkShape(found: DecoderConfig, config: DecoderConfig, code: string, message: string): void {
  const differs = SHAPE.find((key) => found[key] !== config[key]);
  if (differs !== undefined)
    throw new MalformedError(code, `${message}: ${differs} is ${found[differs]} there and ${config[differs]} here`);
}
