// From an activation code to an unlocked enclave: challenge, evidence, grant, unlock. Zone: edge. DESIGN section 7.
// The device only carries: the grant is sealed to the enclave's process, and the enclave judges the licence in it.
import type { EnclaveStatus } from '../../trusted/wire/status.js';
import type { EnclaveClient } from '../enclave/client.js';
import type { LicenceService } from './service.js';

export interface ObtainOptions {
  readonly client: EnclaveClient;
  readonly service: LicenceService;
  readonly activationCode: string;
  readonly onNotice?: (line: string) => void;
}

export interface Obtained {
  readonly status: EnclaveStatus;
  /** What was sent for it: names the key that the enclave's receipt will be signed with. */
  readonly evidence: Uint8Array;
}

/** Throws what the service refuses with, or what the enclave refuses with when the grant is not what it should be. */
export async function obtainGrant({ client, service, activationCode, onNotice }: ObtainOptions): Promise<Obtained> {
  const { bundleId } = await client.status();
  const { nonce } = await service.challenge(bundleId);
  const evidence = await client.attest(nonce);
  const { grant, described } = await service.grant(nonce, evidence, activationCode);
  const status = await client.unlock(grant);
  const differing = differingTerms(status, described);
  if (differing.length > 0) {
    onNotice?.(
      `the service described other terms than those it signed (${differing.join(', ')}); the signed ones count`,
    );
  }
  return { status, evidence };
}

/** Names of terms that the service's description gives otherwise than the licence that the enclave accepted. */
function differingTerms({ licence }: EnclaveStatus, described: Readonly<Record<string, unknown>>): string[] {
  if (licence === null) return [];
  const { licenceId, budgetTokens, topK, precision, expires } = licence;
  const signed: Readonly<Record<string, unknown>> = { licenceId, budgetTokens, topK, precision, expires };
  return Object.keys(signed).filter((name) => described[name] !== signed[name]);
}
