// Owner and data owner on one machine, for a demonstration: lock, start the enclave, attest, appraise, grant, unlock.
// Zone: owner and edge. The messages are those that two machines would exchange; the enclave is SIMULATED.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { parseSimulated, verifySimulated } from '../../attest/evidence/simulated.js';
import { appraise } from '../../attest/policy/appraise.js';
import { simulatedPolicy } from '../../attest/policy/policy.js';
import { verifyReceipt } from '../../attest/receipt.js';
import { EgressLedger } from '../../edge/licence/ledger.js';
import { type LockedTeacher, openLockedTeacher } from '../../edge/teacher/locked-teacher.js';
import type { Checkpoint } from '../../model/checkpoint/hf-directory.js';
import { grantLicence, type LicenceTerms } from '../../owner/grant.js';
import { type LockOptions, lockModel } from '../../owner/lock-checkpoint.js';
import { type OwnerKeys, saveOwnerKeys, saveOwnerPublicKey } from '../../owner/owner-keys.js';
import { EnvironmentError } from '../../trusted/wire/errors.js';
import type { Receipt } from '../../trusted/wire/receipt.js';

/** A bundle together with its owner's secrets. */
export interface OwnedBundle {
  readonly bundleDir: string;
  readonly bundleId: string;
  readonly keys: OwnerKeys;
}

export interface LockedHere extends OwnedBundle {
  /** The owner's secrets, in a file. */
  readonly keyFile: string;
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
  const keyFile = join(folder, `${name}.owner-secrets.json`);
  await saveOwnerKeys(keyFile, keys);
  await saveOwnerPublicKey(join(folder, `${name}.owner.json`), keys);
  return { bundleDir, keyFile, bundleId, keys, seconds: (performance.now() - started) / 1000 };
}

/** Starts an enclave for the bundle without a licence: it answers, and refuses. */
export function startUnlicensed(
  locked: OwnedBundle,
  stateDir: string,
  onNotice: (line: string) => void,
  ledger: EgressLedger = new EgressLedger(),
): Promise<LockedTeacher> {
  const { bundleDir, keys } = locked;
  return openLockedTeacher({ bundleDir, ownerKey: keys.signingKey, stateDir, onNotice, ledger });
}

export interface Licensed {
  readonly licenceId: string;
  readonly budgetTokens: number;
  /** Ends the teacher: the enclave erases its keys and signs. Throws VerificationError unless the attested enclave signed it. */
  destroy(): Promise<{ receipt: Receipt; jws: Uint8Array }>;
}

/** The ledger's name for an owner in the same process. */
const HERE = 'this process';

/** The owner's side of a licence, in full: nonce, evidence, verification, appraisal, grant; then the enclave unlocks. */
export async function licenseHere(
  locked: Pick<LockedHere, 'bundleId' | 'keys'>,
  teacher: LockedTeacher,
  terms: LicenceTerms,
): Promise<Licensed> {
  const root = teacher.process?.simulatedRoot;
  if (root === undefined)
    throw new EnvironmentError('enclave-running', 'another enclave already runs on this state folder; stop it first');
  const nonce = new Uint8Array(randomBytes(32));
  const relay = (direction: 'out' | 'in', purpose: 'evidence' | 'grant', message: Uint8Array): Promise<void> =>
    teacher.client.ledger.record({ direction, purpose, host: HERE, message });
  const attested = await teacher.client.attest(nonce);
  await relay('out', 'evidence', attested);
  const verified = verifySimulated(parseSimulated(attested), root, nonce);
  const evidence = appraise(verified, simulatedPolicy(locked.bundleId, root), Math.floor(Date.now() / 1000));
  const { grant, licence } = await grantLicence({ keys: locked.keys, evidence, terms });
  await relay('in', 'grant', grant);
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
