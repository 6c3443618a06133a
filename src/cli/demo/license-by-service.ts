// The demo's licence as a device gets it: an activation code from the owner, everything else over HTTP. Zone: owner and edge.
import { decodeEvidence } from '../../attest/evidence/decode-evidence.js';
import { verifyReceipt } from '../../attest/receipt.js';
import type { EnclaveClient } from '../../edge/enclave/client.js';
import { parseServiceAddress } from '../../edge/licence/address.js';
import { obtainGrant } from '../../edge/licence/obtain-grant.js';
import { LicenceService } from '../../edge/licence/service.js';
import type { Receipt } from '../../trusted/wire/receipt.js';
import type { LicenceDesk } from './licence-desk.js';

export interface ServiceLicenceOptions {
  readonly desk: LicenceDesk;
  /** Of an enclave without a licence. */
  readonly client: EnclaveClient;
  readonly bundleId: string;
  readonly budgetTokens: number;
  readonly topK: number;
  onNotice(line: string): void;
}

export interface ServiceLicence {
  /** The enclave erases its keys and signs; the service closes the licence. Throws unless the attested enclave signed. */
  destroy(): Promise<{ readonly receipt: Receipt; readonly jws: Uint8Array; readonly state: string }>;
}

/** float16 at temperature 1, for one hour, one device and no leases. */
export async function licenseByService(options: ServiceLicenceOptions): Promise<ServiceLicence> {
  const { desk, client, bundleId, budgetTokens, topK, onNotice } = options;
  const { licenceId, activationCode } = await desk.issue({
    bundleId,
    label: 'demo',
    budgetTokens,
    leaseTokens: 0,
    topK,
    precision: 'float16',
    temperature: { min: 1, max: 1 },
    expires: Math.floor(Date.now() / 1000) + 3600,
    maxDevices: 1,
  });
  const address = parseServiceAddress(desk.url, { ca: null, insecureHttp: false });
  const service = new LicenceService({ address, ledger: client.ledger });
  const { evidence } = await obtainGrant({ client, service, activationCode, onNotice });
  onNotice(`   licence service at ${desk.url}: evidence sent, grant received, both in the egress ledger`);
  return {
    async destroy() {
      const jws = await client.destroy();
      const receipt = verifyReceipt(jws, decodeEvidence(evidence).claims.signingKey);
      await service.receipt(jws);
      return { receipt, jws, state: (await desk.show(licenceId)).licence.state };
    },
  };
}
