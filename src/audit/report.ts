// audit.json: what an audit found, for programs. Zone: owner. Documented in docs/results/SCHEMA.md; checked by this schema in tests, by
// `distillock advise` and by the script that writes the README's table.
import { z } from 'zod';
import type { Adversary } from './attack.js';
import type { Verdict } from './measure.js';

export const AUDIT_FORMAT = 'distillock-audit';
/** Raised when a field changes its meaning or goes away; further fields may come without that. */
export const AUDIT_VERSION = 1;

/** DESIGN section 2, in its order. */
export const ADVERSARIES: readonly Adversary[] = [
  'copier',
  'unlicensed',
  'recorder',
  'chooser',
  'ancestor',
  'tamperer',
  'network',
];

/** One attack on one bundle with one budget: by one seed, or the mean over all. */
export interface AuditRow {
  readonly attack: string;
  readonly adversary: Adversary;
  /** `rotation` or `permutation`. */
  readonly scheme: string;
  /** As on the command line: `accelerator`, `enclave`, `shielded:0,head`. */
  readonly placement: string;
  readonly budgetTokens: number;
  readonly seed: number | 'mean';
  /** The larger one of advantage by agreement and by KL; null where the black-box student is as good as the teacher. */
  readonly advantage: number | null;
  /** Of the mean: half the width of its 95 % interval; null for a single seed. */
  readonly half: number | null;
  /** The largest over the seeds. */
  readonly worst: number | null;
  /** Of the clone against the true teacher, held-out text. */
  readonly agreement: number;
  readonly kl: number;
  readonly recordedTokens: number;
  readonly queries: number;
  readonly bytes: number;
  readonly seconds: number;
  /** The same code against the model without a lock, at the largest budget; the worst over the seeds. */
  readonly control: { readonly advantage: number | null; readonly succeeded: boolean };
  readonly verdict: Verdict;
  /** Why the attack had nothing to work on; null when it had. */
  readonly idle: string | null;
  /** Of `logit-extraction`: directions of the head that it found, and their share of the head's column space, 0 to 1. */
  readonly leak?: { readonly rank: number; readonly headShare: number } | undefined;
}

/** An attack that ends in a yes or no. */
export interface ProbeRow {
  readonly probe: string;
  readonly adversary: Adversary;
  readonly scheme: string;
  readonly placement: string;
  readonly summary: string;
  readonly succeeded: boolean;
  /** One line with the numbers. */
  readonly detail: string;
  /** The same code against a deliberately weak enclave. */
  readonly control: { readonly succeeded: boolean; readonly detail: string };
  /** `idle`: the bundle gives it nothing to work on. */
  readonly verdict: 'held' | 'broken' | 'inconclusive' | 'idle';
}

export interface BlackBoxLine {
  readonly budgetTokens: number;
  readonly seed: number;
  readonly agreement: number;
  readonly kl: number;
  /** Optimiser steps that it trained for; missing in audits of before it was written. */
  readonly steps?: number | undefined;
}

export interface AuditMachine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly os: string;
  readonly node: string;
}

export interface AuditReport {
  readonly format: typeof AUDIT_FORMAT;
  readonly version: typeof AUDIT_VERSION;
  /** Version of the program. */
  readonly distillock: string;
  readonly date: string;
  readonly command: string;
  readonly machine: AuditMachine;
  /** The enclave was a process, not a TEE. */
  readonly simulated: boolean;
  readonly model: {
    /** As given, without the folders before it. */
    readonly name: string;
    readonly family: string;
    readonly blocks: number;
    readonly width: number;
    readonly vocabulary: number;
  };
  readonly settings: {
    readonly attacks: readonly string[];
    readonly budgetTokens: readonly number[];
    readonly seeds: readonly number[];
    readonly steps: number;
    readonly learningRate: number;
    readonly topK: number;
    readonly heldOutTokens: number;
    readonly quick: boolean;
  };
  /** What advantage is measured between. */
  readonly lines: {
    readonly noShield: { readonly agreement: number; readonly kl: number };
    readonly blackBox: readonly BlackBoxLine[];
  };
  readonly attacks: readonly AuditRow[];
  readonly probes: readonly ProbeRow[];
  readonly seconds: number;
}

const count = z.int().min(0);
const text = z.string().min(1);
const share = z.number().min(0).max(1);
const nats = z.number().min(-1e-6);
const advantage = z.number().max(1.0001).nullable();

const row: z.ZodType<AuditRow> = z.looseObject({
  attack: text,
  adversary: z.enum(ADVERSARIES),
  scheme: text,
  placement: text,
  budgetTokens: count,
  seed: z.union([count, z.literal('mean')]),
  advantage,
  half: z.number().min(0).nullable(),
  worst: advantage,
  agreement: share,
  kl: nats,
  recordedTokens: z.number().min(0),
  queries: z.number().min(0),
  bytes: z.number().min(0),
  seconds: z.number().min(0),
  control: z.looseObject({ advantage, succeeded: z.boolean() }),
  verdict: z.enum(['held', 'weakened', 'broken', 'inconclusive']),
  idle: text.nullable(),
  leak: z.looseObject({ rank: z.number().min(0), headShare: z.number().min(0).max(1.0001) }).optional(),
});

const probe: z.ZodType<ProbeRow> = z.looseObject({
  probe: text,
  adversary: z.enum(ADVERSARIES),
  scheme: text,
  placement: text,
  summary: text,
  succeeded: z.boolean(),
  detail: z.string(),
  control: z.looseObject({ succeeded: z.boolean(), detail: z.string() }),
  verdict: z.enum(['held', 'broken', 'inconclusive', 'idle']),
});

export const auditReportSchema: z.ZodType<AuditReport> = z.looseObject({
  format: z.literal(AUDIT_FORMAT),
  version: z.literal(AUDIT_VERSION),
  distillock: text,
  date: z.iso.datetime(),
  command: text,
  machine: z.looseObject({ cpu: text, cores: count, memoryGb: z.number().positive(), os: text, node: text }),
  simulated: z.boolean(),
  model: z.looseObject({ name: text, family: text, blocks: count, width: count, vocabulary: count }),
  settings: z.looseObject({
    attacks: z.array(text),
    budgetTokens: z.array(count).min(1),
    seeds: z.array(count).min(1),
    steps: count,
    learningRate: z.number().positive(),
    topK: count,
    heldOutTokens: count,
    quick: z.boolean(),
  }),
  lines: z.looseObject({
    noShield: z.looseObject({ agreement: share, kl: nats }),
    blackBox: z
      .array(z.looseObject({ budgetTokens: count, seed: count, agreement: share, kl: nats, steps: count.optional() }))
      .min(1),
  }),
  attacks: z.array(row),
  probes: z.array(probe),
  seconds: z.number().positive(),
});
