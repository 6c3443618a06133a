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
  readonly #header: Uint8Array = new Uint8Array(HEADER_BYTES);
  #headerFilled = 0;
  #body: Uint8Array | null = null;
  #bodyFilled = 0;

  constructor(limits: FrameLimits) {
    this.#limits = limits;
  }

  /** Frames completed by `chunk`. Throws ProtocolError ('frame-type', 'frame-size'); the connection is then beyond repair. */
  push(chunk: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    let at = 0;
    while (at < chunk.length) {
      if (this.#body === null) {
        const part = chunk.subarray(at, at + HEADER_BYTES - this.#headerFilled);
        this.#header.set(part, this.#headerFilled);
        this.#headerFilled += part.length;
        at += part.length;
        if (this.#headerFilled < HEADER_BYTES) break;
        this.#body = new Uint8Array(this.#bodySize());
      }
      const part = chunk.subarray(at, at + this.#body.length - this.#bodyFilled);
      this.#body.set(part, this.#bodyFilled);
      this.#bodyFilled += part.length;
      at += part.length;
      if (this.#bodyFilled === this.#body.length) frames.push(this.#take(this.#body));
    }
    return frames;
  }

  #bodySize(): number {
    const view = new DataView(this.#header.buffer);
    const type = view.getUint8(4);
    const size = view.getUint32(0, true) - LENGTH_OVERHEAD;
    const limit = this.#limits.get(type);
    if (limit === undefined) throw new ProtocolError('frame-type', `frame of unknown type ${type}`, { type });
    if (size < 0 || size > limit) {
      throw new ProtocolError('frame-size', `frame of type ${type} has ${size} bytes, allowed 0…${limit}`, {
        type,
        size,
      });
    }
    return size;
  }

  #take(body: Uint8Array): Frame {
    const view = new DataView(this.#header.buffer);
    const frame = { type: view.getUint8(4), id: view.getUint32(5, true), body };
    this.#headerFilled = 0;
    this.#body = null;
    this.#bodyFilled = 0;
    return frame;
  }
}
