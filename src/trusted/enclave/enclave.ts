// The enclave program: one synchronous function from request frame to reply frame. Zone: trusted. DESIGN section 6.
// fresh → attested → unlocked → (exhausted | expired) → destroyed; a further licence takes the place of the one before.
// A tokens' charge is sealed to disk before its rows are answered; every failure leaves as a code, never as text.

import { openPart } from '../lock/sealed-part.js';
import { invertPermutation } from '../lock/stream.js';
import { vocabularyPermutation } from '../lock/vocabulary.js';
import { encodeUtf8 } from '../wire/bytes.js';
import { encodeCanonicalJson } from '../wire/canonical-json.js';
import type { Frame } from '../wire/frame.js';
import { keyId, signJws } from '../wire/jws.js';
import { NONCE_BYTES } from '../wire/limits.js';
import * as messages from '../wire/messages.js';
import type { Receipt } from '../wire/receipt.js';
import { encodeEvidence, reportData } from '../wire/report-data.js';
import { type EnclaveState, type EnclaveStatus, encodeStatus } from '../wire/status.js';
import { acceptGrant } from './accept-grant.js';
import type { PlatformPort } from './port.js';
import { type EnclaveRecord, type LicenceAccount, sealRecord } from './record.js';
import { refuse, toRefusal } from './refuse.js';
import { unlockRows } from './release.js';
import { Sessions } from './sessions.js';
import { startEnclave } from './start.js';

export interface Enclave {
  /** Never throws: a failure is an error frame with the request's id. */
  handle(request: Frame): Frame;
}

/** Throws MalformedError or VerificationError when bundle or sealed state cannot be trusted (see `startEnclave`). */
export function createEnclave(port: PlatformPort): Enclave {
  const start = startEnclave(port);
  const { manifest, bundleId, signing } = start;
  const enclaveKeyId = keyId(signing.key);
  const sessions = new Sessions();
  let record = start.record;
  let version = start.version;
  let attested = false;
  let secrets: { readonly vocabulary: Int32Array; readonly tokenOfLockedId: Int32Array } | null = null;

  function deriveSecrets(lockSeed: Uint8Array): void {
    const vocabulary = vocabularyPermutation(lockSeed, manifest.scheme, manifest.model.vocabSize);
    lockSeed.fill(0);
    secrets = { vocabulary, tokenOfLockedId: invertPermutation(vocabulary) };
  }
  if (record?.kind === 'live') {
    deriveSecrets(openPart(port.bundle.sealedPart, record.bundleKey, manifest.scheme, manifest.model).lockSeed);
  }

  function now(): number {
    return Math.max(port.now(), record?.kind === 'live' ? record.lastTime : 0);
  }

  function accounts(): readonly LicenceAccount[] {
    return record?.kind === 'live' ? record.accounts : [];
  }

  function state(): EnclaveState {
    if (record?.kind === 'destroyed') return 'destroyed';
    const current = accounts().at(-1);
    if (current === undefined) return attested ? 'attested' : 'fresh';
    if (current.chargedTokens >= current.licence.budgetTokens) return 'exhausted';
    return now() > current.licence.expires ? 'expired' : 'unlocked';
  }

  /** Makes `next` durable, then current. On failure the enclave stays as it was and nothing is released. */
  function save(next: EnclaveRecord): void {
    try {
      port.saveState(sealRecord(next, version + 1, port.sealingKey, bundleId));
    } catch {
      refuse('state-not-saved');
    }
    version++;
    record = next;
  }

  /** The current account and the lock's secrets, or the refusal that fits the state. */
  function unlocked(): { account: LicenceAccount; secrets: NonNullable<typeof secrets> } {
    const account = accounts().at(-1);
    switch (state()) {
      case 'destroyed':
        return refuse('destroyed');
      case 'exhausted':
        return refuse('budget-exhausted');
      case 'expired':
        return refuse('licence-expired', account?.licence.expires, now());
      default:
        return account === undefined || secrets === null ? refuse('not-unlocked') : { account, secrets };
    }
  }

  function attest(nonce: Uint8Array): Uint8Array {
    if (nonce.length !== NONCE_BYTES) refuse('malformed');
    if (state() === 'destroyed') refuse('destroyed');
    const { kind, encryptionKey, ownerKey } = port;
    const claims = { kind, encryptionKey, signingKey: signing.key, bundleId, ownerKey };
    const quote = port.quote(reportData(claims, nonce));
    attested = true;
    return encodeEvidence({ claims, quote });
  }

  function unlock(opened: Uint8Array): Uint8Array {
    if (state() === 'destroyed') refuse('destroyed');
    if (!attested) refuse('not-attested');
    const context = { enclaveKeyId, bundleId, manifest, ownerKey: port.ownerKey, sealedPart: port.bundle.sealedPart };
    const grant = acceptGrant(opened, { ...context, accounts: accounts(), now: now() });
    save({
      kind: 'live',
      signingSecret: signing.secret,
      signingKey: signing.key,
      bundleKey: grant.bundleKey,
      accounts: [...accounts(), { licence: grant.licence, chargedTokens: 0 }],
      lastTime: now(),
    });
    sessions.clear();
    deriveSecrets(grant.lockSeed);
    return encodeStatus(status());
  }

  function begin(body: Uint8Array): Uint8Array {
    const { topK, temperature } = messages.decodeBegin(body);
    const { licence } = unlocked().account;
    if (topK === 0) refuse('malformed');
    if (topK > licence.topK) refuse('top-k-too-large', licence.topK, topK);
    const { min, max } = licence.temperature;
    if (!(temperature >= min && temperature <= max)) refuse('temperature-not-licensed');
    return messages.encodeSession(sessions.begin(topK, temperature));
  }

  function authorise(body: Uint8Array): Uint8Array {
    const request = messages.decodeAuthorise(body);
    const { vocabulary } = unlocked().secrets;
    const session = sessions.get(request.session);
    const locked = new Int32Array(request.tokenIds.length);
    for (let i = 0; i < locked.length; i++) {
      locked[i] = vocabulary[request.tokenIds[i]!] ?? refuse('token-out-of-range', i);
    }
    session.authorisedTokens += locked.length;
    return messages.encodeIds(locked);
  }

  function release(body: Uint8Array): Uint8Array {
    const request = messages.decodeRelease(body);
    const { account, secrets: current } = unlocked();
    const { licence, chargedTokens } = account;
    const { rows, k } = request;
    const session = sessions.get(request.session);
    if (k > session.topK) refuse('top-k-too-large', session.topK, k);
    if (rows > session.authorisedTokens) refuse('release-not-authorised', session.authorisedTokens, rows);
    const remaining = licence.budgetTokens - chargedTokens;
    if (rows > remaining) refuse('budget-exhausted', remaining, rows);
    const reply = unlockRows(request, current.tokenOfLockedId, licence.precision);
    if (record?.kind !== 'live') return refuse('internal');
    const charged = [...record.accounts.slice(0, -1), { licence, chargedTokens: chargedTokens + rows }];
    save({ ...record, accounts: charged, lastTime: now() });
    session.authorisedTokens -= rows;
    return messages.encodeReleaseReply(reply);
  }

  function status(): EnclaveStatus {
    const account = accounts().at(-1);
    if (account === undefined) return { state: state(), bundleId, licence: null };
    const { licence, chargedTokens } = account;
    const { licenceId, budgetTokens, topK, precision, temperature, expires } = licence;
    const remainingTokens = budgetTokens - chargedTokens;
    const terms = { licenceId, budgetTokens, topK, precision, temperature, expires };
    return { state: state(), bundleId, licence: { ...terms, chargedTokens, remainingTokens } };
  }

  function destroy(): Uint8Array {
    if (record?.kind === 'destroyed') return record.receipt;
    const before = state();
    const receipt: Receipt = {
      bundleId,
      enclaveKeyId,
      platform: port.kind,
      licences: accounts().map(({ licence: { licenceId, budgetTokens }, chargedTokens }) => {
        return { licenceId, budgetTokens, chargedTokens };
      }),
      reason: before === 'exhausted' || before === 'expired' ? before : 'requested',
      time: now(),
    };
    const signed = encodeUtf8(signJws('receipt', encodeCanonicalJson(receipt), signing.secret, signing.key));
    const keys = record === null ? [] : [record.bundleKey];
    save({ kind: 'destroyed', receipt: signed });
    // JavaScript may have made copies that cannot be reached; the sealing key no longer opens anything but the tombstone.
    for (const key of [...keys, signing.secret]) key.fill(0);
    for (const map of secrets === null ? [] : Object.values(secrets)) map.fill(0);
    secrets = null;
    sessions.clear();
    return signed;
  }

  function end(body: Uint8Array): Uint8Array {
    sessions.end(messages.decodeSession(body));
    return new Uint8Array(0);
  }

  const handlers: Readonly<Record<messages.RequestName, (body: Uint8Array) => Uint8Array>> = {
    attest,
    unlock,
    begin,
    authorise,
    release,
    end,
    status: () => encodeStatus(status()),
    destroy,
  };
  const names = new Map(Object.entries(messages.REQUEST).map(([name, type]) => [type, name as messages.RequestName]));

  function handle({ type, id, body }: Frame): Frame {
    try {
      const name = names.get(type as (typeof messages.REQUEST)[messages.RequestName]) ?? refuse('malformed');
      if (body.length > messages.REQUEST_LIMITS.get(type)!) refuse('malformed');
      return { type: messages.replyType(name), id, body: handlers[name](body) };
    } catch (error) {
      return { type: messages.ERROR_REPLY, id, body: messages.encodeError(toRefusal(error)) };
    }
  }
  return { handle };
}
