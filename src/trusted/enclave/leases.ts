// What the service has covered in advance for this process, where the licence asks for that. Zone: trusted. See wire/lease.ts.
// It lives in memory alone: a restart, another licence and a restored sealed file all begin at 0, and an old lease names an old nonce.
import { randomBytes } from 'node:crypto';
import { encodeBase64url } from '../wire/base64url.js';
import { decodeUtf8, encodeUtf8 } from '../wire/bytes.js';
import { encodeCanonicalJson } from '../wire/canonical-json.js';
import { signJws } from '../wire/jws.js';
import { type LeaseRequest, verifyLease } from '../wire/lease.js';
import { NONCE_BYTES } from '../wire/limits.js';
import type { LicenceAccount } from './record.js';
import { orRefuse, refuse } from './refuse.js';
import type { SigningKey } from './start.js';

export class Leases {
  /** Positions covered and not yet released. */
  #tokens = 0;
  #open: { readonly request: LeaseRequest; readonly jws: Uint8Array } | null = null;

  /** Positions that may be released now; null where the licence needs no leases. */
  left({ licence }: LicenceAccount): number | null {
    return licence.leaseTokens === 0 ? null : this.#tokens;
  }

  /** The signed request. Until its lease is there it stays the same one, so that a lost reply costs nothing. */
  request({ licence, chargedTokens }: LicenceAccount, enclaveKeyId: string, signing: SigningKey): Uint8Array {
    // A licence without leases promises that nothing leaves after `unlock`.
    if (licence.leaseTokens === 0) refuse('lease-refused');
    if (this.#open === null) {
      const nonce = encodeBase64url(randomBytes(NONCE_BYTES));
      const request: LeaseRequest = { licenceId: licence.licenceId, enclaveKeyId, nonce, chargedTokens };
      const payload = encodeCanonicalJson(request);
      this.#open = { request, jws: encodeUtf8(signJws('lease-request', payload, signing.secret, signing.key)) };
    }
    return this.#open.jws;
  }

  /** Refuses `lease-refused` for anything but the owner's answer to the open request. */
  accept(jws: Uint8Array, ownerKey: Uint8Array): void {
    const { nonce, licenceId, enclaveKeyId } = this.#open?.request ?? refuse('lease-refused');
    const lease = orRefuse('lease-refused', () => verifyLease(decodeUtf8(jws), ownerKey));
    if (lease.nonce !== nonce || lease.licenceId !== licenceId || lease.enclaveKeyId !== enclaveKeyId)
      refuse('lease-refused');
    this.#open = null;
    this.#tokens += lease.tokens;
  }

  /** Takes released positions off; the caller has checked `left`. */
  use(rows: number): void {
    this.#tokens -= rows;
  }
}
