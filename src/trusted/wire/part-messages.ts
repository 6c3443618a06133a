// Bodies of the requests to enclave-held parts: `embed`, `block` and `head`. Zone: trusted. DESIGN section 6.
// Rows are right-padded to the longest; hidden states are [rows × tokens, width] float32.
import { type Reader, Writer } from './codec.js';
import { MalformedError } from './errors.js';
import { decodeBody } from './messages.js';

/** `past` of a pass without a key/value cache. */
export const NO_CACHE = 0xffffffff;

/** A batch of sequences. With a cache there is one row, and `past` is how many of its tokens came before; 0 starts a new cache. */
export interface PassLayout {
  readonly session: number;
  readonly past: number;
  /** Real tokens of each row. */
  readonly lengths: Int32Array;
}
export interface EmbedRequest extends PassLayout {
  /** Σ lengths ids, row after row, without padding. */
  readonly tokenIds: Int32Array;
}
export interface BlockRequest extends PassLayout {
  readonly segment: number;
  readonly hidden: Float32Array;
}
/** `hidden` is empty when the enclave kept it, because it holds the next part too; `pass` then names it for `head`. */
export interface HiddenReply {
  readonly pass: number;
  readonly hidden: Float32Array;
}
export interface HeadRequest {
  readonly session: number;
  /** 0: `hidden` holds the rows, [rows, width]. Otherwise `positions` picks rows of what the enclave kept. */
  readonly pass: number;
  readonly k: number;
  readonly positions: Int32Array;
  readonly hidden: Float32Array;
}

function readLayout(reader: Reader): PassLayout {
  const layout = { session: reader.u32(), past: reader.u32(), lengths: reader.i32s() };
  const { lengths, past } = layout;
  if (lengths.length === 0 || lengths.some((length) => length < 1) || (past !== NO_CACHE && lengths.length !== 1))
    throw new MalformedError('message', 'a pass has no rows, an empty row, or a cache for several rows');
  return layout;
}

export function decodeEmbed(body: Uint8Array): EmbedRequest {
  const request = decodeBody(body, (reader) => ({ ...readLayout(reader), tokenIds: reader.i32s() }));
  if (request.tokenIds.length !== request.lengths.reduce((sum, length) => sum + length, 0))
    throw new MalformedError('message', 'embed: ids do not fill the rows');
  return request;
}

export function decodeBlock(body: Uint8Array): BlockRequest {
  return decodeBody(body, (reader) => ({ ...readLayout(reader), segment: reader.u32(), hidden: reader.f32s() }));
}

export function encodeHidden(reply: HiddenReply): Uint8Array {
  return new Writer().u32(reply.pass).f32s(reply.hidden).finish();
}

export function decodeHead(body: Uint8Array): HeadRequest {
  return decodeBody(body, (reader) => {
    const [session, pass, k] = [reader.u32(), reader.u32(), reader.u32()];
    const request = { session, pass, k, positions: reader.i32s(), hidden: reader.f32s() };
    if (k === 0) throw new MalformedError('message', 'head: k is 0');
    return request;
  });
}
