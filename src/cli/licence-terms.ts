// What a licence allows when the owner does not say otherwise: the same for `grant` and `licence issue`.
import { UsageError } from './errors.js';
import { expiryDate, realNumber } from './options.js';

export const TERM_DEFAULTS = {
  topK: 64,
  precision: 'float32',
  minTemperature: 0.5,
  maxTemperature: 4,
  expires: '30d',
} as const;

export interface TemperatureRange {
  readonly min: number;
  readonly max: number;
}

/** For commander: `0.5:4`, or one number for both ends. */
export function temperatureRange(text: string): TemperatureRange {
  const number = realNumber(0, 1000);
  const [min = '', max = min, ...rest] = text.split(':');
  if (rest.length > 0) number('');
  return orderedRange(number(min), number(max), `--temperature ${text}`);
}

/** Throws UsageError when it ends before it begins. */
export function orderedRange(min: number, max: number, given: string): TemperatureRange {
  if (min > max) throw new UsageError('usage', `${given}: the lowest temperature is above the highest`);
  return { min, max };
}

/** Throws UsageError for a moment that has passed. */
export function futureDate(date: Date): Date {
  if (date.getTime() > Date.now()) return date;
  throw new UsageError('usage', `--expires ${date.toISOString()} is in the past`);
}

export function defaultExpiry(): Date {
  return expiryDate(TERM_DEFAULTS.expires);
}

/** Unix seconds as a time without fractions. */
export function showTime(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(/\.\d+Z$/, 'Z');
}
