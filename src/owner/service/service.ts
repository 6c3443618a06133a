// The licence service without its transport: challenge → evidence → appraisal → grant, then leases and receipts. Zone: owner.
// DESIGN section 7. What must happen once is decided by the database, so any number of these may share one.
import { randomBytes } from 'node:crypto';
import { keyId } from '../../trusted/wire/jws.js';
import type { Licence } from '../../trusted/wire/licence.js';
import { NONCE_BYTES } from '../../trusted/wire/limits.js';
import type { OwnerKeys } from '../owner-keys.js';
import type { Database } from '../store/database.js';
import { deleteChallenges, insertChallenge } from '../store/grant-records.js';
import type { Appraiser } from './appraiser.js';
import { grantFor } from './grant.js';
import { leaseFor } from './lease.js';
import { type ClosedLicence, keepReceipt } from './receipt.js';
import { refusal } from './refusals.js';

export interface ServiceOptions {
  readonly database: Database;
  /** Secrets of the bundles that are licensed here; told apart by the owner key that an enclave obeys. */
  readonly keys: readonly OwnerKeys[];
  readonly appraiser: Appraiser;
  /** Unix seconds; the system's clock when absent. */
  readonly now?: () => number;
}

/** What the parts of the service share. */
export interface ServiceContext {
  readonly database: Database;
  readonly keysOf: (ownerKeyId: string) => OwnerKeys | null;
  readonly appraiser: Appraiser;
  readonly now: () => number;
}

export interface GrantAnswer {
  /** For `unlock`; sealed to the attested enclave process. */
  readonly grant: Uint8Array;
  readonly licence: Licence;
}

export interface LicenceService {
  /** 32 bytes to attest over, good for one grant within five minutes. */
  challenge(bundleId: string): Promise<{ readonly nonce: Uint8Array; readonly expires: number }>;
  /** The same answer whenever the same is asked again. */
  grant(request: {
    readonly nonce: Uint8Array;
    readonly evidence: Uint8Array;
    readonly activationCode: string;
  }): Promise<GrantAnswer>;
  /** `request` and the answer are compact JWS. */
  lease(request: string): Promise<string>;
  receipt(receipt: string): Promise<readonly ClosedLicence[]>;
  /** Forgets challenges that are over. */
  sweep(): Promise<void>;
}

/** Seconds that a challenge may wait for its evidence. */
export const CHALLENGE_S = 300;
/** An expired challenge is told from an unknown one for this long. */
const KEEP_EXPIRED_S = 3600;

export function createLicenceService(options: ServiceOptions): LicenceService {
  const { database, appraiser, now = () => Math.floor(Date.now() / 1000) } = options;
  const keys = new Map(options.keys.map((each) => [keyId(each.signingKey), each]));
  const context: ServiceContext = { database, appraiser, now, keysOf: (id) => keys.get(id) ?? null };
  return {
    async challenge(bundleId) {
      const nonce = new Uint8Array(randomBytes(NONCE_BYTES));
      const expires = now() + CHALLENGE_S;
      if (!(await insertChallenge(database, { nonce, bundleId, expires }))) throw refusal('bundle-unknown');
      return { nonce, expires };
    },
    grant: (request) => grantFor(context, request),
    lease: (request) => leaseFor(context, request),
    receipt: (receipt) => keepReceipt(context, receipt),
    sweep: () => deleteChallenges(database, now() - KEEP_EXPIRED_S),
  };
}
