// The licence service as the device uses it: challenge, grant, lease, receipt. Zone: edge. DESIGN section 7.
// Every body that leaves or arrives is in the ledger. All requests are idempotent, so they are repeated on network errors and 5xx.
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { decodeBase64url, encodeBase64url } from '../../trusted/wire/base64url.js';
import { EnvironmentError, ProtocolError } from '../../trusted/wire/errors.js';
import { MAX_GRANT_BYTES, MAX_LICENCE_BYTES, NONCE_BYTES } from '../../trusted/wire/limits.js';
import type { ServiceAddress } from './address.js';
import { type HttpReply, postJson } from './http.js';
import type { EgressLedger, Purpose } from './ledger.js';
import { refusalOfService } from './refusals.js';

export interface ServiceOptions {
  readonly address: ServiceAddress;
  readonly ledger: EgressLedger;
  readonly signal?: AbortSignal | undefined;
  readonly onNotice?: (line: string) => void;
  /** For one attempt; default 30 s. */
  readonly timeoutMs?: number;
  /** Pauses before the second attempt, the third and so on; each is varied by a quarter. */
  readonly retryDelaysMs?: readonly number[];
}

export interface Challenge {
  readonly nonce: Uint8Array;
}

export interface GrantReply {
  readonly grant: Uint8Array;
  /** The terms as the service describes them: not signed, so nothing to rely on. The signed ones are in the grant. */
  readonly described: Readonly<Record<string, unknown>>;
}

export interface ClosedLicence {
  readonly licenceId: string;
  readonly state: string;
}

const TIMEOUT_MS = 30_000;
const RETRY_DELAYS_MS = [500, 1000, 2000, 4000] as const;
/** The largest reply is a grant. */
const MAX_REPLY_BYTES: number = 2 * MAX_GRANT_BYTES + 4 * MAX_LICENCE_BYTES;

const base64url = z.string().regex(/^[A-Za-z0-9_-]+$/);
const challengeSchema = z.object({ nonce: base64url.length(43) });
const grantSchema = z.object({ grant: base64url, licence: z.record(z.string(), z.unknown()) });
const leaseSchema = z.object({
  lease: z
    .string()
    .min(1)
    .max(2 * MAX_LICENCE_BYTES),
});
const receiptSchema = z.object({
  licences: z.array(
    z.object({ licenceId: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/), state: z.string().regex(/^[a-z-]{1,32}$/) }),
  ),
});

/** Out and in: what the ledger calls the two halves of a call. */
type Purposes = readonly [out: Purpose, back: Purpose];

export class LicenceService {
  readonly address: ServiceAddress;
  readonly #options: ServiceOptions;

  constructor(options: ServiceOptions) {
    this.address = options.address;
    this.#options = options;
  }

  /** A fresh nonce for one evidence. */
  async challenge(bundleId: string): Promise<Challenge> {
    const { nonce } = await this.#call('v1/challenges', { bundleId }, challengeSchema, ['challenge', 'challenge']);
    const bytes = decodeBase64url(nonce);
    if (bytes.length !== NONCE_BYTES) throw this.#noReply('its nonce has another length');
    return { nonce: bytes };
  }

  /** Throws PolicyError ('activation-code', 'licence-revoked', 'devices-exhausted', …) or VerificationError('evidence-rejected'). */
  async grant(nonce: Uint8Array, evidence: Uint8Array, activationCode: string): Promise<GrantReply> {
    const body = { nonce: encodeBase64url(nonce), evidence: encodeBase64url(evidence), activationCode };
    const { grant, licence } = await this.#call('v1/grants', body, grantSchema, ['evidence', 'grant']);
    const bytes = decodeBase64url(grant);
    if (bytes.length > MAX_GRANT_BYTES) throw this.#noReply('its grant is longer than any grant');
    return { grant: bytes, described: licence };
  }

  /** A lease for the enclave's signed request. Throws PolicyError ('licence-closed', 'licence-revoked', 'budget-exhausted', …). */
  async lease(request: Uint8Array): Promise<Uint8Array> {
    const body = { request: Buffer.from(request).toString('latin1') };
    const { lease } = await this.#call('v1/leases', body, leaseSchema, ['lease-request', 'lease']);
    return new Uint8Array(Buffer.from(lease, 'latin1'));
  }

  /** Hands the enclave's receipt over; the service closes the licences in it. */
  async receipt(receipt: Uint8Array): Promise<readonly ClosedLicence[]> {
    const body = { receipt: Buffer.from(receipt).toString('latin1').trim() };
    return (await this.#call('v1/receipts', body, receiptSchema, ['receipt', 'receipt'])).licences;
  }

  async #call<T>(path: string, body: unknown, schema: z.ZodType<T>, [out, back]: Purposes): Promise<T> {
    const bytes = Buffer.from(JSON.stringify(body));
    const reply = await this.#attempts(path, bytes, out, back);
    let value: unknown = null;
    try {
      value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(reply.body));
    } catch {
      // Reported below: no reply of a licence service.
    }
    if (reply.status < 200 || reply.status > 299) throw refusalOfService(this.address.host, reply.status, value);
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    const issue = parsed.error.issues[0];
    throw this.#noReply(`${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'not as expected'}`);
  }

  async #attempts(path: string, body: Uint8Array, out: Purpose, back: Purpose): Promise<HttpReply> {
    const {
      address,
      ledger,
      signal,
      timeoutMs = TIMEOUT_MS,
      retryDelaysMs = RETRY_DELAYS_MS,
      onNotice,
    } = this.#options;
    for (let attempt = 0; ; attempt++) {
      signal?.throwIfAborted();
      const pause = retryDelaysMs[attempt];
      try {
        await ledger.record({ direction: 'out', purpose: out, host: address.host, message: body });
        const reply = await postJson(address, path, body, { timeoutMs, maxReplyBytes: MAX_REPLY_BYTES, signal });
        await ledger.record({ direction: 'in', purpose: back, host: address.host, message: reply.body });
        if ((reply.status < 500 && reply.status !== 429) || pause === undefined) return reply;
      } catch (error) {
        if (pause === undefined || !isPassing(error)) throw error;
      }
      const wait = Math.round((pause * randomInt(750, 1251)) / 1000);
      onNotice?.(`the licence service ${address.host} did not answer; trying again in ${(wait / 1000).toFixed(1)} s`);
      await delay(wait, undefined, { signal }).catch(() => signal?.throwIfAborted());
    }
  }

  #noReply(reason: string): ProtocolError {
    const { host } = this.address;
    return new ProtocolError('service-reply', `${host} does not answer as a licence service does: ${reason}`, {
      service: host,
    });
  }
}

/** Errors that may be gone a moment later. */
function isPassing(error: unknown): boolean {
  if (error instanceof EnvironmentError) return error.code === 'service-unreachable';
  return error instanceof ProtocolError && error.code === 'service-timeout';
}
