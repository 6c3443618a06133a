// Intel's signed JSON: the exact text is what the signature is over, and it is read only after that. Zone: owner (verifier).
// Fields that this version does not know are left alone (Intel adds some); those it needs must be there and have their type.
import { encodeUtf8 } from '../../trusted/wire/bytes.js';
import type { JsonValue } from '../../trusted/wire/canonical-json.js';
import { MalformedError, VerificationError } from '../../trusted/wire/errors.js';
import { Fields } from '../../trusted/wire/fields.js';
import type { Certificate } from './certificates.js';
import { verifyP256 } from './p256.js';

export const MAX_SIGNED_TEXT: number = 256 * 1024;

/** Throws VerificationError unless `signer` signed exactly `text`. `signature` is r‖s. */
export function verifySignedText(text: string, signature: Uint8Array, signer: Certificate, where: string): void {
  if (!verifyP256(signer.point, encodeUtf8(text), signature, 'ieee-p1363')) {
    throw new VerificationError('collateral-signature', `${where}: ${signer.commonName} did not sign this text`, {
      where,
    });
  }
}

/** Throws MalformedError unless `text` is JSON. */
export function readSignedText(text: string, where: string): JsonValue {
  if (text.length > MAX_SIGNED_TEXT) {
    throw new MalformedError('collateral', `${where}: longer than ${MAX_SIGNED_TEXT} characters`, { where });
  }
  try {
    return JSON.parse(text) as JsonValue;
  } catch (cause) {
    throw new MalformedError('collateral', `${where}: not JSON`, { where }, cause);
  }
}

/** Bytes in hex of either case. */
export function hexField(fields: Fields, key: string, length: number): Uint8Array {
  const text = fields.text(key, /^([0-9a-fA-F]{2})*$/);
  if (text.length !== 2 * length) {
    throw new MalformedError('collateral', `${key}: expected ${length} bytes in hex`, { key });
  }
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

/** Unix seconds of a time like 2025-06-19T10:56:11Z. */
export function timeField(fields: Fields, key: string): number {
  const text = fields.text(key, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  const milliseconds = Date.parse(text);
  if (Number.isNaN(milliseconds) || new Date(milliseconds).toISOString() !== text.replace('Z', '.000Z')) {
    throw new MalformedError('collateral', `${key}: no such time`, { key });
  }
  return milliseconds / 1000;
}

/** The list under `key`, empty where Intel leaves the key out. */
export function optionalList(record: JsonValue, key: string, max: number): readonly JsonValue[] {
  const has = record !== null && typeof record === 'object' && Object.hasOwn(record, key);
  return has ? new Fields(record, key).list(key, max) : [];
}

/** The advisories of a level: ids like INTEL-SA-00615. */
export function advisories(level: JsonValue): readonly string[] {
  return optionalList(level, 'advisoryIDs', 1024).map((id) => {
    if (typeof id !== 'string' || !/^[A-Z0-9-]{1,32}$/.test(id)) {
      throw new MalformedError('collateral', 'advisoryIDs: expected ids like INTEL-SA-00615');
    }
    return id;
  });
}

/** Throws VerificationError unless issued ≤ now ≤ next. */
export function checkWindow(issued: number, next: number, now: number, where: string): void {
  if (now < issued || now > next) {
    throw new VerificationError('collateral-window', `${where}: not valid at the time given; fetch it anew`, {
      where,
      issued,
      next,
    });
  }
}
