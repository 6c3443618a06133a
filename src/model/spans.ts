// A placement plan as spans: runs of parts that one side computes without a crossing. Zone: owner and edge. DESIGN section 4.
// The head is always a span of its own (it runs over wanted positions only); the final norm closes the last span before it.
import { MalformedError } from '../trusted/wire/errors.js';
import type { Place, Plan } from '../trusted/wire/manifest.js';

export interface Span {
  readonly index: number;
  readonly name: string;
  readonly place: Place;
  readonly embedding: boolean;
  /** Blocks first … end − 1. */
  readonly first: number;
  readonly end: number;
  readonly finalNorm: boolean;
  readonly head: boolean;
  /** Number of the residual basis its weights are written in; accelerator spans have one each. */
  readonly basis: number;
  /** Basis that its output must be brought into before the next span reads it. */
  readonly exitBasis: number;
}

export function acceleratorPlan(blocks: number): Plan {
  return uniformPlan(blocks, 'accelerator');
}

export function uniformPlan(blocks: number, place: Place): Plan {
  return { embedding: place, blocks: Array.from({ length: blocks }, () => place), head: place };
}

/** Whether blocks or the head lie on the accelerator: what `quantize` is for. */
export function hasOpenMatrices({ blocks, head }: Plan): boolean {
  return [...blocks, head].includes('accelerator');
}

/** Enclave-held parts by name or block number, everything else on the accelerator. Throws MalformedError for a part that does not exist. */
export function shieldedPlan(blocks: number, parts: readonly string[]): Plan {
  const inside = new Set(parts);
  for (const part of parts) {
    const known = part === 'embedding' || part === 'head' || (/^\d+$/.test(part) && Number(part) < blocks);
    if (!known) {
      const message = `the model has no part "${part}"; parts are embedding, head and blocks 0 to ${blocks - 1}`;
      throw new MalformedError('plan-part', message, { part });
    }
  }
  const placeOf = (part: string): Place => (inside.has(part) ? 'enclave' : 'accelerator');
  return {
    embedding: placeOf('embedding'),
    blocks: Array.from({ length: blocks }, (_, i) => placeOf(String(i))),
    head: placeOf('head'),
  };
}

function nameOf(embedding: boolean, first: number, end: number): string {
  if (first === end) return 'embedding';
  const blocks = end - first === 1 ? `block-${first}` : `blocks-${first}-${end - 1}`;
  return embedding ? `embedding-${blocks}` : blocks;
}

/** The spans of a plan, in order. */
export function spansOf(plan: Plan): Span[] {
  const runs: { place: Place; embedding: boolean; first: number; end: number }[] = [];
  runs.push({ place: plan.embedding, embedding: true, first: 0, end: 0 });
  plan.blocks.forEach((place, block) => {
    const last = runs.at(-1)!;
    if (last.place === place) last.end = block + 1;
    else runs.push({ place, embedding: false, first: block, end: block + 1 });
  });
  const places = [...runs.map((run) => run.place), plan.head];
  // Spans that follow each other on the accelerator share a basis. An enclave span lives in the basis of the accelerator span before
  // it, or of the one after it where none is before.
  const bases: number[] = [];
  places.forEach((place, i) => {
    const before = bases.at(-1);
    const apart =
      place === 'accelerator' && places[i - 1] !== 'accelerator' && places.slice(0, i).includes('accelerator');
    bases.push(before === undefined || apart ? i : before);
  });
  const exit = (i: number): number => bases[i + 1] ?? bases[i]!;
  const spans = runs.map((run, index): Span => {
    const { embedding, first, end, place } = run;
    const name = nameOf(embedding, first, end);
    const finalNorm = index === runs.length - 1;
    return {
      index,
      name,
      place,
      embedding,
      first,
      end,
      finalNorm,
      head: false,
      basis: bases[index]!,
      exitBasis: exit(index),
    };
  });
  const index = runs.length;
  const blocks = plan.blocks.length;
  const head = { embedding: false, first: blocks, end: blocks, finalNorm: false, head: true };
  return [...spans, { index, name: 'head', place: plan.head, ...head, basis: bases[index]!, exitBasis: bases[index]! }];
}

/** One crossing of the boundary between accelerator and enclave, in one direction. */
export interface Crossing {
  readonly from: Place;
  readonly to: Place;
  /** What crosses, as the accelerator's side sees it. */
  readonly what: string;
  readonly bytesPerToken: number;
}

/** What crosses per token of a plan, hidden states [tokens, width] in float32; the data owner's ids and answers count with the enclave. */
export function crossingsOf(plan: Plan, width: number, topK: number): Crossing[] {
  const spans = spansOf(plan);
  const crossings: Crossing[] = [];
  const add = (from: Place, to: Place, what: string, bytesPerToken: number): void => {
    crossings.push({ from, to, what, bytesPerToken });
  };
  if (plan.embedding === 'accelerator') add('enclave', 'accelerator', 'locked token ids', 4);
  spans.slice(1).forEach((span, i) => {
    const before = spans[i]!;
    if (before.place !== span.place) add(before.place, span.place, `hidden states before ${span.name}`, 4 * width);
  });
  if (plan.head === 'accelerator') add('accelerator', 'enclave', `top-${topK} in the locked vocabulary`, 8 * topK);
  return crossings;
}
