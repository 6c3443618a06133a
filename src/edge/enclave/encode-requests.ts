// Bodies of the requests that a client sends to the enclave. Zone: edge. DESIGN section 6.
// The other half, how the enclave reads them, is trusted code: wire/messages.ts and wire/part-messages.ts.
import { Writer } from '../../trusted/wire/codec.js';
import type { AuthoriseRequest, BeginRequest, ReleaseRequest } from '../../trusted/wire/messages.js';
import type { BlockRequest, EmbedRequest, HeadRequest, PassLayout } from '../../trusted/wire/part-messages.js';

export function encodeBegin(request: BeginRequest): Uint8Array {
  return new Writer().u32(request.topK).f64(request.temperature).finish();
}

export function encodeAuthorise(request: AuthoriseRequest): Uint8Array {
  return new Writer().u32(request.session).i32s(request.tokenIds).finish();
}

export function encodeRelease(request: ReleaseRequest): Uint8Array {
  const { session, rows, k, lockedIds, logprobs } = request;
  return new Writer().u32(session).u32(rows).u32(k).i32s(lockedIds).f32s(logprobs).finish();
}

const layoutWriter = ({ session, past, lengths }: PassLayout): Writer =>
  new Writer().u32(session).u32(past).i32s(lengths);

export function encodeEmbed(request: EmbedRequest): Uint8Array {
  return layoutWriter(request).i32s(request.tokenIds).finish();
}

export function encodeBlock(request: BlockRequest): Uint8Array {
  return layoutWriter(request).u32(request.segment).f32s(request.hidden).finish();
}

export function encodeHead(request: HeadRequest): Uint8Array {
  const { session, pass, k, positions, hidden } = request;
  return new Writer().u32(session).u32(pass).u32(k).i32s(positions).f32s(hidden).finish();
}
