// Transforms that a family does not commute with, so that its locks do without them. Zone: owner. DESIGN section 3.
import type { DecoderConfig } from '../../model/config.js';
import type { Scheme } from '../../trusted/wire/manifest.js';

/** One line each: the transform, and why it is left out. Empty for `permutation`, whose two changes every family takes. */
export function leftOutOf(scheme: Scheme, config: DecoderConfig): string[] {
  if (scheme === 'permutation') return [];
  const left: string[] = [];
  if (config.qkNorm !== null)
    left.push(`query/key pairs: ${config.modelType} normalises queries and keys, which does not commute with them`);
  if (!config.gatedMlp)
    left.push(`neuron scales: ${config.modelType} has no gate, and they do not pass its activation`);
  return left;
}
