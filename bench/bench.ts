// What a bench is: a file bench/NAME.ts that exports `run`. It is found by its name; there is no list to keep.
import { readdir } from 'node:fs/promises';
import { MalformedError } from '../src/trusted/wire/errors.js';
import type { BenchResult } from './schema.js';

export interface BenchOptions {
  /** Counted runs (or pairs) to take the median of. */
  readonly runs: number;
  /** Length of a timed load, where a bench has one; absent: its own. */
  readonly seconds?: number;
  /** A line of progress on stderr. */
  readonly log: (line: string) => void;
}

/** Gives one or more results; measures ratios within one run of the process (see interleave.ts). */
export type RunBench = (options: BenchOptions) => Promise<readonly BenchResult[]>;

const FRAMEWORK: ReadonlySet<string> = new Set(['bench', 'command', 'interleave', 'machine', 'main', 'schema']);

/** Names of all benches in this folder. */
export async function listBenches(): Promise<string[]> {
  const files = await readdir(new URL('.', import.meta.url));
  const names = files.flatMap((file) => /^([a-z0-9-]+)\.js$/.exec(file)?.[1] ?? []);
  return names.filter((name) => !FRAMEWORK.has(name)).sort();
}

/** Throws MalformedError naming those that exist. */
export async function loadBench(name: string): Promise<RunBench> {
  const names = await listBenches();
  if (!names.includes(name)) {
    throw new MalformedError('bench-unknown', `there is no bench "${name}"; there are: ${names.join(', ') || 'none'}`, {
      name,
    });
  }
  const module = (await import(new URL(`${name}.js`, import.meta.url).href)) as { readonly run?: RunBench };
  if (typeof module.run !== 'function')
    throw new MalformedError('bench-run', `bench/${name}.ts does not export run`, { name });
  return module.run;
}
