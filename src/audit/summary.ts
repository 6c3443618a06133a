// The small summary of recorded audits that comes with the program (assets/audit/summary.json, written by tools/protection.mjs). Zone: owner.
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { SCHEMES } from '../model/bundle-manifest.js';
import { describeFileError } from '../model/files.js';
import { MalformedError } from '../trusted/wire/errors.js';
import type { Scheme } from '../trusted/wire/manifest.js';
import type { Adversary } from './attack.js';
import type { Verdict } from './measure.js';
import { ADVERSARIES, type AuditReport, auditReportSchema } from './report.js';
import { worstRow } from './report-rows.js';

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

export interface SummarisedAudit {
  readonly file: string;
  readonly model: string;
  readonly date: string;
  readonly seeds: number;
  readonly rows: readonly SummaryRow[];
}

export interface AuditSummary {
  readonly audits: readonly SummarisedAudit[];
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

/** What tools/protection.mjs does to recorded audits, for one that was not recorded. */
export function summarise(report: AuditReport, file: string): SummarisedAudit {
  const means = report.attacks.filter(({ seed }) => seed === 'mean');
  const keyOf = ({ adversary, scheme, placement, budgetTokens }: (typeof means)[number]): string =>
    [adversary, scheme, placement, budgetTokens].join('|');
  const rows = [...new Set(means.map(keyOf))].map((key) => {
    const found = worstRow(means.filter((mean) => keyOf(mean) === key));
    const { adversary, scheme, placement, budgetTokens, attack, advantage, half, worst, verdict, idle } = found;
    const known = SCHEMES.find((name) => name === scheme);
    if (known === undefined) throw new MalformedError('audit-report', `${file}: there is no scheme "${scheme}"`);
    const bundle = { adversary, scheme: known, placement, budgetTokens };
    return { ...bundle, attack, advantage, half, worst, verdict, idle: idle !== null };
  });
  const { model, date, settings } = report;
  return { file, model: model.name, date: date.slice(0, 10), seeds: settings.seeds.length, rows };
}

/** Audits by `distillock audit --out`. Throws MalformedError('audit-report') for a file that is none. */
export async function summariseFiles(files: readonly string[]): Promise<AuditSummary> {
  const audits: SummarisedAudit[] = [];
  for (const file of files) {
    const parsed = auditReportSchema.safeParse(await readJson(file));
    if (!parsed.success) {
      const { path, message } = parsed.error.issues[0]!;
      throw new MalformedError(
        'audit-report',
        `${file} is no audit.json of this version: ${path.join('.')}: ${message}`,
      );
    }
    audits.push(summarise(parsed.data, file));
  }
  return { audits };
}

async function readJson(file: URL | string): Promise<unknown> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw describeFileError(error, String(file), 'read');
  });
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new MalformedError('audit-report', `${String(file)} is no JSON`, { file: String(file) }, error);
  }
}

export const summaryFile: URL = new URL('../../../assets/audit/summary.json', import.meta.url);

/** Throws MalformedError('audit-summary') for a file of another format. */
export async function readSummary(file: URL | string = summaryFile): Promise<AuditSummary> {
  const parsed = schema.safeParse(await readJson(file));
  if (parsed.success) return parsed.data;
  const where = parsed.error.issues[0]!;
  throw new MalformedError('audit-summary', `${String(file)}: ${where.path.join('.')}: ${where.message}`);
}
