// The command line that would run the same audit again: kept in audit.json. Zone: owner. Folders before file names are left out.
import { basename } from 'node:path';
import type { AuditVerbOptions } from '../verbs/audit.js';

export function commandOf(options: AuditVerbOptions): string {
  const { bundle, keys, dataset, evalDataset, attacks, learningRate } = options;
  const words = [
    'distillock audit',
    ...(bundle === null ? [] : [basename(bundle)]),
    `--model ${basename(options.model)}`,
    ...(keys === null
      ? [`--schemes ${options.schemes.join(' ')}`, `--placements ${options.placements.join(' ')}`]
      : [`--keys ${basename(keys)}`]),
    ...(options.ancestor === null ? [] : [`--ancestor ${basename(options.ancestor)}`]),
    ...(options.also.length === 0 ? [] : [`--also ${options.also.map((name) => basename(name)).join(' ')}`]),
    ...(attacks === null ? [] : [`--attacks ${attacks}`]),
    ...(options.quick ? ['--quick'] : []),
    `--budget_tokens ${options.budgetTokens.join(',')}`,
    `--seeds ${options.seeds}`,
    `--steps ${options.steps}`,
    ...(learningRate === null ? [] : [`--learning_rate ${learningRate}`]),
    `--top_k ${options.topK}`,
    `--held_out_tokens ${options.heldOutTokens}`,
    ...(dataset === null ? [] : [`--dataset ${basename(dataset)}`]),
    ...(evalDataset === null ? [] : [`--eval_dataset ${basename(evalDataset)}`]),
  ];
  return words.join(' ');
}
