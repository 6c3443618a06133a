// distillock audit: what each adversary gets out of a bundle, measured by attacking it. Run by the model owner.
import { type Command, Option } from 'commander';
import { SCHEMES } from '../../model/bundle-manifest.js';
import type { Scheme } from '../../trusted/wire/manifest.js';
import { UsageError } from '../errors.js';
import { realNumber, wholeNumber } from '../options.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface AuditVerbOptions {
  /** null: lock the model into every scheme and placement asked for, and audit each. */
  readonly bundle: string | null;
  /** The checkpoint that was locked: folder, GGUF file or hub id. */
  readonly model: string;
  /** Owner secrets of the bundle; null without a bundle. */
  readonly keys: string | null;
  readonly schemes: readonly Scheme[];
  /** `accelerator`, `enclave`, `shielded:PARTS`. */
  readonly placements: readonly string[];
  /** Public checkpoint that the model descends from, or a relative of it; null: that adversary is left out. */
  readonly ancestor: string | null;
  /** Further bundles of the model that the attacker holds; without a bundle, placements to lock it into once more. */
  readonly also: readonly string[];
  /** Names, comma-separated; null: all. */
  readonly attacks: string | null;
  /** Ascending. */
  readonly budgetTokens: readonly number[];
  /** How many. */
  readonly seeds: number;
  readonly steps: number;
  /** null: by the model's width. */
  readonly learningRate: number | null;
  readonly topK: number;
  /** Text that attackers may use; null: stories that come with the program. */
  readonly dataset: string | null;
  /** null: held-out stories, or a tenth of --dataset. */
  readonly evalDataset: string | null;
  readonly heldOutTokens: number;
  readonly quick: boolean;
  /** Folder for audit.json and audit.html; null: neither. */
  readonly out: string | null;
}

const FULL = { budgetTokens: [1000, 4000, 16_000], seeds: 3, steps: 300, heldOutTokens: 4000 };
const QUICK = { budgetTokens: [1000], seeds: 1, steps: 60, heldOutTokens: 1000 };
const PLACEMENTS = ['accelerator', 'shielded:embedding,0,head', 'enclave'];

export const auditHelp: VerbHelp<AuditVerbOptions> = {
  name: 'audit',
  summary: 'attack a bundle as each adversary would, with the original as ground truth (owner)',
  examples: [
    ['distillock audit t.lock --model ./my-model --keys t.keys --out audit', 'a bundle; writes audit/audit.html'],
    ['distillock audit t.lock --model ./my-model --keys t.keys --quick', 'one seed, small budgets'],
    [
      'distillock audit --model ./my-model --schemes rotation --placements accelerator shielded:embedding,0,head enclave --out audit',
      'before locking: all placements on one plot',
    ],
  ],
  define(command: Command): void {
    command
      .argument(
        '[bundle]',
        'bundle folder; without one the model is locked into --schemes and --placements and each is audited',
      )
      .requiredOption('--model <dir|file|hub-id>', 'the checkpoint that was locked: ground truth and control')
      .option('--keys <file>', "owner's secrets of the bundle; they never leave this machine")
      .addOption(
        new Option('--schemes <name...>', 'without a bundle: schemes to lock with (default: both)').choices(SCHEMES),
      )
      .option('--placements <where...>', `without a bundle: placements to lock into (default: ${PLACEMENTS.join(' ')})`)
      .option(
        '--ancestor <dir|file|hub-id>',
        'public checkpoint that the model was fine-tuned from, or a relative of it',
      )
      .option(
        '--also <bundle...>',
        'further bundles of the same model that the attacker holds (without a bundle: placements to lock it into)',
      )
      .option('--attacks <names>', 'comma-separated (default: all; those of an ancestor only with --ancestor)')
      .option(
        '--budget_tokens <n,n,…>',
        `rows that a licence releases to the attacker; recording attacks run with each, the others with the largest (default: ${FULL.budgetTokens})`,
        budgets,
      )
      .option('--seeds <n>', `how many seeds (default: ${FULL.seeds})`, wholeNumber(1, 100))
      .option(
        '--steps <n>',
        `optimiser steps of whatever trains; one pass over its texts at least, up to 4,000 steps (default: ${FULL.steps})`,
        wholeNumber(1),
      )
      .option('--learning_rate <x>', "of whatever trains (default: by the model's width)", realNumber(1e-6, 1))
      .option('--top_k <n>', 'log-probabilities that the licence releases per token', wholeNumber(1), 32)
      .option('--dataset <file>', 'text that attackers pass through the teacher (default: bundled stories)')
      .option(
        '--eval_dataset <file>',
        'held-out text that clones are measured on (default: bundled, or a tenth of --dataset)',
      )
      .option('--held_out_tokens <n>', `tokens of it (default: ${FULL.heldOutTokens})`, wholeNumber(64))
      .option(
        '--quick',
        `one seed, ${QUICK.budgetTokens} tokens, ${QUICK.steps} steps: shows that attacks and controls work`,
        false,
      )
      .option('--out <folder>', 'write audit.json and audit.html there');
  },
  parse(command: Command): AuditVerbOptions {
    const raw = command.opts();
    const bundle = command.args[0] ?? null;
    if (bundle === null && raw.keys !== undefined)
      throw new UsageError('audit-keys', '--keys are those of a bundle: name the bundle as well, or leave --keys away');
    if (bundle !== null && raw.keys === undefined)
      throw new UsageError('audit-keys', "give the bundle's owner secrets with --keys: the audit licenses itself");
    if (bundle !== null && (raw.schemes !== undefined || raw.placements !== undefined))
      throw new UsageError(
        'audit-bundle',
        'a bundle has its scheme and placement: leave --schemes and --placements away, or the bundle',
      );
    const standard = raw.quick ? QUICK : FULL;
    return {
      bundle,
      model: raw.model,
      keys: raw.keys ?? null,
      schemes: [...new Set<Scheme>(raw.schemes ?? SCHEMES)],
      placements: [...new Set<string>(raw.placements ?? PLACEMENTS)],
      ancestor: raw.ancestor ?? null,
      also: raw.also ?? [],
      attacks: raw.attacks ?? null,
      budgetTokens: raw.budget_tokens ?? standard.budgetTokens,
      seeds: raw.seeds ?? standard.seeds,
      steps: raw.steps ?? standard.steps,
      learningRate: raw.learning_rate ?? null,
      topK: raw.top_k,
      dataset: raw.dataset ?? null,
      evalDataset: raw.eval_dataset ?? null,
      heldOutTokens: raw.held_out_tokens ?? standard.heldOutTokens,
      quick: raw.quick,
      out: raw.out ?? null,
    };
  },
};

/** `1000,4_000` → ascending, each once. */
function budgets(text: string): number[] {
  const one = wholeNumber(1);
  return [...new Set(text.split(',').map((part) => one(part)))].sort((a, b) => a - b);
}

export const audit: Verb<AuditVerbOptions> = {
  ...auditHelp,
  async run(options: AuditVerbOptions, context: Context): Promise<unknown> {
    const { runAudit } = await import('../audit/run-audit.js');
    return runAudit(options, context);
  },
};
