// Rotary settings of a config.json: `rope_theta` with `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5).
// Zone: edge and owner. Plain, linear and llama3 scaling; any other type is refused by name.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import type { DecoderConfig, RopeScaling } from '../config.js';
import type { JsonFields } from './json-fields.js';

type RopeConfig = Pick<DecoderConfig, 'ropeTheta' | 'ropeScaling'>;

/** Both styles; where both are present `rope_parameters` wins, as in transformers 5. */
export function parseRope(fields: JsonFields, maxPositionEmbeddings: number, defaultTheta = 10000): RopeConfig {
  const parameters = fields.nested('rope_parameters') ?? fields.nested('rope_scaling');
  const ropeTheta =
    parameters?.get('rope_theta') === undefined
      ? fields.positive('rope_theta', defaultTheta)
      : parameters.positive('rope_theta');
  for (const level of parameters === undefined ? [fields] : [fields, parameters]) {
    if (level.positive('partial_rotary_factor', 1) !== 1) {
      throw unsupported(level, 'partial_rotary_factor', 'rotary embeddings over part of a head are not supported');
    }
  }
  return { ropeTheta, ropeScaling: parameters === undefined ? null : parseScaling(parameters, maxPositionEmbeddings) };
}

/** The scaling of one set of rotary settings. Throws UnsupportedError for a type not built here. */
export function parseScaling(fields: JsonFields, maxPositionEmbeddings: number): RopeScaling | null {
  const key = fields.get('rope_type') === undefined ? 'type' : 'rope_type';
  const type = fields.text(key, 'default');
  switch (type) {
    case 'default':
      return null;
    case 'linear':
      return { type, factor: fields.positive('factor') };
    case 'llama3':
      return {
        type,
        factor: fields.positive('factor'),
        lowFreqFactor: fields.positive('low_freq_factor'),
        highFreqFactor: fields.positive('high_freq_factor'),
        originalMaxPositionEmbeddings: fields.count('original_max_position_embeddings', maxPositionEmbeddings),
      };
    default:
      throw unsupported(fields, key, 'supported are default, linear and llama3');
  }
}

function unsupported(fields: JsonFields, key: string, what: string): UnsupportedError {
  const name = `${fields.prefix}${key}`;
  return new UnsupportedError(
    'rope-unsupported',
    `${fields.file}: "${name}" is ${JSON.stringify(fields.get(key))}; ${what}.`,
    {
      file: fields.file,
      key: name,
    },
  );
}

/** The transformers 4 style, which transformers 5 reads as well. */
export function ropeToHf({ ropeTheta, ropeScaling }: RopeConfig): Record<string, unknown> {
  if (ropeScaling === null) return { rope_theta: ropeTheta, rope_scaling: null };
  if (ropeScaling.type === 'linear') {
    return { rope_theta: ropeTheta, rope_scaling: { rope_type: 'linear', type: 'linear', factor: ropeScaling.factor } };
  }
  return {
    rope_theta: ropeTheta,
    rope_scaling: {
      rope_type: 'llama3',
      factor: ropeScaling.factor,
      low_freq_factor: ropeScaling.lowFreqFactor,
      high_freq_factor: ropeScaling.highFreqFactor,
      original_max_position_embeddings: ropeScaling.originalMaxPositionEmbeddings,
    },
  };
}
