// Locking a model that is larger than the memory it may use: Llama-3-8B's shapes with 14 of 32 blocks, 8.2 GB of bfloat16 in 4 shards,
// through `distillock lock` as its own process, killed half way and run again. Needs 26 GB of disk in the temporary folder.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { openBundle } from '../src/edge/bundle.js';
import { loadOwnerPublicKey } from '../src/edge/owner-key.js';
import { Accelerator } from '../src/edge/teacher/accelerator.js';
import { segmentFiles } from '../src/model/bundle-manifest.js';
import { EnvironmentError } from '../src/trusted/wire/errors.js';
import type { BenchOptions } from './bench.js';
import { summarise } from './interleave.js';
import type { BenchResult } from './schema.js';
import { llama3Shape, writeLargeCheckpoint } from './workload/large-checkpoint.js';

const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

interface Locked {
  readonly seconds: number;
  readonly peakRssMb: number;
  readonly code: number | null;
}

/** Largest resident set of a process so far, in MB; null when it has gone. Linux keeps it in /proc. */
async function peakOf(pid: number): Promise<number | null> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const found = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
  return found === undefined ? null : Number(found) / 1024;
}

/** Runs the verb; kills it once the journal has that many lines, if one is given. */
async function lockOnce(args: readonly string[], killAt?: { journal: string; lines: number }): Promise<Locked> {
  const started = performance.now();
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  let code: number | null | undefined;
  child.once('exit', (status) => {
    code = status;
  });
  let peakRssMb = 0;
  while (code === undefined) {
    peakRssMb = Math.max(peakRssMb, (await peakOf(child.pid!)) ?? 0);
    if (killAt && existsSync(killAt.journal)) {
      const lines = (await readFile(killAt.journal, 'utf8')).split('\n').length - 1;
      if (lines >= killAt.lines) child.kill('SIGKILL');
    }
    await delay(100);
  }
  return { seconds: (performance.now() - started) / 1000, peakRssMb, code };
}

/** Loads the bundle; what that adds to the resident set, as a share of the segments' size. Then one token, which must give numbers. */
async function loadedShare(bundleDir: string, publicKey: string): Promise<number> {
  const { config, segments, manifest } = await openBundle(bundleDir, {
    ownerKey: await loadOwnerPublicKey(publicKey),
    checkHashes: false,
  });
  const data = new Set(manifest.segments.flatMap(segmentFiles).filter((path) => path.endsWith('.data')));
  const size = manifest.files.reduce((sum, file) => sum + (data.has(file.path) ? file.size : 0), 0);
  const before = process.memoryUsage.rss();
  const accelerator = await Accelerator.open(segments, config, { prepack: false });
  const added = process.memoryUsage.rss() - before;
  const hidden = await accelerator.run(0, Int32Array.of(7), { batch: 1, tokens: 1, lengths: [1] });
  const { logprobs } = await accelerator.topK(hidden, 1, 64, 1);
  if (!logprobs.every(Number.isFinite)) throw new RangeError('log-probabilities are not finite');
  await accelerator.close();
  return added / size;
}

export async function run({ log }: BenchOptions): Promise<readonly BenchResult[]> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-bench-'));
  try {
    log('writing the checkpoint …');
    const model = join(folder, 'model');
    const bytes = await writeLargeCheckpoint(model, llama3Shape, 4);
    const [out, keys] = [join(folder, 'm.lock'), join(folder, 'm.keys')];
    const args = ['lock', '--model', model, '--out', out, '--keys', keys, '--placement', 'accelerator', '--json'];
    log(`locking ${(bytes / 1e9).toFixed(1)} GB …`);
    // Seven weights a block, one line each; the facts and the embedding come before them.
    const half = 2 + 7 * (llama3Shape.numHiddenLayers / 2);
    const first = await lockOnce(args, { journal: join(folder, '.m.lock.partial', '.journal'), lines: half });
    if (first.code !== null || existsSync(out))
      throw new EnvironmentError('lock-not-killed', `the lock ended with ${first.code} before it was killed`);
    log(`killed after ${first.seconds.toFixed(0)} s, peak ${first.peakRssMb.toFixed(0)} MB; going on …`);
    const second = await lockOnce(args);
    if (second.code !== 0) throw new EnvironmentError('lock-failed', `distillock lock ended with code ${second.code}`);
    const seconds = first.seconds + second.seconds;
    log(`done after ${second.seconds.toFixed(0)} s more, peak ${second.peakRssMb.toFixed(0)} MB`);
    const share = await loadedShare(out, `${keys}.pub`);
    return [
      summarise([Math.max(first.peakRssMb, second.peakRssMb)], {
        metric: 'peak_rss_mb',
        unit: 'MB',
        better: 'lower',
        bar: 2500,
      }),
      summarise([bytes / 1e6 / seconds], { metric: 'mb_per_s', unit: 'MB/s', better: 'higher' }),
      summarise([seconds], { metric: 'seconds', unit: 's', better: 'lower' }),
      summarise([second.seconds], { metric: 'resumed_seconds', unit: 's', better: 'lower' }),
      summarise([share], { metric: 'loaded_rss_share', unit: 'share', better: 'lower', bar: 0.25 }),
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
