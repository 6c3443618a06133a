// A placement plan in words. Zone: all.
import { hasOpenMatrices } from '../model/spans.js';
import type { Plan, Quantization } from '../trusted/wire/manifest.js';
import { formatNumber } from './terminal.js';

/** How the accelerator's matrices are stored, as a row of a table; none where it has none. `tokens` of calibration text, or null. */
export function matricesRow(plan: Plan, quantize: Quantization, tokens: number | null): [string, string][] {
  if (!hasOpenMatrices(plan)) return [];
  if (quantize === 'none') return [['matrices', 'float32 on the accelerator']];
  const rounding = tokens === null ? 'to the nearest value' : `by GPTQ on ${formatNumber(tokens)} tokens of text`;
  return [['matrices', `${quantize} on the accelerator, rounded ${rounding}`]];
}

export function usesEnclave({ embedding, blocks, head }: Plan): boolean {
  return [embedding, ...blocks, head].includes('enclave');
}

/** Consecutive block numbers as ranges: `0, 2-4`. */
function ranges(numbers: readonly number[]): string[] {
  const runs: [number, number][] = [];
  for (const n of numbers) {
    const last = runs.at(-1);
    if (last !== undefined && last[1] === n - 1) last[1] = n;
    else runs.push([n, n]);
  }
  return runs.map(([first, end]) => (first === end ? String(first) : `${first}-${end}`));
}

/** As `--placement` spells it. */
export function placementOf({ embedding, blocks, head }: Plan): string {
  const parts: [string, Plan['head']][] = [
    ['embedding', embedding],
    ...blocks.map((place, i): [string, Plan['head']] => [String(i), place]),
    ['head', head],
  ];
  const inside = parts.flatMap(([name, place]) => (place === 'enclave' ? [name] : []));
  if (inside.length === 0) return 'accelerator';
  return inside.length === parts.length ? 'enclave' : `shielded:${inside.join(',')}`;
}

export function describePlan({ embedding, blocks, head }: Plan): string {
  const all = `embedding, ${blocks.length} blocks, head`;
  const numbers = blocks.flatMap((place, i) => (place === 'enclave' ? [i] : []));
  const parts = [embedding, ...blocks, head].filter((place) => place === 'enclave').length;
  if (parts === 0) return `${all}: accelerator`;
  if (parts === blocks.length + 2) return `${all}: enclave`;
  const inside = [
    ...(embedding === 'enclave' ? ['embedding'] : []),
    ...(numbers.length === 0 ? [] : [`${numbers.length === 1 ? 'block' : 'blocks'} ${ranges(numbers).join(', ')}`]),
    ...(head === 'enclave' ? ['head'] : []),
  ];
  return `${all}; in the enclave: ${inside.join(', ')}; the rest on the accelerator`;
}
