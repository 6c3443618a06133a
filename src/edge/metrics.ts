// metrics.jsonl: one line per logged step, appended as training goes. A resumed run drops what lies after its checkpoint.
// Zone: edge. The file holds numbers and the name of the loss, no text of the data owner.
import { appendFileSync, existsSync } from 'node:fs';
import { describeFileError, writeFileAtomic } from '../model/files.js';
import { MalformedError } from '../trusted/wire/errors.js';
import { readLines } from './data/lines.js';

export interface MetricsLine {
  /** Optimiser steps done. */
  readonly step: number;
  readonly epoch?: number;
  /** Training tokens seen so far, padding not counted. */
  readonly tokens?: number;
  /** Of the last steps since the line before. */
  readonly loss?: number;
  /** Divergence from the teacher at kd_temperature, without the factor T². */
  readonly kd?: number;
  /** Which divergence `kd` is, e.g. `jsd(beta=0.5)`; absent when training on the text alone. */
  readonly kd_loss?: string;
  readonly ce?: number;
  readonly grad_norm?: number;
  readonly lr?: number;
  readonly tokens_per_s?: number;
  readonly budget_left?: number;
  readonly eval_loss?: number;
  /** KL(teacher‖student) on held-out text, nats per token. */
  readonly eval_kl?: number;
  readonly eval_nll?: number;
  /** Share of held-out tokens on which student and teacher agree about the most likely token. */
  readonly eval_agreement?: number;
}

export interface MetricsWriter {
  /** Numbers that are not finite are written as null. Throws EnvironmentError on a full disk. */
  append(line: MetricsLine): void;
}

/** Opens the file for a run that goes on after `resumeStep`; null starts a new file. */
export async function openMetrics(file: string, resumeStep: number | null): Promise<MetricsWriter> {
  const kept = resumeStep === null ? [] : (await readMetrics(file)).filter(({ step }) => step <= resumeStep);
  await writeFileAtomic(file, kept.map(toLine).join(''));
  return {
    append(line) {
      try {
        appendFileSync(file, toLine(line));
      } catch (error) {
        throw describeFileError(error, file, 'write');
      }
    },
  };
}

/**
 * Every line in order; none when there is no file. A last line that was cut off in a crash is left out; anything else that is
 * not a metrics line is a MalformedError with its line number.
 */
export async function readMetrics(file: string): Promise<MetricsLine[]> {
  if (!existsSync(file)) return [];
  const lines: MetricsLine[] = [];
  let broken: number | null = null;
  for await (const { number, text } of readLines(file)) {
    if (text.trim() === '') continue;
    if (broken !== null) throw notMetrics(file, broken);
    const line = parseLine(text);
    if (line === null) broken = number;
    else lines.push(line);
  }
  return lines;
}

function parseLine(text: string): MetricsLine | null {
  try {
    const value = JSON.parse(text) as Partial<MetricsLine> | null;
    return typeof value?.step === 'number' ? (value as MetricsLine) : null;
  } catch {
    return null;
  }
}

function toLine(line: MetricsLine): string {
  return `${JSON.stringify(line)}\n`;
}

function notMetrics(file: string, line: number): MalformedError {
  return new MalformedError('metrics-line', `${file}:${line}: not a metrics line; remove it`, { file, line });
}
