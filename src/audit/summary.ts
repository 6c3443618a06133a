// The small summary of recorded audits that comes with the program (assets/audit/summary.json, written by tools/protection.mjs). Zone: owner.
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { describeFileError } from '../model/files.js';
import { MalformedError } from '../trusted/wire/errors.js';
import { SCHEMES, type Scheme } from '../trusted/wire/manifest.js';
import type { Adversary } from './attack.js';
import type { Verdict } from './measure.js';
import { ADVERSARIES } from './report.js';

/** Of one adversary against one bundle with one budget: the attack that came out worst for the owner, over its seeds. */
export interface SummaryRow {
  readonly adversary: Adversary;
  readonly scheme: Scheme;
  readonly placement: string;
  readonly budgetTokens: number;
  readonly attack: string;
  readonly advantage: number | null;
  readonly half: number | null;
  readonly worst: number | null;
  readonly verdict: Verdict;
  /** The attack had nothing to work on but released answers. */
  readonly idle: boolean;
}

export interface AuditSummary {
  readonly audits: readonly {
    readonly file: string;
    readonly model: string;
    readonly date: string;
    readonly seeds: number;
    readonly rows: readonly SummaryRow[];
  }[];
}

const row: z.ZodType<SummaryRow> = z.strictObject({
  adversary: z.enum(ADVERSARIES),
  scheme: z.enum(SCHEMES),
  placement: z.string().min(1),
  budgetTokens: z.int().min(1),
  attack: z.string().min(1),
  advantage: z.number().nullable(),
  half: z.number().nullable(),
  worst: z.number().nullable(),
  verdict: z.enum(['held', 'weakened', 'broken', 'inconclusive']),
  idle: z.boolean(),
});

const schema: z.ZodType<AuditSummary> = z.strictObject({
  format: z.literal('distillock-audit-summary'),
  version: z.literal(1),
  audits: z.array(
    z.strictObject({
      file: z.string(),
      model: z.string(),
      date: z.string(),
      seeds: z.int().min(1),
      rows: z.array(row).min(1),
    }),
  ),
});

export const summaryFile: URL = new URL('../../../assets/audit/summary.json', import.meta.url);

/** Throws MalformedError('audit-summary') for a file of another format. */
export async function readSummary(file: URL | string = summaryFile): Promise<AuditSummary> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw describeFileError(error, String(file), 'read');
  });
  const parsed = schema.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  const where = parsed.error.issues[0]!;
  throw new MalformedError('audit-summary', `${String(file)}: ${where.path.join('.')}: ${where.message}`);
}
