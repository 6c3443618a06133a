// What the command line writes to: two streams, whether they are a terminal, whether colour is wanted.
import { styleText } from 'node:util';

export interface OutputStream {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

export type Style = Parameters<typeof styleText>[0];

/** NO_COLOR and TERM=dumb switch colour off, FORCE_COLOR on; otherwise a terminal has it (https://no-color.org). */
export function wantsColour(stream: OutputStream, env: NodeJS.ProcessEnv): boolean {
  if ((env.NO_COLOR ?? '') !== '') return false;
  if ((env.FORCE_COLOR ?? '0') !== '0') return true;
  return stream.isTTY === true && env.TERM !== 'dumb';
}

/** `text` in a style where colour is wanted. */
export function paint(colour: boolean, style: Style, text: string): string {
  // Newer runtimes look at stdout themselves; wantsColour has decided already.
  return colour ? styleText(style, text, { validateStream: false }) : text;
}

/** 12345.6 → 12,346; below 100 with the decimals that matter. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) || Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US');
  return value === 0 || Math.abs(value) >= 1e-3 ? String(Number(value.toPrecision(4))) : value.toExponential(2);
}

/** 65 → 1:05; 3700 → 1:01:40. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] === 0 ? parts.slice(1) : parts;
  return shown.map((part, i) => (i === 0 ? String(part) : String(part).padStart(2, '0'))).join(':');
}

/** 1536 → 1.5 KiB. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
