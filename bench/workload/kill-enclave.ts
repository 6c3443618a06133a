// kill -9 of the enclave's process while it accepts a grant and while it releases: what the budget says after the restart, and which
// secrets lie on the disk. Used by the test (few rounds) and by the bench (fifty). The enclave is SIMULATED.
import { randomBytes, randomInt } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseSimulated, verifySimulated } from '../../src/attest/evidence/simulated.js';
import { appraise } from '../../src/attest/policy/appraise.js';
import { simulatedPolicy } from '../../src/attest/policy/policy.js';
import { EnclaveClient } from '../../src/edge/enclave/client.js';
import { type EnclaveProcess, launchEnclave } from '../../src/edge/enclave/launch.js';
import { type Grant, grantLicence, type LicenceTerms } from '../../src/owner/grant.js';
import type { OwnerKeys } from '../../src/owner/owner-keys.js';
import { openNewest } from '../../src/trusted/enclave/record.js';
import { openStateFile } from '../../src/trusted/platform/state-file.js';
import { decodeBase64url } from '../../src/trusted/wire/base64url.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';
import type { EnclaveStatus } from '../../src/trusted/wire/status.js';

export interface KillTarget {
  readonly bundleDir: string;
  readonly bundleId: string;
  readonly keys: OwnerKeys;
  /** A folder of its own: state folders of the rounds are made in it. */
  readonly folder: string;
}

export interface GrantKills {
  readonly rounds: number;
  /** Rounds after which the licence was there, with nothing charged. */
  readonly kept: number;
  /** Rounds after which the enclave had no licence: the grant is lost with its process, and the owner has to issue another. */
  readonly lost: number;
  /** What went against the rules; must be empty. */
  readonly faults: readonly string[];
}

export interface ReleaseKills {
  readonly rounds: number;
  /** Rounds in which the kill left releases unanswered. */
  readonly cutRounds: number;
  readonly budgetTokens: number;
  /** Rows that reached the caller, over all rounds and the rest that was taken at the end. */
  readonly releasedTokens: number;
  readonly chargedTokens: number;
  /** What went against the rules; must be empty. */
  readonly faults: readonly string[];
}

interface Running {
  readonly process: EnclaveProcess;
  readonly client: EnclaveClient;
}

async function start({ bundleDir, keys }: KillTarget, stateDir: string): Promise<Running> {
  const process = await launchEnclave({
    bundleDir,
    stateDir,
    ownerPublicKey: keys.signingKey,
    sandbox: 'none',
    onNotice: () => undefined,
  });
  return { process, client: await EnclaveClient.connect(process.socketPath) };
}

async function stop({ process, client }: Running): Promise<void> {
  await client.close();
  await process.stop();
}

/** SIGKILL after `ms`, and waits for the end. */
async function killAfter({ process: enclave, client }: Running, ms: number): Promise<void> {
  if (ms > 0) await delay(ms);
  process.kill(enclave.pid, 'SIGKILL');
  await enclave.exited();
  await client.close();
}

async function grantFor(
  { keys, bundleId }: KillTarget,
  { process, client }: Running,
  budgetTokens: number,
): Promise<Grant> {
  const now = Math.floor(Date.now() / 1000);
  const nonce = new Uint8Array(randomBytes(32));
  const verified = verifySimulated(parseSimulated(await client.attest(nonce)), process.simulatedRoot, nonce);
  const evidence = appraise(verified, simulatedPolicy(bundleId, process.simulatedRoot), now);
  const terms: LicenceTerms = {
    budgetTokens,
    topK: 4,
    precision: 'float32',
    temperature: { min: 1, max: 1 },
    notBefore: now - 60,
    expires: now + 3600,
  };
  return grantLicence({ keys, evidence, terms });
}

/** Each round: a fresh enclave, one grant, SIGKILL between 0 and `withinMs` after handing it over (a step later each round), restart. */
export async function killWhileUnlocking(target: KillTarget, rounds: number, withinMs = 30): Promise<GrantKills> {
  const faults: string[] = [];
  let kept = 0;
  for (let round = 0; round < rounds; round++) {
    const stateDir = join(target.folder, `grant-${round}`);
    const first = await start(target, stateDir);
    const { grant, licence } = await grantFor(target, first, 100);
    const answered = first.client.unlock(grant).then(
      () => true,
      () => false,
    );
    await killAfter(first, (withinMs * round) / rounds);
    const wasAnswered = await answered;
    const again = await start(target, stateDir);
    const status = await again.client.status();
    const fault = grantFault(status, licence.licenceId, wasAnswered);
    if (fault !== null) faults.push(`round ${round}: ${fault}`);
    if (status.licence !== null) kept += 1;
    // The same grant once more: a new process has a new encryption key.
    await grantFor(target, again, 1);
    const replay = await again.client.unlock(grant).then(
      () => 'accepted',
      (error: unknown) => (error instanceof DistillockError ? error.code : 'internal'),
    );
    if (replay !== 'grant-unreadable') faults.push(`round ${round}: the grant of the killed process was ${replay}`);
    await stop(again);
    faults.push(...keysOnDisk(target, stateDir).map((found) => `round ${round}: ${found}`));
  }
  return { rounds, kept, lost: rounds - kept, faults };
}

function grantFault({ licence }: EnclaveStatus, licenceId: string, answered: boolean): string | null {
  if (licence === null) return answered ? 'an answered unlock is gone' : null;
  if (licence.licenceId !== licenceId) return 'another licence is there';
  return licence.chargedTokens === 0 ? null : `${licence.chargedTokens} tokens are charged already`;
}

const ROWS = 3;

/** Rounds on one state folder and one licence: releases in flight, SIGKILL, restart; at the end the rest of the budget is taken. */
export async function killWhileReleasing(
  target: KillTarget,
  rounds: number,
  { budgetTokens = 100_000, withinMs = 60 }: { readonly budgetTokens?: number; readonly withinMs?: number } = {},
): Promise<ReleaseKills> {
  const stateDir = join(target.folder, 'release');
  const faults: string[] = [];
  let enclave = await start(target, stateDir);
  await enclave.client.unlock((await grantFor(target, enclave, budgetTokens)).grant);
  let released = 0;
  let inFlight = 0;
  let cutRounds = 0;
  for (let round = 0; round < rounds; round++) {
    const sent = await release(enclave, 200, (rows) => {
      released += rows;
    });
    await killAfter(enclave, randomInt(0, withinMs));
    // What was sent and not answered may or may not have been charged.
    const cut = await sent.unanswered();
    if (cut > 0) cutRounds += 1;
    inFlight += cut;
    enclave = await start(target, stateDir);
    const { licence, state } = await enclave.client.status();
    const charged = licence?.chargedTokens ?? 0;
    if (state !== 'unlocked') faults.push(`round ${round}: the enclave is ${state}`);
    if (charged < released) faults.push(`round ${round}: ${released} released, only ${charged} charged`);
    if (charged > released + inFlight)
      faults.push(`round ${round}: ${charged} charged, at most ${released + inFlight} asked for`);
    faults.push(...keysOnDisk(target, stateDir).map((found) => `round ${round}: ${found}`));
  }
  const { licence } = await enclave.client.status();
  const session = await enclave.client.begin({ topK: 1, temperature: 1 });
  for (let left = licence?.remainingTokens ?? 0; left > 0; ) {
    const rows = Math.min(left, 5_000);
    await session.authorise(new Int32Array(rows).fill(1));
    await session.release(lockedRows(rows));
    released += rows;
    left -= rows;
  }
  await session.authorise(Int32Array.of(1)).then(
    () => faults.push('tokens are authorised beyond the budget'),
    () => undefined,
  );
  const chargedTokens = (await enclave.client.status()).licence?.chargedTokens ?? 0;
  if (released > budgetTokens) faults.push(`${released} released of a budget of ${budgetTokens}`);
  await stop(enclave);
  return { rounds, cutRounds, budgetTokens, releasedTokens: released, chargedTokens, faults };
}

function lockedRows(rows: number) {
  return { rows, k: 1, lockedIds: new Int32Array(rows), logprobs: new Float32Array(rows).fill(-1) };
}

/** Sends `count` releases at once and does not wait for them. */
async function release({ client }: Running, count: number, onReleased: (rows: number) => void) {
  const session = await client.begin({ topK: 1, temperature: 1 });
  await session.authorise(new Int32Array(count * ROWS).fill(1));
  let answered = 0;
  const settled = Array.from({ length: count }, () =>
    session.release(lockedRows(ROWS)).then(
      () => {
        answered += 1;
        onReleased(ROWS);
      },
      () => undefined,
    ),
  );
  return {
    async unanswered(): Promise<number> {
      await Promise.all(settled);
      return (count - answered) * ROWS;
    },
  };
}

interface Platform {
  readonly sealingKey: Uint8Array;
  readonly rootSecret: Uint8Array;
}

const PLATFORM_FILE = 'simulated-platform.json';

/**
 * Secrets that lie in the clear in state folder or bundle, each as one sentence: bundle key, lock seed, the enclave's signing secret.
 * The SIMULATED platform keeps its own two keys in the clear by design, in one file; anywhere else they count as found.
 */
export function keysOnDisk({ bundleDir, bundleId, keys }: KillTarget, stateDir: string): string[] {
  const text = readFileSync(join(stateDir, PLATFORM_FILE), 'utf8');
  const fields = JSON.parse(text) as Record<keyof Platform, string>;
  const sealingKey = decodeBase64url(fields.sealingKey);
  const secrets: [string, Uint8Array][] = [
    ['bundle key', keys.bundleKey],
    ['lock seed', keys.lockSeed],
    ['sealing key', sealingKey],
    ["quoting root's secret", decodeBase64url(fields.rootSecret)],
  ];
  const sealed = openStateFile(join(stateDir, 'sealed-state.bin')).load();
  const record = sealed.length === 0 ? null : openNewest(sealed, sealingKey, bundleId).record;
  if (record?.kind === 'live') secrets.push(['signing secret of the enclave', record.signingSecret]);
  const files = [...filesIn(stateDir), ...filesIn(bundleDir)];
  return files.flatMap((file) => {
    const bytes = readFileSync(file);
    return secrets
      .filter(([name, secret]) => holds(bytes, secret) && !(file.endsWith(PLATFORM_FILE) && isPlatformKey(name)))
      .map(([name]) => `the ${name} lies in the clear in ${file}`);
  });
}

function isPlatformKey(name: string): boolean {
  return name === 'sealing key' || name === "quoting root's secret";
}

function filesIn(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names.map((name) => join(folder, name)).filter((path) => statSync(path).isFile());
}

/** Raw, hex, or base64 of either alphabet at any of its three alignments. */
export function holds(bytes: Buffer, secret: Uint8Array): boolean {
  const raw = Buffer.from(secret);
  const texts = [raw.toString('hex'), raw.toString('hex').toUpperCase()];
  for (const skip of [0, 1, 2]) {
    // Without the characters that share bits with neighbours.
    const inner = raw.subarray(skip, raw.length - ((raw.length - skip) % 3));
    texts.push(inner.toString('base64'), inner.toString('base64url'));
  }
  return bytes.includes(raw) || texts.some((text) => bytes.includes(text));
}
