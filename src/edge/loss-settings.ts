// loss, beta and skew_alpha of a configuration: which divergence they mean, and which of them it uses.
// Zone: edge. The divergences and their parameters are graph/ops/divergence.ts's table.
import { type Divergence, divergenceOf, LOSSES, type LossName } from '../graph/ops/divergence.js';
import { MalformedError } from '../trusted/wire/errors.js';
import type { Config, ConfigName } from './config-keys.js';

const PARAMETERS = ['beta', 'skew_alpha'] as const;

/**
 * Fills in the parameter of the configured loss. `whereGiven` says where a setting was given, null for one that was not. As in
 * TRL, `beta` without `loss` means jsd. Throws MalformedError('setting-unused') for a parameter that the loss does not have.
 */
export function settleLoss(config: Config, whereGiven: (name: ConfigName) => string | null): Config {
  const loss = config.beta !== null && whereGiven('loss') === null ? 'jsd' : config.loss;
  const { parameter } = LOSSES[loss];
  for (const name of PARAMETERS) {
    if (config[name] === null || parameter?.name === name) continue;
    const having = (Object.keys(LOSSES) as LossName[]).filter((other) => LOSSES[other].parameter?.name === name);
    const message = `${whereGiven(name)}: ${name} is no parameter of loss ${loss}; leave it out, or set loss to ${having.join(' or ')}`;
    throw new MalformedError('setting-unused', message, { name, loss });
  }
  return parameter === null
    ? { ...config, loss }
    : { ...config, loss, [parameter.name]: config[parameter.name] ?? parameter.fallback };
}

/** The divergence that a configuration trains with. */
export function divergenceFor({ loss, ...parameters }: Pick<Config, 'loss' | 'beta' | 'skew_alpha'>): Divergence {
  const { parameter } = LOSSES[loss];
  return divergenceOf(loss, parameter === null ? undefined : (parameters[parameter.name] ?? undefined));
}

/** What is minimised, in a line: `0.1 × cross-entropy + 0.9 × 2² × jsd(beta=0.5)`. */
export function describeLoss(config: Config): string {
  const { kd_ratio: ratio, kd_temperature: temperature } = config;
  const square = temperature === 1 ? '' : `${temperature}² × `;
  const share = (part: number): string => (part === 1 ? '' : `${Number(part.toPrecision(6))} × `);
  const parts = [
    ...(ratio < 1 ? [`${share(1 - ratio)}cross-entropy`] : []),
    ...(ratio > 0 ? [`${share(ratio)}${square}${divergenceFor(config).label}`] : []),
  ];
  return parts.join(' + ');
}
