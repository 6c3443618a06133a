// One rule of an appraisal: what the policy wants, what the evidence says, and whether they agree. Zone: owner (verifier).
import type { MaskedPin, Pin } from './policy.js';

export interface Rule {
  /** Stable; also the code of the PolicyError when the rule fails. */
  readonly code: string;
  /** For a reader: which fact this is about. */
  readonly fact: string;
  readonly expected: string;
  readonly actual: string;
  /** `unchecked`: the evidence cannot answer. Appraisal refuses it like a failure. */
  readonly verdict: 'pass' | 'fail' | 'unchecked';
}

export function rule(code: string, fact: string, expected: string, actual: string, holds: boolean): Rule {
  return { code, fact, expected, actual, verdict: holds ? 'pass' : 'fail' };
}

export function unchecked(code: string, fact: string, expected: string, why: string): Rule {
  return { code, fact, expected, actual: why, verdict: 'unchecked' };
}

/** `actual` must be among the pinned values. */
export function pinned(code: string, fact: string, pin: Pin, actual: string): Rule {
  return rule(code, fact, describePin(pin), actual, pin === 'any' || pin.includes(actual));
}

export function atLeast(code: string, fact: string, least: number, actual: number): Rule {
  return rule(code, fact, `at least ${least}`, String(actual), actual >= least);
}

/** The bits of the mask must have the pinned values. */
export function masked(code: string, fact: string, pin: MaskedPin | 'any', actual: string): Rule {
  if (pin === 'any') return rule(code, fact, 'any', actual, true);
  const bits = (hex: string): bigint => BigInt(`0x${hex}`) & BigInt(`0x${pin.mask}`);
  const whole = /^f+$/.test(pin.mask);
  const expected = whole ? pin.value : `${pin.value} under the mask ${pin.mask}`;
  return rule(code, fact, expected, actual, bits(actual) === bits(pin.value));
}

/** What no policy can allow. */
export function never(code: string, fact: string, present: boolean): Rule {
  return rule(code, fact, 'no', present ? 'yes' : 'no', !present);
}

export function permitted(code: string, fact: string, allowed: boolean, present: boolean): Rule {
  return rule(code, fact, allowed ? 'any' : 'no', present ? 'yes' : 'no', allowed || !present);
}

function describePin(pin: Pin): string {
  if (pin === 'any') return 'any';
  return pin.length === 1 ? pin[0]! : pin.length === 0 ? 'none' : `one of ${pin.join(', ')}`;
}
