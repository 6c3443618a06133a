// What was made of a dataset, in lines for the terminal: how much counts, what was too long and what became of it.
import type { Config } from '../edge/config.js';
import type { BatchStats } from '../edge/data/batches.js';
import type { TokeniseReport } from '../edge/data/tokenise.js';
import { formatNumber } from './terminal.js';

/** One line, and one more each for what was too long and for what has nothing to learn from. */
export function describeData(name: string, report: TokeniseReport, config: Pick<Config, 'max_length'>): string[] {
  const { records, examples, tokens, targets, divided, truncated, leftOut, tooLong, longest, lostTokens, dropped } =
    report;
  const lines = [
    `${name}: ${formatNumber(examples)} examples, ${formatNumber(tokens)} tokens, ${formatNumber(targets)} count in the loss`,
  ];
  if (tooLong > 0) {
    const fates = [
      [divided, 'divided'],
      [truncated, 'cut'],
      [leftOut, 'left out'],
      [tooLong - divided - truncated - leftOut, 'left out because the part that fits has nothing to learn'],
    ] as const;
    const became = fates.filter(([n]) => n > 0).map(([n, what]) => `${formatNumber(n)} ${what}`);
    lines.push(
      `${name}: ${formatNumber(tooLong)} of ${formatNumber(records)} records are longer than max_length ${config.max_length} ` +
        `(the longest has ${formatNumber(longest)} tokens): ${became.join(', ')}; ${formatNumber(lostTokens)} tokens lost`,
    );
  }
  const empty = dropped - (tooLong - divided - truncated - leftOut);
  if (empty > 0)
    lines.push(`${name}: records left out because nothing in them counts in the loss: ${formatNumber(empty)}`);
  return lines;
}

/** A line where the data does not fill one batch or one optimiser step; null where it does. */
export function describeSmallness(
  { rows, batchesPerEpoch }: BatchStats,
  config: Pick<Config, 'per_device_train_batch_size' | 'gradient_accumulation_steps'>,
): string | null {
  const { per_device_train_batch_size: size, gradient_accumulation_steps: steps } = config;
  if (batchesPerEpoch < steps) {
    const passes = formatNumber(steps / batchesPerEpoch);
    return `an optimiser step takes ${steps} batches and the training text makes ${batchesPerEpoch}: each step passes over it ${passes} times`;
  }
  if (rows >= size) return null;
  return `the training text fills ${rows} of the ${size} rows of a batch: the others are padding; per_device_train_batch_size ${rows} trains the same, faster`;
}
