// Requests and replies of the enclave: their numbers, size limits and bodies, as the enclave reads and writes them. Zone: trusted.
// The client's halves are edge/enclave/encode-requests.ts and decode-replies.ts. Request type n is answered by type n | 0x80 or by an
// error frame; see DESIGN section 6 for the state machine.
import { Reader, Writer } from './codec.js';
import { REFUSALS, type Refusal } from './error-codes.js';
import { MalformedError } from './errors.js';
import type { FrameLimits } from './frame.js';
import * as limits from './limits.js';

export const REQUEST = {
  attest: 1,
  unlock: 2,
  begin: 3,
  authorise: 4,
  release: 5,
  end: 6,
  status: 7,
  destroy: 8,
  embed: 9,
  block: 10,
  head: 11,
  leaseRequest: 12,
  lease: 13,
} as const;
export type RequestName = keyof typeof REQUEST;
export const ERROR_REPLY = 0xff;

export function replyType(request: RequestName): number {
  return REQUEST[request] | 0x80;
}

const RELEASE_ARRAYS = 8 * limits.MAX_RELEASE_ENTRIES;
const HIDDEN = 4 * limits.MAX_HIDDEN_ENTRIES;
export const REQUEST_LIMITS: FrameLimits = new Map<number, number>([
  [REQUEST.attest, limits.NONCE_BYTES],
  [REQUEST.unlock, limits.MAX_GRANT_BYTES],
  [REQUEST.begin, 12],
  [REQUEST.authorise, 8 + 4 * limits.MAX_TOKENS_PER_CALL],
  [REQUEST.release, 20 + RELEASE_ARRAYS],
  [REQUEST.end, 4],
  [REQUEST.status, 0],
  [REQUEST.destroy, 0],
  [REQUEST.embed, 16 + 8 * limits.MAX_TOKENS_PER_CALL],
  [REQUEST.block, 20 + HIDDEN + 4 * limits.MAX_TOKENS_PER_CALL],
  [REQUEST.head, 20 + HIDDEN + 4 * limits.MAX_TOKENS_PER_CALL],
  [REQUEST.leaseRequest, 0],
  [REQUEST.lease, limits.MAX_LICENCE_BYTES],
]);

export interface BeginRequest {
  readonly topK: number;
  readonly temperature: number;
}
export interface AuthoriseRequest {
  readonly session: number;
  readonly tokenIds: Int32Array;
}
/** `lockedIds` and `logprobs` are [rows, k]. */
export interface ReleaseRequest {
  readonly session: number;
  readonly rows: number;
  readonly k: number;
  readonly lockedIds: Int32Array;
  readonly logprobs: Float32Array;
}
export interface ReleaseReply {
  readonly tokenIds: Int32Array;
  readonly logprobs: Float32Array;
}
export interface ErrorReply {
  readonly refusal: Refusal;
  readonly numbers: readonly [number, number];
}

/** Reads a whole body. Throws MalformedError when it is short, long or out of range. */
export function decodeBody<T>(body: Uint8Array, read: (reader: Reader) => T): T {
  const reader = new Reader(body);
  const value = read(reader);
  reader.end();
  return value;
}

export function decodeBegin(body: Uint8Array): BeginRequest {
  return decodeBody(body, (reader) => ({ topK: reader.u32(), temperature: reader.f64() }));
}

export function decodeAuthorise(body: Uint8Array): AuthoriseRequest {
  return decodeBody(body, (reader) => ({ session: reader.u32(), tokenIds: reader.i32s() }));
}

export function decodeRelease(body: Uint8Array): ReleaseRequest {
  const request = decodeBody(body, (reader) => ({
    session: reader.u32(),
    rows: reader.u32(),
    k: reader.u32(),
    lockedIds: reader.i32s(),
    logprobs: reader.f32s(),
  }));
  const { rows, k, lockedIds, logprobs } = request;
  if (rows === 0 || k === 0 || lockedIds.length !== rows * k || logprobs.length !== rows * k) {
    throw new MalformedError('message', 'release: arrays are not rows × k');
  }
  return request;
}

export function encodeReleaseReply(reply: ReleaseReply): Uint8Array {
  return new Writer().i32s(reply.tokenIds).f32s(reply.logprobs).finish();
}

/** A session number (`begin` reply, `end` request). */
export function encodeSession(session: number): Uint8Array {
  return new Writer().u32(session).finish();
}

export function decodeSession(body: Uint8Array): number {
  return decodeBody(body, (reader) => reader.u32());
}

/** Locked token ids (`authorise` reply). */
export function encodeIds(ids: Int32Array): Uint8Array {
  return new Writer().i32s(ids).finish();
}

export function encodeError(reply: ErrorReply): Uint8Array {
  return new Writer().u8(REFUSALS.indexOf(reply.refusal)).u64(reply.numbers[0]).u64(reply.numbers[1]).finish();
}
