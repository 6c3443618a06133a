// The table of model families this version computes.
// Zone: edge and owner.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import type { Family } from './family.js';
import { gemma3Text } from './gemma3_text.js';
import { gpt2 } from './gpt2.js';
import { llama } from './llama.js';
import { mistral } from './mistral.js';
import { olmo2 } from './olmo2.js';
import { phi3 } from './phi3.js';
import { qwen2 } from './qwen2.js';
import { qwen3 } from './qwen3.js';

export const families: readonly Family[] = [llama, mistral, qwen2, qwen3, gemma3Text, phi3, gpt2, olmo2];

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
