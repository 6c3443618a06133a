// What kill -9 of the enclave costs: 50 times while it accepts a grant, 50 times while it releases. No budget may be spent twice, and no
// key may lie on the disk in the clear. The enclave is SIMULATED: its platform's own keys lie in a file by design and are not counted.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openCheckpoint } from '../src/model/checkpoint/open.js';
import { lockModel } from '../src/owner/lock-checkpoint.js';
import type { BenchOptions } from './bench.js';
import { summarise } from './interleave.js';
import type { BenchResult } from './schema.js';
import { killWhileReleasing, killWhileUnlocking } from './workload/kill-enclave.js';

const KILLS = 50;
const TEACHER = fileURLToPath(new URL('../../assets/stories260k', import.meta.url));

/** A short load (--seconds) means a trial run: then a tenth of the kills. */
export async function run({ seconds, log }: BenchOptions): Promise<readonly BenchResult[]> {
  const folder = await mkdtemp(join(tmpdir(), 'distillock-bench-'));
  const checkpoint = await openCheckpoint(TEACHER);
  try {
    const bundleDir = join(folder, 'teacher.lock');
    const target = { bundleDir, folder, ...(await lockModel({ checkpoint, outDir: bundleDir })) };
    const count = seconds === undefined ? KILLS : KILLS / 10;
    const grants = await killWhileUnlocking(target, count);
    log(`${count} kills while unlocking: ${grants.kept} licences kept, ${grants.lost} lost with their process`);
    const releases = await killWhileReleasing(target, count);
    const { cutRounds, releasedTokens, chargedTokens } = releases;
    log(
      `${count} kills while releasing, ${cutRounds} in mid-release: ${releasedTokens} released, ${chargedTokens} charged`,
    );
    const faults = [...grants.faults, ...releases.faults];
    for (const fault of faults) log(fault);
    return [
      summarise([2 * count], { metric: 'kills', unit: 'kills', better: 'higher' }),
      summarise([grants.lost], { metric: 'grants_lost', unit: 'licences', better: 'lower' }),
      summarise([cutRounds], { metric: 'releases_cut', unit: 'kills', better: 'higher' }),
      summarise([chargedTokens - releasedTokens], { metric: 'charged_not_received', unit: 'tokens', better: 'lower' }),
      summarise([faults.length], { metric: 'faults', unit: 'faults', better: 'lower', bar: 0 }),
    ];
  } finally {
    await checkpoint.tensors.close();
    await rm(folder, { recursive: true, force: true });
  }
}
