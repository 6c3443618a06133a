// What log-probabilities alone tell about the last layer: over the whole vocabulary their rows span a space of the hidden width, the head's
// column space (Carlini et al.). Zone: owner (as attacker: any licensed user). Under a licence's top k only tokens that are named in every
// chosen row can be used, and k values cannot show a rank above k − 1. It yields a leak, no clone: its clone is the black-box student.

import type { Attack, AttackSettings, Attempt, Leak } from '../attack.js';
import type { Lessons } from '../fit-student.js';
import { blackBoxStudent } from '../lab.js';
import { record } from '../recorder.js';
import { rowSpace } from '../row-space.js';
import type { Target } from '../target.js';

export const logitExtraction: Attack = {
  name: 'logit-extraction',
  adversary: 'recorder',
  summary: 'hidden width and head space from released log-probabilities',
  sources: ['Stealing part of a production language model, arXiv 2403.06634', 'arXiv 2403.09539'],
  idleReason: ({ topK, config }) =>
    topK - 1 > config.hiddenSize
      ? null
      : `each row releases ${topK} values and has ${config.hiddenSize + 1} unknowns: more rows never determine them`,
  // All log-probabilities, where it must succeed.
  control: (unlocked) => ({ ...unlocked, topK: unlocked.config.vocabSize }),
  run,
};

async function run(target: Target, settings: AttackSettings): Promise<Attempt> {
  const { examples } = settings.lessons;
  const { vocabSize, hiddenSize } = target.config;
  const seen = await record(target.runner, await target.session(), examples, { k: target.topK, temperature: 1 });
  const leak = extract({ examples, released: seen.traces.map(({ released }) => released) }, vocabSize, hiddenSize);
  const clone = await blackBoxStudent(target.config, settings.lessons, settings);
  const recordedTokens = seen.releasedRows;
  return { clone, leak, recordedTokens, queries: examples.length, bytes: recordedTokens * target.topK * 8 };
}

/** Rows beyond a few times the width add nothing but work. */
const ROWS_PER_WIDTH = 4;

/** From released rows; tokens that are not named in every row used are left out (0 in the span). */
export function extract({ released }: Lessons, vocabSize: number, width: number): Leak {
  const all = released!.flatMap(({ rows, k, tokenIds, logprobs }) =>
    Array.from({ length: rows }, (_, row) => ({
      ids: tokenIds.subarray(row * k, (row + 1) * k),
      values: logprobs.subarray(row * k, (row + 1) * k),
    })),
  );
  const { rows, tokens } = densest(all, vocabSize, ROWS_PER_WIDTH * width);
  const place = new Map(tokens.map((token, i) => [token, i]));
  const matrix = rows.map(({ ids, values }) => {
    const row = new Float64Array(tokens.length);
    ids.forEach((id, i) => {
      const at = place.get(id);
      if (at !== undefined) row[at] = values[i]!;
    });
    // log p = h·w − z: the normaliser z goes with the mean.
    const mean = row.reduce((a, b) => a + b, 0) / row.length;
    return row.map((x) => x - mean);
  });
  const { rank, basis } = rowSpace(matrix);
  const span = new Float64Array(rank * vocabSize);
  basis.forEach((vector, r) => {
    tokens.forEach((token, i) => {
      span[r * vocabSize + token] = vector[i]!;
    });
  });
  return { rank, span };
}

interface Row {
  readonly ids: Int32Array;
  readonly values: Float32Array;
}

/** Rows and the tokens that all of them name: grown row by row while the common tokens stay at least as many as the rows. */
function densest(all: readonly Row[], vocabSize: number, limit: number): { rows: Row[]; tokens: number[] } {
  const rows = all.slice(0, 1);
  let common = new Set(rows[0]!.ids);
  for (const row of all.slice(1)) {
    if (rows.length === limit) break;
    const both = new Set([...row.ids].filter((id) => common.has(id)));
    if (both.size < Math.min(vocabSize, rows.length + 1)) continue;
    common = both;
    rows.push(row);
  }
  return { rows, tokens: [...common].sort((a, b) => a - b) };
}
