// The table of model families this version computes.
// Zone: edge and owner.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import type { Family } from './family.js';
import { llama } from './llama.js';
import { mistral } from './mistral.js';
import { qwen2 } from './qwen2.js';

export const families: readonly Family[] = [llama, mistral, qwen2];

/** Throws UnsupportedError that lists the known families. */
export function familyOf(modelType: string, file: string): Family {
  const family = families.find((candidate) => candidate.modelType === modelType);
  if (family !== undefined) return family;
  const known = families.map((candidate) => candidate.modelType).join(', ');
  throw new UnsupportedError(
    'architecture-unsupported',
    `${file}: "model_type" is "${modelType}"; supported are ${known}.`,
    {
      file,
      key: 'model_type',
      modelType,
    },
  );
}
