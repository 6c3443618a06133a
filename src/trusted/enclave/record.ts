// The enclave's memory across restarts: keys, licences, counters, sealed under the platform's key after every change. Zone: trusted.
// Honest limit: without a monotonic counter in hardware, putting an older sealed file back rolls the counters back and is not
// noticed; `version` only makes such states tellable apart. DESIGN section 6, issue of later platforms.
import { randomBytes } from 'node:crypto';
import { openBytes, sealBytes } from '../wire/aead.js';
import { encodeCanonicalJson } from '../wire/canonical-json.js';
import { Reader, Writer } from '../wire/codec.js';
import { VerificationError } from '../wire/errors.js';
import { type Licence, parseLicence } from '../wire/licence.js';

export interface LicenceAccount {
  readonly licence: Licence;
  readonly chargedTokens: number;
  /** The licence as it is sealed with every charge. */
  readonly text: Uint8Array;
}

/** Of a licence just accepted. */
export function openAccount(licence: Licence): LicenceAccount {
  return { licence, chargedTokens: 0, text: encodeCanonicalJson(licence) };
}

/** The same account, `tokens` more charged. */
export function withCharge(account: LicenceAccount, tokens: number): LicenceAccount {
  return tokens === 0 ? account : { ...account, chargedTokens: account.chargedTokens + tokens };
}

/** An unlocked enclave. The last account is the current one; earlier ones are exhausted or expired. */
export interface LiveRecord {
  readonly kind: 'live';
  readonly signingSecret: Uint8Array;
  readonly signingKey: Uint8Array;
  readonly bundleKey: Uint8Array;
  readonly accounts: readonly LicenceAccount[];
  /** Latest time seen, Unix seconds: a clock that is set back does not revive a licence. */
  readonly lastTime: number;
}

/** All that is left after `destroy`: a restart stays destroyed and hands out the same receipt. */
export interface Tombstone {
  readonly kind: 'destroyed';
  readonly receipt: Uint8Array;
}

export type EnclaveRecord = LiveRecord | Tombstone;

function associated(bundleId: string): Uint8Array {
  return new Writer().text('distillock sealed state v1').text(bundleId).finish();
}

/** `version` grows by one with every save. */
export function sealRecord(record: EnclaveRecord, version: number, key: Uint8Array, bundleId: string): Uint8Array {
  const writer = new Writer().u64(version).u8(record.kind === 'live' ? 1 : 0);
  if (record.kind === 'destroyed') writer.bytes(record.receipt);
  else {
    writer.raw(record.signingSecret).raw(record.signingKey).raw(record.bundleKey).u64(record.lastTime);
    writer.u32(record.accounts.length);
    for (const { text, chargedTokens } of record.accounts) writer.bytes(text).u64(chargedTokens);
  }
  const plaintext = writer.finish();
  const sealed = sealBytes(key, randomBytes(12), associated(bundleId), plaintext);
  plaintext.fill(0);
  return sealed;
}

function readLive(reader: Reader): LiveRecord {
  const keys = { signingSecret: reader.raw(32), signingKey: reader.raw(32), bundleKey: reader.raw(32) };
  const lastTime = reader.u64();
  const accounts: LicenceAccount[] = [];
  for (let left = reader.u32(); left > 0; left--) {
    const text = reader.bytes();
    accounts.push({ licence: parseLicence(text), chargedTokens: reader.u64(), text });
  }
  return { kind: 'live', ...keys, accounts, lastTime };
}

export interface VersionedRecord {
  readonly record: EnclaveRecord;
  readonly version: number;
}

function openRecord(sealed: Uint8Array, key: Uint8Array, bundleId: string): VersionedRecord {
  const reader = new Reader(openBytes(key, associated(bundleId), sealed));
  const version = reader.u64();
  const record: EnclaveRecord = reader.u8() === 1 ? readLive(reader) : { kind: 'destroyed', receipt: reader.bytes() };
  reader.end();
  return { record, version };
}

/**
 * The newest record that opens: a save that a crash cut short leaves the one before it.
 * Throws VerificationError('sealed-state') when none does.
 */
export function openNewest(states: readonly Uint8Array[], key: Uint8Array, bundleId: string): VersionedRecord {
  let newest: VersionedRecord | null = null;
  let cause: unknown;
  for (const sealed of states) {
    try {
      const opened = openRecord(sealed, key, bundleId);
      if (opened.version > (newest?.version ?? -1)) newest = opened;
    } catch (error) {
      cause = error;
    }
  }
  const message = 'the sealed enclave state does not open: it belongs to another bundle or machine, or was altered';
  if (newest === null) throw new VerificationError('sealed-state', message, {}, cause);
  return newest;
}
