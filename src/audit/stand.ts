// A test stand for one bundle: an enclave in a folder of its own, the owner's licence service beside it, and the disk in between, which
// the attacker may copy and write. Zone: owner. Probes (probe.ts) run on it: against a real enclave process, or a deliberately weak one.
import { randomBytes } from 'node:crypto';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseSimulated, verifySimulated } from '../attest/evidence/simulated.js';
import { verifyLeaseRequest } from '../attest/lease-request.js';
import { appraise } from '../attest/policy/appraise.js';
import { simulatedPolicy } from '../attest/policy/policy.js';
import { type Bundle, openBundle } from '../edge/bundle.js';
import { EnclaveClient } from '../edge/enclave/client.js';
import { launchEnclave } from '../edge/enclave/launch.js';
import { grantLicence, type LicenceTerms } from '../owner/grant.js';
import type { OwnerKeys } from '../owner/owner-keys.js';
import { signWithOwnerKey } from '../owner/sign.js';
import { decodeUtf8, encodeUtf8 } from '../trusted/wire/bytes.js';
import { encodeCanonicalJson } from '../trusted/wire/canonical-json.js';
import { PolicyError } from '../trusted/wire/errors.js';
import type { Licence } from '../trusted/wire/licence.js';

/** An enclave that runs. */
export interface RunningEnclave {
  readonly simulatedRoot: Uint8Array;
  /** A further connection; its socket takes raw frames too. */
  connect(): Promise<{ readonly client: EnclaveClient; readonly socketPath: string }>;
  stop(): Promise<void>;
  /** Ends it without a chance to save anything. */
  kill(): Promise<void>;
}

export interface Stand {
  readonly bundle: Bundle;
  /** What the enclave keeps on the disk: the attacker's to copy, put back or delete. */
  readonly stateDir: string;
  start(): Promise<RunningEnclave>;
  /** The owner's side: appraises the evidence and grants. Returns the grant as it crossed the network, already used for `unlock`. */
  license(enclave: RunningEnclave, client: EnclaveClient, terms: Partial<LicenceTerms>): Promise<Uint8Array>;
  /** Lets the client fetch leases from the owner's service, which never covers more than the licence's budget. */
  coverWithLeases(client: EnclaveClient): void;
  /** What the device's relay does of itself when a text has passed, before the receipt goes out: nothing. */
  afterText(ids: Int32Array): Promise<void>;
  /** The same enclave on a copy of its disk. */
  fork(): Promise<Stand>;
  /** A stand as new for the same bundle. */
  another(): Promise<Stand>;
  close(): Promise<void>;
}

export interface StandOptions {
  readonly bundleDir: string;
  readonly keys: OwnerKeys;
  /** Folders of the stand are made in here. */
  readonly folder: string;
}

/** What starts an enclave on a state folder. */
export type Launch = (stateDir: string) => Promise<RunningEnclave>;

/** Terms small enough to be used up in a moment. */
/** The stand carries the messages itself, so it writes them down, as the relay does. */
const OWNER = 'owner';
export const BUDGET = 8;
export const TOP_K = 4;

/** The bundle's real enclave, as a process of its own. */
export async function realStand(options: StandOptions): Promise<Stand> {
  return openStand(options, async (stateDir) => {
    const enclave = await launchEnclave({
      bundleDir: options.bundleDir,
      stateDir,
      ownerPublicKey: options.keys.signingKey,
      onNotice: () => undefined,
    });
    const { socketPath, simulatedRoot } = enclave;
    return {
      simulatedRoot,
      connect: async () => ({ client: await EnclaveClient.connect(socketPath), socketPath }),
      stop: () => enclave.stop(),
      kill: async () => {
        const ended = enclave.exited();
        process.kill(enclave.pid, 'SIGKILL');
        await ended;
      },
    };
  });
}

export async function openStand(options: StandOptions, launch: Launch, from?: Stand): Promise<Stand> {
  const { keys, bundleDir, folder } = options;
  const bundle = await openBundle(bundleDir, { ownerKey: keys.signingKey, checkHashes: false });
  const stateDir = await mkdtemp(join(folder, 's-'));
  if (from !== undefined)
    await cp(from.stateDir, stateDir, { recursive: true, filter: (path) => !path.endsWith('.sock') });
  const running = new Set<RunningEnclave>();
  const service = new LeaseService(keys);
  const stand: Stand = {
    bundle,
    stateDir,
    start: async () => {
      const enclave = await launch(stateDir);
      const ended = async (end: () => Promise<void>): Promise<void> => {
        running.delete(enclave);
        await end();
      };
      const tracked = { ...enclave, stop: () => ended(enclave.stop), kill: () => ended(enclave.kill) };
      running.add(enclave);
      return tracked;
    },
    license: async (enclave, client, changes) => {
      const nonce = new Uint8Array(randomBytes(32));
      const message = await client.attest(nonce);
      await client.ledger.record({ direction: 'out', purpose: 'evidence', host: OWNER, message });
      const verified = verifySimulated(parseSimulated(message), enclave.simulatedRoot, nonce);
      const policy = simulatedPolicy(bundle.bundleId, enclave.simulatedRoot);
      const evidence = appraise(verified, policy, Math.floor(Date.now() / 1000));
      const { grant, licence } = await grantLicence({ keys, evidence, terms: { ...terms(), ...changes } });
      service.remember(licence, evidence.claims.signingKey);
      await client.ledger.record({ direction: 'in', purpose: 'grant', host: OWNER, message: grant });
      await client.unlock(grant);
      return grant;
    },
    coverWithLeases: (client) => {
      client.fetchLease = async (request) => {
        await client.ledger.record({ direction: 'out', purpose: 'lease-request', host: OWNER, message: request });
        const lease = await service.lease(request);
        await client.ledger.record({ direction: 'in', purpose: 'lease', host: OWNER, message: lease });
        return lease;
      };
    },
    afterText: async () => undefined,
    // Leases of a fork come from the same owner's service.
    fork: async () => {
      const copy = await openStand(options, launch, stand);
      return { ...copy, coverWithLeases: stand.coverWithLeases };
    },
    another: () => openStand(options, launch),
    close: async () => {
      for (const enclave of running) await enclave.stop();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
  return stand;
}

function terms(): LicenceTerms {
  const now = Math.floor(Date.now() / 1000);
  const temperature = { min: 1, max: 1 };
  return {
    budgetTokens: BUDGET,
    topK: TOP_K,
    precision: 'float32',
    temperature,
    notBefore: now - 60,
    expires: now + 3600,
  };
}

/** The owner's lease ledger for the licence granted last: debits when it issues. */
class LeaseService {
  readonly #keys: OwnerKeys;
  #licence: Licence | null = null;
  #signingKey: Uint8Array = new Uint8Array(0);
  #left = 0;

  constructor(keys: OwnerKeys) {
    this.#keys = keys;
  }

  remember(licence: Licence, signingKey: Uint8Array): void {
    this.#licence = licence;
    this.#signingKey = signingKey;
    this.#left = licence.budgetTokens;
  }

  async lease(request: Uint8Array): Promise<Uint8Array> {
    const { licenceId, enclaveKeyId, nonce } = verifyLeaseRequest(decodeUtf8(request), this.#signingKey);
    if (this.#licence?.licenceId !== licenceId)
      throw new PolicyError('licence-unknown', 'a lease is asked for on another licence than the one granted last');
    const tokens = Math.min(this.#licence.leaseTokens, this.#left);
    if (tokens === 0) throw new PolicyError('budget-exhausted', 'leases have used up the budget of this licence');
    this.#left -= tokens;
    const lease = encodeCanonicalJson({ licenceId, enclaveKeyId, nonce, tokens });
    return encodeUtf8(await signWithOwnerKey('lease', lease, this.#keys));
  }
}
