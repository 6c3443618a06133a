// Talks to an enclave over its Unix socket: one request, one reply, any number outstanding. Zone: edge. DESIGN section 6.
// Refusals become errors whose `code` is the refusal; a process that dies mid-call is ProtocolError('enclave-gone').
import { connect, type Socket } from 'node:net';
import { PolicyError, ProtocolError } from '../../trusted/wire/errors.js';
import { encodeFrame, type Frame, FrameDecoder } from '../../trusted/wire/frame.js';
import * as messages from '../../trusted/wire/messages.js';
import * as parts from '../../trusted/wire/part-messages.js';
import type { EnclaveStatus } from '../../trusted/wire/status.js';
import type { EnclaveLayout, Gate, Passed } from '../teacher/gate.js';
import * as replies from './decode-replies.js';
import { EgressLedger } from './egress-ledger.js';
import * as requests from './encode-requests.js';
import { refusalError } from './refusal.js';

interface Pending {
  readonly request: messages.RequestName;
  resolve(body: Uint8Array): void;
  reject(error: Error): void;
}

/** Bytes over the local socket, frame headers included. */
export interface EnclaveTraffic {
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** Rows of top-k in the locked vocabulary, `lockedIds` and `logprobs` are [rows, k]. */
export interface LockedRows {
  readonly rows: number;
  readonly k: number;
  readonly lockedIds: Int32Array;
  readonly logprobs: Float32Array;
}

export class EnclaveClient {
  readonly ledger: EgressLedger;
  /**
   * Exchanges a signed lease request for a signed lease at the licence service. With it, a release that the licence's leases do not
   * cover fetches as many as it needs; without it, the release fails with PolicyError('lease-needed') and may be repeated after `lease`.
   */
  fetchLease: ((request: Uint8Array) => Promise<Uint8Array>) | null = null;
  readonly #socket: Socket;
  readonly #decoder: FrameDecoder = new FrameDecoder(replies.REPLY_LIMITS);
  readonly #pending: Map<number, Pending> = new Map();
  #lastId = 0;
  #renewing: Promise<void> | null = null;
  #gone: ProtocolError | null = null;

  private constructor(socket: Socket, ledger: EgressLedger) {
    this.#socket = socket;
    this.ledger = ledger;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', (error) => this.#fail('the connection to the enclave failed', error));
    socket.on('close', () => this.#fail('the enclave process went away; restart it and resume'));
  }

  /** Throws ProtocolError('enclave-gone') when nothing listens on `socketPath`. */
  static connect(socketPath: string, ledger: EgressLedger = new EgressLedger()): Promise<EnclaveClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(socketPath);
      const refused = (cause: Error): void => {
        reject(new ProtocolError('enclave-gone', 'no enclave answers on its socket; start it', { socketPath }, cause));
      };
      socket.once('error', refused);
      socket.once('connect', () => {
        socket.off('error', refused);
        resolve(new EnclaveClient(socket, ledger));
      });
    });
  }

  get traffic(): EnclaveTraffic {
    return { bytesSent: this.#socket.bytesWritten, bytesReceived: this.#socket.bytesRead };
  }

  /** Bytes relayed from the enclave to the outside world since `unlock`; 0 by design. */
  get egressBytesAfterUnlock(): number {
    return this.ledger.egressBytesAfterUnlock;
  }

  /** Evidence over a 32-byte nonce from the owner; meant to be sent to the owner, so the ledger records it. */
  async attest(nonce: Uint8Array): Promise<Uint8Array> {
    const evidence = await this.#call('attest', nonce);
    this.ledger.record('out', 'evidence', evidence);
    return evidence;
  }

  /** Throws PolicyError or VerificationError naming what is wrong with the grant. */
  async unlock(grant: Uint8Array): Promise<EnclaveStatus> {
    this.ledger.record('in', 'grant', grant);
    const status = replies.decodeStatus(await this.#call('unlock', grant));
    this.ledger.markUnlocked();
    return status;
  }

  /** Throws PolicyError('top-k-too-large' | 'temperature-not-licensed' | 'not-unlocked' | …). */
  async begin(options: messages.BeginRequest): Promise<EnclaveSession> {
    const session = messages.decodeSession(await this.#call('begin', requests.encodeBegin(options)));
    return new EnclaveSession(session, (request, body) => this.#callCovered(request, body));
  }

  async status(): Promise<EnclaveStatus> {
    return replies.decodeStatus(await this.#call('status', new Uint8Array(0)));
  }

  /**
   * The enclave's signed request for a lease (a compact JWS), the same one until its lease is there; meant to be sent to the licence
   * service, so the ledger records it. Throws VerificationError('lease-refused') when the licence needs no leases.
   */
  async leaseRequest(): Promise<Uint8Array> {
    const request = await this.#call('leaseRequest', new Uint8Array(0));
    this.ledger.record('out', 'lease-request', request);
    return request;
  }

  /** Hands over the owner's signed answer to the last request. Throws VerificationError('lease-refused') for anything else. */
  async lease(lease: Uint8Array): Promise<EnclaveStatus> {
    this.ledger.record('in', 'lease', lease);
    return replies.decodeStatus(await this.#call('lease', lease));
  }

  /** Erases the keys for good; returns the signed receipt (a compact JWS), the same one when called again. */
  async destroy(): Promise<Uint8Array> {
    return await this.#call('destroy', new Uint8Array(0));
  }

  /** Ends the connection, not the enclave; outstanding calls fail with 'enclave-gone'. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.closed) resolve();
      else this.#socket.once('close', () => resolve()).destroy();
    });
  }

  /** A refused release changed nothing in the enclave, so it is repeated as it is once a lease is there. */
  async #callCovered(request: messages.RequestName, body: Uint8Array): Promise<Uint8Array> {
    for (;;) {
      try {
        return await this.#call(request, body);
      } catch (error) {
        const { fetchLease } = this;
        if (fetchLease === null || !(error instanceof PolicyError && error.code === 'lease-needed')) throw error;
        // Releases that wait at the same time share one lease; whom it does not cover asks again.
        this.#renewing ??= this.#renew(fetchLease).finally(() => {
          this.#renewing = null;
        });
        await this.#renewing;
      }
    }
  }

  async #renew(fetchLease: NonNullable<EnclaveClient['fetchLease']>): Promise<void> {
    await this.lease(await fetchLease(await this.leaseRequest()));
  }

  #call(request: messages.RequestName, body: Uint8Array): Promise<Uint8Array> {
    if (this.#gone !== null) return Promise.reject(this.#gone);
    this.#lastId = (this.#lastId % 0xffffffff) + 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { request, resolve, reject });
      this.#socket.write(encodeFrame({ type: messages.REQUEST[request], id, body }));
    });
  }

  #receive(chunk: Uint8Array): void {
    try {
      for (const frame of this.#decoder.push(chunk)) this.#settle(frame);
    } catch (error) {
      this.#fail('the enclave sent bytes that are no reply', error);
      this.#socket.destroy();
    }
  }

  #settle(frame: Frame): void {
    const pending = this.#pending.get(frame.id);
    this.#pending.delete(frame.id);
    if (frame.type === messages.ERROR_REPLY) {
      const error = refusalError(replies.decodeError(frame.body));
      if (pending === undefined) throw error;
      pending.reject(error);
    } else if (pending !== undefined && frame.type === messages.replyType(pending.request)) {
      pending.resolve(frame.body);
    } else throw new ProtocolError('reply-mismatch', `a reply of type ${frame.type} answers no open request`);
  }

  #fail(message: string, cause?: unknown): void {
    this.#gone ??= new ProtocolError('enclave-gone', message, {}, cause);
    for (const pending of this.#pending.values()) pending.reject(this.#gone);
    this.#pending.clear();
  }
}

function passed(reply: Uint8Array): Passed {
  const { pass, hidden } = replies.decodeHidden(reply);
  return pass === 0 ? hidden : { pass };
}

/** One use of the teacher at a fixed top-k and temperature. Rows released never exceed tokens authorised. */
export class EnclaveSession {
  readonly #id: number;
  /** Token id → locked id, as far as rows released alone have shown. */
  readonly #lockedIdOf: Map<number, number> = new Map();
  /** Settles once every authorise that was answered from `#lockedIdOf` is confirmed. */
  #unconfirmed: Promise<void> = Promise.resolve();
  readonly #call: (request: messages.RequestName, body: Uint8Array) => Promise<Uint8Array>;

  constructor(id: number, call: (request: messages.RequestName, body: Uint8Array) => Promise<Uint8Array>) {
    this.#id = id;
    this.#call = call;
  }

  /**
   * Token ids → locked ids for the accelerator's embedding, in the same order. For a token that this session was given alone, token by
   * token, the locked id is known: it is answered at once, and what the enclave says to it is what the next release answers or throws.
   */
  async authorise(tokenIds: Int32Array): Promise<Int32Array> {
    const known = tokenIds.length === 1 ? this.#lockedIdOf.get(tokenIds[0]!) : undefined;
    const asked = this.#authorise(tokenIds);
    if (known === undefined) return asked;
    const before = this.#unconfirmed;
    this.#unconfirmed = asked.then(async ([locked]) => {
      await before;
      if (locked !== known) throw new ProtocolError('reply-mismatch', 'a token has two locked ids');
    });
    this.#unconfirmed.catch(() => undefined);
    return Int32Array.of(known);
  }

  async #authorise(tokenIds: Int32Array): Promise<Int32Array> {
    const locked = replies.decodeIds(
      await this.#call('authorise', requests.encodeAuthorise({ session: this.#id, tokenIds })),
    );
    if (locked.length !== tokenIds.length) throw new ProtocolError('reply-size', 'authorise answered another length');
    return locked;
  }

  /**
   * Locked rows → token ids and log-probabilities, [rows, k] each, in licensed precision; charges `rows` tokens first.
   * Throws PolicyError('budget-exhausted') with `remainingTokens` when they do not suffice; then nothing is charged.
   */
  async release(locked: LockedRows): Promise<messages.ReleaseReply> {
    const body = requests.encodeRelease({ session: this.#id, ...locked });
    const unconfirmed = this.#unconfirmed;
    this.#unconfirmed = Promise.resolve();
    // The enclave answers in order: where it refused to authorise, that is the error.
    const [, answer] = await Promise.all([unconfirmed, this.#call('release', body)]);
    const reply = replies.decodeReleaseReply(answer);
    const entries = locked.rows * locked.k;
    if (reply.tokenIds.length !== entries || reply.logprobs.length !== entries) {
      throw new ProtocolError('reply-size', 'release answered another number of entries');
    }
    if (locked.rows === 1)
      for (const [i, id] of reply.tokenIds.entries()) this.#lockedIdOf.set(id, locked.lockedIds[i]!);
    return reply;
  }

  /** Token ids of all rows (no padding) through an enclave-held first segment: hidden states, or the pass that keeps them. */
  async embed(tokenIds: Int32Array, layout: EnclaveLayout): Promise<Passed> {
    return passed(await this.#call('embed', requests.encodeEmbed({ ...this.#layout(layout), tokenIds })));
  }

  /** Hidden states [batch × tokens, width] through an enclave-held segment between others. */
  async block(segment: number, hidden: Float32Array, layout: EnclaveLayout): Promise<Passed> {
    return passed(await this.#call('block', requests.encodeBlock({ ...this.#layout(layout), segment, hidden })));
  }

  /** Rows [rows, width], or positions of a kept pass, through an enclave-held head; charges first, like `release`. */
  async head(rows: Parameters<Gate['head']>[0], k: number): Promise<messages.ReleaseReply> {
    const request =
      rows instanceof Float32Array
        ? { pass: 0, positions: new Int32Array(0), hidden: rows }
        : { ...rows, hidden: new Float32Array(0) };
    const reply = await this.#call('head', requests.encodeHead({ session: this.#id, k, ...request }));
    return replies.decodeReleaseReply(reply);
  }

  #layout({ lengths, past }: EnclaveLayout): parts.PassLayout {
    return { session: this.#id, past: past ?? parts.NO_CACHE, lengths: Int32Array.from(lengths) };
  }

  /** Forgets the session in the enclave; tokens authorised and not released are lost. */
  async end(): Promise<void> {
    await this.#call('end', messages.encodeSession(this.#id));
  }
}
