// A locked bundle, an enclave process on it and the owner's side of the conversation. Not a test itself.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { parseSimulated, verifySimulated } from '../../src/attest/evidence/simulated.js';
import { appraise } from '../../src/attest/policy/appraise.js';
import { simulatedPolicy } from '../../src/attest/policy/policy.js';
import type { AppraisedEvidence } from '../../src/attest/verified.js';
import { EnclaveClient } from '../../src/edge/enclave/client.js';
import { type EnclaveProcess, type LaunchOptions, launchEnclave } from '../../src/edge/enclave/launch.js';
import { grantLicence, type LicenceTerms } from '../../src/owner/grant.js';
import { type LockOptions, lockModel } from '../../src/owner/lock-checkpoint.js';
import type { OwnerKeys } from '../../src/owner/owner-keys.js';
import type { EnclaveStatus } from '../../src/trusted/wire/status.js';
import { temporaryFolder, tinyCheckpoint } from '../owner/tiny-model.js';

export interface TinyBundle {
  readonly folder: string;
  readonly bundleDir: string;
  readonly bundleId: string;
  readonly keys: OwnerKeys;
}

export async function lockTiny(
  t: TestContext,
  options: Pick<LockOptions, 'plan' | 'precision'> = {},
): Promise<TinyBundle> {
  const folder = await temporaryFolder(t);
  const bundleDir = join(folder, 'model.lock');
  return { folder, bundleDir, ...(await lockModel({ checkpoint: tinyCheckpoint(), outDir: bundleDir, ...options })) };
}

export async function start(
  t: TestContext,
  bundle: TinyBundle,
  options: Partial<LaunchOptions> = {},
): Promise<{ process: EnclaveProcess; client: EnclaveClient }> {
  const process = await launchEnclave({
    bundleDir: bundle.bundleDir,
    stateDir: join(bundle.folder, 'state'),
    ownerPublicKey: bundle.keys.signingKey,
    sandbox: 'none',
    onNotice: () => undefined,
    ...options,
  });
  t.after(() => process.stop());
  const client = await EnclaveClient.connect(process.socketPath);
  t.after(() => client.close());
  return { process, client };
}

export function terms(changes: Partial<LicenceTerms> = {}): LicenceTerms {
  const now = Math.floor(Date.now() / 1000);
  return {
    budgetTokens: 100,
    topK: 8,
    precision: 'float32',
    temperature: { min: 0.5, max: 4 },
    notBefore: now - 60,
    expires: now + 3600,
    ...changes,
  };
}

export async function appraised(
  bundle: TinyBundle,
  enclave: { process: EnclaveProcess; client: EnclaveClient },
): Promise<AppraisedEvidence> {
  const nonce = new Uint8Array(randomBytes(32));
  const evidence = parseSimulated(await enclave.client.attest(nonce));
  const verified = verifySimulated(evidence, enclave.process.simulatedRoot, nonce);
  const policy = simulatedPolicy(bundle.bundleId, enclave.process.simulatedRoot);
  return appraise(verified, policy, Math.floor(Date.now() / 1000));
}

/** The whole conversation: attest, verify, appraise, grant, unlock. */
export async function unlock(
  bundle: TinyBundle,
  enclave: { process: EnclaveProcess; client: EnclaveClient },
  changes: Partial<LicenceTerms> = {},
): Promise<EnclaveStatus> {
  const evidence = await appraised(bundle, enclave);
  const { grant } = await grantLicence({ keys: bundle.keys, evidence, terms: terms(changes) });
  return enclave.client.unlock(grant);
}
