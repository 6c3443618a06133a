// Frames on the enclave's socket: u32 length, u8 type, u32 request id, body (little endian; length counts type, id and body).
// Zone: trusted. The decoder takes bytes in any chunking, and refuses an unknown type or an oversized frame from its first nine bytes.
import { ProtocolError } from './errors.js';

export interface Frame {
  readonly type: number;
  readonly id: number;
  readonly body: Uint8Array;
}

/** Largest body per frame type; a type that is not a key is unknown. */
export type FrameLimits = ReadonlyMap<number, number>;

const HEADER_BYTES = 9;
const LENGTH_OVERHEAD = 5;

export function encodeFrame(frame: Frame): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + frame.body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, LENGTH_OVERHEAD + frame.body.length, true);
  view.setUint8(4, frame.type);
  view.setUint32(5, frame.id, true);
  bytes.set(frame.body, HEADER_BYTES);
  return bytes;
}

export class FrameDecoder {
  readonly #limits: FrameLimits;
  /** A header; once that is there, its body. */
  readonly #header: Uint8Array = new Uint8Array(HEADER_BYTES);
  #body: Uint8Array | null = null;
  #filled = 0;

  constructor(limits: FrameLimits) {
    this.#limits = limits;
  }

  /** Frames completed by `chunk`. Throws ProtocolError ('frame-type', 'frame-size'); the connection is then beyond repair. */
  push(chunk: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    for (let at = 0; at < chunk.length; ) {
      const target = this.#body ?? this.#header;
      const part = chunk.subarray(at, at + target.length - this.#filled);
      target.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled < target.length) break;
      this.#filled = 0;
      const header = new DataView(this.#header.buffer);
      this.#body = this.#body === null ? new Uint8Array(this.#bodySize(header)) : target;
      if (this.#body.length > 0 && target === this.#header) continue;
      frames.push({ type: header.getUint8(4), id: header.getUint32(5, true), body: this.#body });
      this.#body = null;
    }
    return frames;
  }

  #bodySize(header: DataView): number {
    const type = header.getUint8(4);
    const size = header.getUint32(0, true) - LENGTH_OVERHEAD;
    const limit = this.#limits.get(type);
    if (limit === undefined) throw new ProtocolError('frame-type', `frame of unknown type ${type}`, { type });
    if (size < 0 || size > limit) {
      const message = `frame of type ${type} has ${size} bytes, allowed 0…${limit}`;
      throw new ProtocolError('frame-size', message, { type, size });
    }
    return size;
  }
}
