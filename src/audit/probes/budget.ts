// Getting more rows than were paid for: parallel sessions, a killed process, old sealed state, a second enclave on a copied disk, an old
// grant. Adversary: tamperer. Sources: rollback and forking of sealed state (Matetic et al., ROTE, USENIX Security 2017; arXiv 1701.00981).
import { copyFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DistillockError } from '../../trusted/wire/errors.js';
import type { Outcome, Probe } from '../probe.js';
import { spendAll } from '../spend.js';
import { BUDGET, type RunningEnclave, type Stand } from '../stand.js';

const ALL = 4 * BUDGET;
const LEASE = 4;
const rollbackSources = ['Matetic et al., ROTE, USENIX Security 2017'];

function outcome(rows: number, refusals: readonly (string | null)[]): Outcome {
  const said = [...new Set(refusals.map((refusal) => refusal ?? 'never refused'))].join(', ');
  return { succeeded: rows > BUDGET, detail: `${rows} rows released on a budget of ${BUDGET}; at the end: ${said}` };
}

/** An unlocked enclave, and the grant that did it. */
async function licensed(stand: Stand, leaseTokens = 0): Promise<{ enclave: RunningEnclave; grant: Uint8Array }> {
  const enclave = await stand.start();
  const { client } = await enclave.connect();
  return { enclave, grant: await stand.license(enclave, client, { leaseTokens }) };
}

async function spend(stand: Stand, enclave: RunningEnclave): ReturnType<typeof spendAll> {
  const { client } = await enclave.connect();
  stand.coverWithLeases(client);
  try {
    return await spendAll(client, stand.bundle, ALL);
  } finally {
    await client.close();
  }
}

const parallelSessions: Probe = {
  name: 'parallel-sessions',
  adversary: 'tamperer',
  summary: 'spend one budget over several connections and sessions at once',
  sources: [],
  control: 'counters',
  idleReason: () => null,
  run: async (stand) => {
    const { enclave } = await licensed(stand);
    const spent = await Promise.all([spend(stand, enclave), spend(stand, enclave), spend(stand, enclave)]);
    return outcome(
      spent.reduce((sum, { rows }) => sum + rows, 0),
      spent.map(({ refusal }) => refusal),
    );
  },
};

const crash: Probe = {
  name: 'killed-process',
  adversary: 'tamperer',
  summary: 'kill the enclave after every use of the budget and start it again',
  sources: [],
  control: 'counters',
  idleReason: () => null,
  run: async (stand) => {
    let { enclave } = await licensed(stand);
    const spent = [await spend(stand, enclave)];
    for (let again = 0; again < 2; again += 1) {
      await enclave.kill();
      enclave = await stand.start();
      spent.push(await spend(stand, enclave));
    }
    return outcome(
      spent.reduce((sum, { rows }) => sum + rows, 0),
      [spent.at(-1)!.refusal],
    );
  },
};

function rollback(leased: boolean): Probe {
  return {
    name: leased ? 'rollback-leased' : 'rollback',
    adversary: 'tamperer',
    summary: `put an older copy of the sealed state back, under a licence ${leased ? 'with' : 'without'} leases`,
    sources: rollbackSources,
    control: 'counters',
    idleReason: () => null,
    run: async (stand) => {
      const { enclave } = await licensed(stand, leased ? LEASE : 0);
      const kept = await copyState(stand);
      const first = await spend(stand, enclave);
      await enclave.stop();
      await kept.putBack();
      const again = await stand.start();
      const second = await spend(stand, again);
      return outcome(first.rows + second.rows, [second.refusal]);
    },
  };
}

/** Everything sealed, as it is now. */
async function copyState({ stateDir }: Stand): Promise<{ putBack(): Promise<void> }> {
  const files = (await readdir(stateDir)).filter((name) => name.startsWith('sealed-state'));
  const copyOf = (name: string): string => join(stateDir, `copy-of-${name}`);
  for (const name of files) await copyFile(join(stateDir, name), copyOf(name));
  return {
    putBack: async () => {
      for (const name of files) await copyFile(copyOf(name), join(stateDir, name));
    },
  };
}

function fork(leased: boolean): Probe {
  return {
    name: leased ? 'fork-leased' : 'fork',
    adversary: 'tamperer',
    summary: `run a second enclave on a copy of the disk, under a licence ${leased ? 'with' : 'without'} leases`,
    sources: rollbackSources,
    control: 'counters',
    idleReason: () => null,
    run: async (stand) => {
      const { enclave } = await licensed(stand, leased ? LEASE : 0);
      const copy = await stand.fork();
      try {
        const second = await spend(copy, await copy.start());
        const first = await spend(stand, enclave);
        return outcome(first.rows + second.rows, [first.refusal, second.refusal]);
      } finally {
        await copy.close();
      }
    },
  };
}

const replayedGrant: Probe = {
  name: 'replayed-grant',
  adversary: 'network',
  summary: 'hand an old grant in again: to the same process, after a restart, and with the sealed state deleted',
  sources: [],
  control: 'licences',
  idleReason: () => null,
  run: async (stand) => {
    let { enclave, grant } = await licensed(stand);
    const spent = [await spend(stand, enclave)];
    const replay = async (): Promise<void> => {
      const { client } = await enclave.connect();
      await client.attest(new Uint8Array(32));
      const refused = await client.unlock(grant).then(
        () => null,
        (error: unknown) => codeOf(error),
      );
      const after = await spend(stand, enclave);
      spent.push(refused === null ? after : { rows: after.rows, refusal: refused });
    };
    await replay();
    await enclave.stop();
    enclave = await stand.start();
    await replay();
    await enclave.stop();
    for (const name of await readdir(stand.stateDir))
      if (name.startsWith('sealed-state')) await rm(join(stand.stateDir, name));
    enclave = await stand.start();
    await replay();
    return outcome(
      spent.reduce((sum, { rows }) => sum + rows, 0),
      spent.slice(1).map(({ refusal }) => refusal),
    );
  },
};

function codeOf(error: unknown): string {
  if (!(error instanceof DistillockError)) throw error;
  return error.code;
}

export const budgetProbes: readonly Probe[] = [
  parallelSessions,
  crash,
  rollback(false),
  rollback(true),
  fork(false),
  fork(true),
  replayedGrant,
];
