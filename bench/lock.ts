// What locking a real checkpoint costs: SmolLM2-135M-Instruct (GGUF, Q4_1) through `distillock lock` as its own process.
// Seconds include starting the process; the peak is that process's largest resident set.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EnvironmentError } from '../src/trusted/wire/errors.js';
import type { BenchOptions } from './bench.js';
import { summarise } from './interleave.js';
import type { BenchResult } from './schema.js';
import { findSmolLm2 } from './workload/smollm2.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Runs the verb once; seconds of the whole process and its peak memory in MB. */
async function lockOnce(model: string): Promise<{ seconds: number; peakRssMb: number }> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-bench-'));
  try {
    const peakFile = join(folder, 'peak');
    const record = `process.on('exit', () => require('node:fs').writeFileSync(${JSON.stringify(peakFile)}, String(process.resourceUsage().maxRSS)))`;
    const hook = `data:text/javascript,import{createRequire}from'node:module';const require=createRequire('file:///');${encodeURIComponent(record)}`;
    const main = join(root, 'dist', 'src', 'cli', 'main.js');
    const args = [
      'lock',
      '--model',
      model,
      '--out',
      join(folder, 'm.lock'),
      '--keys',
      join(folder, 'm.keys'),
      '--json',
    ];
    const started = performance.now();
    const child = spawn(process.execPath, ['--import', hook, main, ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
    const seconds = (performance.now() - started) / 1000;
    if (code !== 0) throw new EnvironmentError('lock-failed', `distillock lock ended with code ${code}`);
    return { seconds, peakRssMb: Number(await readFile(peakFile, 'utf8')) / 1024 };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export async function run({ runs, log }: BenchOptions): Promise<readonly BenchResult[]> {
  const model = findSmolLm2();
  const results: { seconds: number; peakRssMb: number }[] = [];
  for (let i = 0; i < runs; i += 1) {
    results.push(await lockOnce(model));
    log(`${results.at(-1)!.seconds.toFixed(1)} s, ${results.at(-1)!.peakRssMb.toFixed(0)} MB`);
  }
  return [
    summarise(
      results.map((r) => r.seconds),
      { metric: 'seconds', unit: 's', better: 'lower', bar: 30 },
    ),
    summarise(
      results.map((r) => r.peakRssMb),
      { metric: 'peak_rss_mb', unit: 'MB', better: 'lower', bar: 1500 },
    ),
  ];
}
