// The enclave's end of a grant: an X25519 key pair that lives as long as the process, and HPKE opening with it. Zone: trusted.
// Asynchronous because WebCrypto is; that is why it is here and not in the enclave program.
import { Aes256Gcm, CipherSuite, HkdfSha256 } from '@hpke/core';
import { DhkemX25519HkdfSha256 } from '@hpke/dhkem-x25519';
import { encodeUtf8 } from '../wire/bytes.js';
import { decodeSealedGrant, GRANT_INFO } from '../wire/grant.js';

export interface GrantOpener {
  /** Raw X25519 public key, 32 bytes. */
  readonly encryptionKey: Uint8Array;
  /** What the owner sealed, or nothing when it was sealed to another key or bundle, or altered. */
  open(sealedGrant: Uint8Array, bundleId: string): Promise<Uint8Array>;
}

/** A fresh key per process: a grant that was opened once cannot be opened again after a restart. */
export async function createGrantOpener(): Promise<GrantOpener> {
  const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
  const pair = await suite.kem.generateKeyPair();
  const encryptionKey = new Uint8Array(await suite.kem.serializePublicKey(pair.publicKey));
  async function open(sealedGrant: Uint8Array, bundleId: string): Promise<Uint8Array> {
    try {
      const { encapsulated, ciphertext } = decodeSealedGrant(sealedGrant);
      const context = { recipientKey: pair.privateKey, enc: encapsulated, info: GRANT_INFO };
      return new Uint8Array(await suite.open(context, ciphertext, encodeUtf8(bundleId)));
    } catch {
      return new Uint8Array(0);
    }
  }
  return { encryptionKey, open };
}
