// Reading option values: numbers with a range, dates, all with an error that names the option.
import { InvalidArgumentError } from 'commander';

/** For commander: a whole number in [least, most]. */
export function wholeNumber(least: number, most: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text.replaceAll('_', ''));
    if (text.trim() !== '' && Number.isSafeInteger(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(
      `Give a whole number from ${least}${most === Number.MAX_SAFE_INTEGER ? '' : ` to ${most}`}.`,
    );
  };
}

/** For commander: a number in [least, most]. */
export function realNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Give a number from ${least} to ${most}.`);
  };
}

/** For commander: `2027-01-31`, a full ISO time, or `30d` from now. */
export function expiryDate(text: string): Date {
  const days = /^(\d{1,5})d$/.exec(text)?.[1];
  const date = days === undefined ? new Date(text) : new Date(Date.now() + Number(days) * 86_400_000);
  if (!Number.isNaN(date.getTime()) && (days !== undefined || /^\d{4}-\d{2}-\d{2}/.test(text))) return date;
  throw new InvalidArgumentError('Give a date such as 2027-01-31, or a number of days such as 30d.');
}

/** For commander: 32 bytes in hex. */
export function nonceBytes(text: string): Uint8Array {
  if (/^[0-9a-fA-F]{64}$/.test(text)) return new Uint8Array(Buffer.from(text, 'hex'));
  throw new InvalidArgumentError('Give 32 bytes as 64 hex digits, for instance from `openssl rand -hex 32`.');
}

/** For commander: Unix seconds, or an ISO date or time, in UTC unless it says otherwise. */
export function unixTime(text: string): number {
  if (/^\d{1,12}$/.test(text)) return Number(text);
  const zone = /T[\d:.]+$/.test(text) ? 'Z' : '';
  const seconds = Math.floor(Date.parse(text + zone) / 1000);
  if (/^\d{4}-\d{2}-\d{2}/.test(text) && Number.isSafeInteger(seconds) && seconds >= 0) return seconds;
  throw new InvalidArgumentError('Give Unix seconds, or a time such as 2025-07-04T10:00:00Z.');
}
