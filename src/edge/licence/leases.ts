// Leases: where the licence asks for them, the enclave releases only what the service has covered, and this fetches the cover.
// Zone: edge. The only messages after unlock, each in the ledger: the enclave's signed request out, the owner's signed lease in.
import { DistillockError, PolicyError } from '../../trusted/wire/errors.js';
import type { Gate } from '../teacher/gate.js';
import type { LicenceService } from './service.js';

/** The enclave's side of a lease. */
export interface LeaseHolder {
  leaseRequest(): Promise<Uint8Array>;
  lease(lease: Uint8Array): Promise<unknown>;
}

/** Gets the enclave one more lease; calls that overlap share one. */
export type RenewLease = () => Promise<void>;

/** A single release is never larger than a message, so a gate that asks this often is a service that gives nothing. */
const MOST_RENEWALS = 10_000;

export function leasesFrom(client: LeaseHolder, service: LicenceService): RenewLease {
  let running: Promise<void> | null = null;
  const renew = async (): Promise<void> => {
    await client.lease(await service.lease(await client.leaseRequest()));
  };
  return () => {
    running ??= renew().finally(() => {
      running = null;
    });
    return running;
  };
}

/** Without a service a licence that needs leases says what is missing. */
export const noLeases: RenewLease = async () => {
  const message = 'the licence needs leases from its service, and no licence_service is known here; give --licence_service';
  throw new PolicyError('lease-needed', message);
};

/** A gate whose releases wait for as many leases as they need. The enclave charges nothing for a refused release. */
export function leasedGate(gate: Gate, renew: RenewLease): Gate {
  async function covered<T>(release: () => Promise<T>): Promise<T> {
    for (let renewals = 0; ; renewals++) {
      try {
        return await release();
      } catch (error) {
        if (!(error instanceof DistillockError && error.code === 'lease-needed') || renewals === MOST_RENEWALS) throw error;
        await renew();
      }
    }
  }
  return {
    ...gate,
    release: (topK) => covered(() => gate.release(topK)),
    head: (rows, k) => covered(() => gate.head(rows, k)),
  };
}
