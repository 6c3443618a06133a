// Every request and reply of the enclave, their numbers, size limits and bodies. Zone: trusted (and the edge's client).
// Request type n is answered by type n | 0x80 or by an error frame; see DESIGN section 6 for the state machine.
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
]);
export const REPLY_LIMITS: FrameLimits = new Map<number, number>([
  [replyType('attest'), limits.MAX_EVIDENCE_BYTES],
  [replyType('unlock'), 1024],
  [replyType('begin'), 4],
  [replyType('authorise'), 4 + 4 * limits.MAX_TOKENS_PER_CALL],
  [replyType('release'), 8 + RELEASE_ARRAYS],
  [replyType('end'), 0],
  [replyType('status'), 1024],
  [replyType('destroy'), limits.MAX_RECEIPT_BYTES],
  [replyType('embed'), 8 + HIDDEN],
  [replyType('block'), 8 + HIDDEN],
  [replyType('head'), 8 + RELEASE_ARRAYS],
  [ERROR_REPLY, 17],
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

/** Decodes a whole body; throws MalformedError when it is short, long or out of range. */
function decode<T>(body: Uint8Array, read: (reader: Reader) => T): T {
  const reader = new Reader(body);
  const value = read(reader);
  reader.end();
  return value;
}

export function encodeBegin(request: BeginRequest): Uint8Array {
  return new Writer().u32(request.topK).f64(request.temperature).finish();
}

export function decodeBegin(body: Uint8Array): BeginRequest {
  return decode(body, (reader) => ({ topK: reader.u32(), temperature: reader.f64() }));
}

export function encodeAuthorise(request: AuthoriseRequest): Uint8Array {
  return new Writer().u32(request.session).i32s(request.tokenIds).finish();
}

export function decodeAuthorise(body: Uint8Array): AuthoriseRequest {
  return decode(body, (reader) => ({ session: reader.u32(), tokenIds: reader.i32s() }));
}

export function encodeRelease(request: ReleaseRequest): Uint8Array {
  const { session, rows, k, lockedIds, logprobs } = request;
  return new Writer().u32(session).u32(rows).u32(k).i32s(lockedIds).f32s(logprobs).finish();
}

export function decodeRelease(body: Uint8Array): ReleaseRequest {
  const request = decode(body, (reader) => ({
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

export function decodeReleaseReply(body: Uint8Array): ReleaseReply {
  return decode(body, (reader) => ({ tokenIds: reader.i32s(), logprobs: reader.f32s() }));
}

/** A session number (`begin` reply, `end` request). */
export function encodeSession(session: number): Uint8Array {
  return new Writer().u32(session).finish();
}

export function decodeSession(body: Uint8Array): number {
  return decode(body, (reader) => reader.u32());
}

/** Locked token ids (`authorise` reply). */
export function encodeIds(ids: Int32Array): Uint8Array {
  return new Writer().i32s(ids).finish();
}

export function decodeIds(body: Uint8Array): Int32Array {
  return decode(body, (reader) => reader.i32s());
}

export function encodeError(reply: ErrorReply): Uint8Array {
  return new Writer().u8(REFUSALS.indexOf(reply.refusal)).u64(reply.numbers[0]).u64(reply.numbers[1]).finish();
}

export function decodeError(body: Uint8Array): ErrorReply {
  return decode(body, (reader) => {
    const refusal = REFUSALS[reader.u8()];
    if (refusal === undefined) throw new MalformedError('message', 'error frame with an unknown code');
    return { refusal, numbers: [reader.u64(), reader.u64()] as const };
  });
}
