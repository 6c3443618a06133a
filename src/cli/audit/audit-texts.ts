// Texts of an audit: what attackers may pass through the teacher, and held-out text that clones are measured on. Zone: owner.
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { createConfig } from '../../edge/config.js';
import { countTargets, type Example } from '../../edge/data/example.js';
import { prepareData } from '../../edge/prepare.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { UsageError } from '../errors.js';
import type { AuditVerbOptions } from '../verbs/audit.js';

const bundled = (name: string): string =>
  fileURLToPath(new URL(`../../../../assets/text/${name}.txt`, import.meta.url));

export interface AuditTexts {
  readonly texts: readonly Example[];
  readonly heldOut: readonly Example[];
  readonly heldOutTokens: number;
}

const MAX_LENGTH = 128;

/** Text that the program is checked on before anything is attacked. */
export function checkedText(): string {
  return bundled('valid');
}

/** Throws UsageError('audit-budget') when a budget covers no text or more than there is. */
export async function readAuditTexts(options: AuditVerbOptions, bundleDir: string): Promise<AuditTexts> {
  const { dataset, evalDataset, budgetTokens } = options;
  const held = evalDataset ?? (dataset === null ? bundled('valid') : null);
  const config = createConfig({
    model_name_or_path: bundleDir,
    teacher_model_name_or_path: bundleDir,
    dataset: dataset ?? bundled('train'),
    ...(held === null ? { validation_split: 0.1 } : { eval_dataset: held }),
    output_dir: tmpdir(),
    max_length: MAX_LENGTH,
  });
  const data = await prepareData(config, bundleDir);
  const texts = data.train.examples.filter((example) => countTargets(example) > 0);
  const source = dataset ?? 'the bundled text';
  const counts = texts.map((example) => countTargets(example));
  const shortest = Math.min(...counts);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const [least, most] = [budgetTokens[0]!, budgetTokens.at(-1)!];
  if (least < shortest) {
    const message = `--budget_tokens ${least} does not cover one text: the shortest of ${source} takes ${shortest} tokens; allow at least as many`;
    throw new UsageError('audit-budget', message, { budgetTokens: least, shortest });
  }
  if (most > total) {
    const message = `--budget_tokens ${most} is more than the ${total} tokens of ${source}; give a longer --dataset or a smaller budget`;
    throw new UsageError('audit-budget', message, { budgetTokens: most, total });
  }
  const heldOut = upTo(data.evaluation?.examples ?? [], options.heldOutTokens);
  const heldOutTokens = heldOut.reduce((sum, example) => sum + countTargets(example), 0);
  if (heldOutTokens === 0)
    throw new MalformedError('text-empty', 'there is no held-out text to measure on; give another --eval_dataset');
  return { texts, heldOut, heldOutTokens };
}

function upTo(examples: readonly Example[], tokens: number): Example[] {
  const chosen: Example[] = [];
  let sum = 0;
  for (const example of examples) {
    if (sum >= tokens) break;
    chosen.push(example);
    sum += countTargets(example);
  }
  return chosen;
}
