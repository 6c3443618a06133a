// Owner and data owner on one machine, for a demonstration: lock, start the enclave, attest, appraise, grant, unlock.
// Zone: owner and edge. The messages are those that two machines would exchange; the enclave is SIMULATED.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { appraise } from '../../attest/appraise.js';
import { parseSimulated, verifySimulated } from '../../attest/evidence/simulated.js';
import { verifyReceipt } from '../../attest/receipt.js';
import { type LockedTeacher, openLockedTeacher } from '../../edge/teacher/locked-teacher.js';
import type { Checkpoint } from '../../model/checkpoint/hf-directory.js';
import { grantLicence, type LicenceTerms } from '../../owner/grant.js';
import { type LockOptions, lockModel } from '../../owner/lock-checkpoint.js';
import { type OwnerKeys, saveOwnerKeys, saveOwnerPublicKey } from '../../owner/owner-keys.js';
import { EnvironmentError } from '../../trusted/wire/errors.js';
import type { Receipt } from '../../trusted/wire/receipt.js';

export interface LockedHere {
  readonly bundleDir: string;
  readonly bundleId: string;
  readonly keys: OwnerKeys;
  readonly seconds: number;
}

/** Locks `checkpoint` into `<folder>/<name>.lock` and writes the owner's key files beside it. */
export async function lockHere(
  checkpoint: Checkpoint,
  folder: string,
  name: string,
  options: Pick<LockOptions, 'scheme' | 'plan' | 'precision' | 'quantize' | 'onProgress'> = {},
): Promise<LockedHere> {
  const started = performance.now();
  const bundleDir = join(folder, `${name}.lock`);
  const { bundleId, keys } = await lockModel({ checkpoint, outDir: bundleDir, ...options });
  await saveOwnerKeys(join(folder, `${name}.owner-secrets.json`), keys);
  await saveOwnerPublicKey(join(folder, `${name}.owner.json`), keys);
  return { bundleDir, bundleId, keys, seconds: (performance.now() - started) / 1000 };
}

/** Starts an enclave for the bundle without a licence: it answers, and refuses. */
export function startUnlicensed(
  locked: LockedHere,
  stateDir: string,
  onNotice: (line: string) => void,
): Promise<LockedTeacher> {
  return openLockedTeacher({ bundleDir: locked.bundleDir, ownerKey: locked.keys.signingKey, stateDir, onNotice });
}

export interface Licensed {
  readonly licenceId: string;
  readonly budgetTokens: number;
  /** Ends the teacher: the enclave erases its keys and signs. Throws VerificationError unless the attested enclave signed it. */
  destroy(): Promise<{ receipt: Receipt; jws: Uint8Array }>;
}

/** The owner's side of a licence, in full: nonce, evidence, verification, appraisal, grant; then the enclave unlocks. */
export async function licenseHere(locked: LockedHere, teacher: LockedTeacher, terms: LicenceTerms): Promise<Licensed> {
  const root = teacher.process?.simulatedRoot;
  if (root === undefined)
    throw new EnvironmentError('enclave-running', 'another enclave already runs on this state folder; stop it first');
  const nonce = new Uint8Array(randomBytes(32));
  const verified = verifySimulated(parseSimulated(await teacher.client.attest(nonce)), root, nonce);
  const evidence = appraise(verified, { kinds: ['simulated'], bundleIds: [locked.bundleId], measurements: 'any' });
  const { grant, licence } = await grantLicence({ keys: locked.keys, evidence, terms });
  await teacher.client.unlock(grant);
  return {
    licenceId: licence.licenceId,
    budgetTokens: licence.budgetTokens,
    destroy: async () => {
      const jws = await teacher.client.destroy();
      return { jws, receipt: verifyReceipt(jws, evidence.claims.signingKey) };
    },
  };
}
