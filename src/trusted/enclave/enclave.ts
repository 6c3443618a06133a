// The enclave program: one function from request frame to reply frame. Zone: trusted. DESIGN section 6.
// fresh → attested → unlocked → (exhausted | expired) → destroyed; a further licence takes the place of the one before.
// A tokens' charge is sealed to disk before its rows are answered; every failure leaves as a code, never as text. Where tokens come one by
// one, the row to come is charged with its token, so that the disk is waited for while the accelerator computes.

import { openPart } from '../lock/sealed-part.js';
import { invertPermutation } from '../lock/stream.js';
import { vocabularyPermutation } from '../lock/vocabulary.js';
import { encodeUtf8 } from '../wire/bytes.js';
import { encodeCanonicalJson } from '../wire/canonical-json.js';
import type { Frame } from '../wire/frame.js';
import { keyId, signJws } from '../wire/jws.js';
import { NONCE_BYTES } from '../wire/limits.js';
import * as messages from '../wire/messages.js';
import * as partMessages from '../wire/part-messages.js';
import type { Receipt } from '../wire/receipt.js';
import { encodeEvidence, reportData } from '../wire/report-data.js';
import type { EnclaveState, EnclaveStatus } from '../wire/status.js';
import { acceptGrant } from './accept-grant.js';
import { Leases } from './leases.js';
import { EnclaveParts } from './parts.js';
import { Passes } from './passes.js';
import type { PlatformPort } from './port.js';
import { type EnclaveRecord, type LicenceAccount, openAccount, sealRecord, withCharge } from './record.js';
import { orRefuse, refuse, toRefusal } from './refuse.js';
import { RowUnlocker } from './release.js';
import { type Session, Sessions } from './sessions.js';
import { startEnclave } from './start.js';

export interface Enclave {
  /**
   * Never throws or rejects: a failure is an error frame with the request's id. Only requests to enclave-held parts take time;
   * the caller hands over the next request once the reply is there.
   */
  handle(request: Frame): Frame | Promise<Frame>;
  /** Gives back a row that was charged and not released: the last call before the process ends. */
  settle(): void;
}

/** Throws MalformedError or VerificationError when bundle or sealed state cannot be trusted (see `startEnclave`). */
export function createEnclave(port: PlatformPort): Enclave {
  const start = startEnclave(port);
  const { manifest, bundleId, signing } = start;
  const enclaveKeyId = keyId(signing.key);
  let sessions = new Sessions();
  let record = start.record;
  let version = start.version;
  let attested = false;
  let secrets: { readonly vocabulary: Int32Array; readonly rows: RowUnlocker } | null = null;
  let parts: EnclaveParts | null = null;
  let leases = new Leases();
  let overwritten = false;
  let ahead = 0;

  function unlockWith(bundleKey: Uint8Array, lockSeed: Uint8Array): void {
    const vocabulary = vocabularyPermutation(lockSeed, manifest.scheme, manifest.model.vocabSize);
    lockSeed.fill(0);
    secrets = { vocabulary, rows: new RowUnlocker(invertPermutation(vocabulary)) };
    const inside = manifest.segments.some(({ place }) => place === 'enclave');
    parts = inside ? new EnclaveParts(port, manifest, bundleKey) : null;
  }
  if (record?.kind === 'live') {
    const { bundleKey } = record;
    unlockWith(bundleKey, openPart(port.bundle.sealedPart, bundleKey, manifest.scheme, manifest.model).lockSeed);
  }

  function now(): number {
    return Math.max(port.now(), record?.kind === 'live' ? record.lastTime : 0);
  }

  /** What was released; on disk the last account's charge is `ahead` more. */
  function accounts(): readonly LicenceAccount[] {
    const sealed = record?.kind === 'live' ? record.accounts : [];
    return sealed.map((account, i) => withCharge(account, i === sealed.length - 1 ? -ahead : 0));
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
    const sealed = sealRecord(next, version + 1, port.sealingKey, bundleId);
    orRefuse('state-not-saved', () => port.saveState(sealed, version + 1));
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
      accounts: [...accounts(), openAccount(grant.licence)],
      lastTime: now(),
    });
    ahead = 0;
    sessions = new Sessions();
    leases = new Leases();
    unlockWith(grant.bundleKey, grant.lockSeed);
    return encodeCanonicalJson(status());
  }

  function begin(body: Uint8Array): Uint8Array {
    const { topK, temperature } = messages.decodeBegin(body);
    const { licence } = unlocked().account;
    if (topK === 0) refuse('malformed');
    if (topK > licence.topK) refuse('top-k-too-large', licence.topK, topK);
    const { min, max } = licence.temperature;
    if (!(temperature >= min && temperature <= max)) refuse('temperature-not-licensed');
    const passes = parts === null ? null : new Passes(parts, manifest);
    return messages.encodeSession(sessions.begin(topK, temperature, passes));
  }

  function authorise(body: Uint8Array): Uint8Array {
    const request = messages.decodeAuthorise(body);
    const { vocabulary } = unlocked().secrets;
    // Locked ids are for an embedding outside; where it lies inside they would only give the permutation away.
    if (manifest.plan.embedding === 'enclave') refuse('part-not-held');
    const session = sessions.get(request.session);
    const locked = request.tokenIds.map((id, i) => vocabulary[id] ?? refuse('token-out-of-range', i));
    if (locked.length === 1 && ahead === 0) chargeAhead(1);
    session.authorisedTokens += locked.length;
    session.enteredTokens += locked.length;
    return messages.encodeIds(locked);
  }

  function release(body: Uint8Array): Uint8Array {
    const request = messages.decodeRelease(body);
    const { account, secrets: current } = unlocked();
    if (manifest.plan.head === 'enclave') refuse('part-not-held', manifest.segments.length - 1);
    const session = sessions.get(request.session);
    checkRows(session, request.rows, request.k);
    const reply = current.rows.unlock(request, account.licence.precision);
    charge(session, request.rows);
    return messages.encodeReleaseReply(reply);
  }

  /** Refuses rows that session or licence do not cover. */
  function checkRows(session: Session, rows: number, k: number): void {
    const { account } = unlocked();
    const { licence, chargedTokens } = account;
    if (k > session.topK) refuse('top-k-too-large', session.topK, k);
    if (rows > session.authorisedTokens) refuse('release-not-authorised', session.authorisedTokens, rows);
    const remaining = licence.budgetTokens - chargedTokens;
    if (rows > remaining) refuse('budget-exhausted', remaining, rows);
    const leased = leases.left(account);
    if (leased !== null && rows > leased) refuse('lease-needed', leased, rows);
  }

  function charge(session: Session, rows: number): void {
    if (rows > ahead) chargeAhead(rows);
    ahead -= rows;
    session.authorisedTokens -= rows;
    leases.use(rows);
  }

  /** Seals a charge of `rows` beyond what was released. */
  function chargeAhead(rows: number): void {
    const settled = accounts();
    if (record?.kind !== 'live') refuse('internal');
    save({ ...record, accounts: [...settled.slice(0, -1), withCharge(settled.at(-1)!, rows)], lastTime: now() });
    ahead = rows;
  }

  /** The session and its way through enclave-held parts. Refuses `part-not-held` where the bundle has none. */
  function passing(id: number, segment: number): { session: Session; passes: Passes } {
    unlocked();
    const session = sessions.get(id);
    return { session, passes: session.passes ?? refuse('part-not-held', segment) };
  }

  async function embed(body: Uint8Array): Promise<Uint8Array> {
    const request = partMessages.decodeEmbed(body);
    const { session, passes } = passing(request.session, 0);
    return partMessages.encodeHidden(await passes.embed(request, session));
  }

  async function block(body: Uint8Array): Promise<Uint8Array> {
    const request = partMessages.decodeBlock(body);
    const { session, passes } = passing(request.session, request.segment);
    return partMessages.encodeHidden(await passes.block(request, session));
  }

  async function head(body: Uint8Array): Promise<Uint8Array> {
    const request = partMessages.decodeHead(body);
    const { session, passes } = passing(request.session, manifest.segments.length - 1);
    const rows = passes.rowsOf(request);
    if (!(rows >= 1)) refuse('malformed');
    checkRows(session, rows, request.k);
    const reply = await passes.head(request, session, unlocked().account.licence.precision);
    charge(session, rows);
    return messages.encodeReleaseReply(reply);
  }

  function status(): EnclaveStatus {
    const account = accounts().at(-1);
    if (account === undefined) return { state: state(), bundleId, licence: null, leasedTokens: null };
    const { licence, chargedTokens } = account;
    const remainingTokens = licence.budgetTokens - chargedTokens;
    const summary = { ...licence, chargedTokens, remainingTokens };
    return { state: state(), bundleId, licence: summary, leasedTokens: leases.left(account) };
  }

  function makeReceipt(): Uint8Array {
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
    return encodeUtf8(signJws('receipt', encodeCanonicalJson(receipt), signing.secret, signing.key));
  }

  function destroy(): Uint8Array {
    if (record?.kind !== 'destroyed') {
      const keys = record === null ? [] : [record.bundleKey];
      save({ kind: 'destroyed', receipt: makeReceipt() });
      // JavaScript may have made copies that cannot be reached; the sealing key no longer opens anything but the tombstone.
      for (const key of [...keys, signing.secret]) key.fill(0);
      secrets?.vocabulary.fill(0);
      secrets?.rows.erase();
      secrets = null;
      parts?.erase();
      parts = null;
      sessions = new Sessions();
    }
    if (record?.kind !== 'destroyed') return refuse('internal');
    // Twice: the state before is gone only when the one after it is saved. Until then there is no receipt.
    if (!overwritten) save(record);
    overwritten = true;
    return record.receipt;
  }

  function lease(body: Uint8Array): Uint8Array {
    unlocked();
    leases.accept(body, port.ownerKey);
    return encodeCanonicalJson(status());
  }

  function end(body: Uint8Array): Uint8Array {
    sessions.end(messages.decodeSession(body));
    return new Uint8Array(0);
  }

  const handlers: Readonly<Record<messages.RequestName, (body: Uint8Array) => Uint8Array | Promise<Uint8Array>>> = {
    attest,
    unlock,
    begin,
    authorise,
    release,
    end,
    status: () => encodeCanonicalJson(status()),
    destroy,
    embed,
    block,
    head,
    leaseRequest: () => leases.request(unlocked().account, enclaveKeyId, signing),
    lease,
  };
  const names = new Map(Object.entries(messages.REQUEST).map(([name, type]) => [type, name as messages.RequestName]));

  function handle({ type, id, body }: Frame): Frame | Promise<Frame> {
    const failed = (error: unknown): Frame => {
      return { type: messages.ERROR_REPLY, id, body: messages.encodeError(toRefusal(error)) };
    };
    try {
      const name = names.get(type as (typeof messages.REQUEST)[messages.RequestName]) ?? refuse('malformed');
      if (body.length > messages.REQUEST_LIMITS.get(type)!) refuse('malformed');
      const answered = (reply: Uint8Array): Frame => ({ type: messages.replyType(name), id, body: reply });
      const reply = handlers[name](body);
      return reply instanceof Uint8Array ? answered(reply) : reply.then(answered, failed);
    } catch (error) {
      return failed(error);
    }
  }
  const settle = (): void => (ahead > 0 && record?.kind === 'live' ? chargeAhead(0) : undefined);
  return { handle, settle };
}
