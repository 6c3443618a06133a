// What every bench writes, documented in docs/results/SCHEMA.md. A result is a median over runs with its spread and, where
// there is one, the bar it must not miss.
import { z } from 'zod';

export interface BenchResult {
  /** Short, snake case, variants as suffixes: `ratio.rotation.int4.prefill`. */
  readonly metric: string;
  /** The median. */
  readonly value: number;
  /** `ratio`, `tokens/s`, `s`, `MB`, … */
  readonly unit: string;
  readonly better: 'lower' | 'higher';
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly runs: number;
  /** null: reported only. */
  readonly bar: number | null;
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memory_gb: number;
  readonly os: string;
  readonly node: string;
  readonly onnxruntime: string;
}

export interface BenchReport {
  readonly name: string;
  /** ISO 8601, UTC. */
  readonly date: string;
  readonly machine: Machine;
  readonly results: readonly BenchResult[];
}

const finite: z.ZodType<number> = z.number();

export const benchResultSchema: z.ZodType<BenchResult> = z
  .strictObject({
    metric: z.string().regex(/^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$/),
    value: finite,
    unit: z.string().min(1),
    better: z.enum(['lower', 'higher']),
    median: finite,
    min: finite,
    max: finite,
    runs: z.int().min(1),
    bar: finite.nullable(),
  })
  .refine(({ value, median, min, max }) => value === median && min <= median && median <= max, {
    message: 'value is the median, and min ≤ median ≤ max',
  });

export const benchReportSchema: z.ZodType<BenchReport> = z.strictObject({
  name: z.string().regex(/^[a-z][a-z0-9-]*$/),
  date: z.iso.datetime(),
  machine: z.strictObject({
    cpu: z.string(),
    cores: z.int().min(1),
    memory_gb: z.number().positive(),
    os: z.string(),
    node: z.string(),
    onnxruntime: z.string(),
  }),
  results: z.array(benchResultSchema).min(1),
});

/** Whether a result keeps its bar; one without a bar does. */
export function meetsBar({ value, better, bar }: BenchResult): boolean {
  return bar === null || (better === 'lower' ? value <= bar : value >= bar);
}
