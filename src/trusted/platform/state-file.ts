// The sealed state on disk: two slots, written in turn and in place, so a crash during a save leaves the one before whole. Zone: trusted.
// Each slot is a u32 length, a sealed record, and zeros over what the slot held before. Which slot is newest, and whether it is whole,
// the record says itself: its version is sealed with it. A slot that changed since the last save means a second enclave on the same
// state: refused, or both would spend one budget.
import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { equalBytes } from '../wire/bytes.js';
import { EnvironmentError, MalformedError } from '../wire/errors.js';

/** More than the largest record takes: MAX_LICENCES licences, or a receipt. */
export const SLOT_BYTES: number = 32 * 1024;
/** Length, nonce and tag of a slot: no two saves have the same. */
const HEAD_BYTES = 32;

export interface StateFile {
  /** What the slots hold, in no order; nothing before the first save. */
  load(): readonly Uint8Array[];
  /** Durable when it returns. `version` grows by one with each save that succeeded, so the slot written is never the newest one. */
  save(bytes: Uint8Array, version: number): void;
}

function withFile<T>(path: string, flags: string, use: (file: number) => T): T {
  const file = fs.openSync(path, flags, 0o600);
  try {
    return use(file);
  } finally {
    fs.closeSync(file);
  }
}

function write(file: number, bytes: Uint8Array, offset: number): void {
  for (let at = 0; at < bytes.length; ) at += fs.writeSync(file, bytes, at, bytes.length - at, offset + at);
  fs.fdatasyncSync(file);
}

/** Under another name first: where the file exists it is whole. */
function create(path: string, bytes: Uint8Array): void {
  withFile(`${path}.new`, 'w', (file) => write(file, bytes, 0));
  fs.renameSync(`${path}.new`, path);
  withFile(dirname(path), 'r', fs.fsyncSync);
}

function headsIn(file: number): Uint8Array[] {
  return [0, SLOT_BYTES].map((offset) => {
    const head = new Uint8Array(HEAD_BYTES);
    return head.subarray(0, fs.readSync(file, head, 0, HEAD_BYTES, offset));
  });
}

/**
 * Throws MalformedError('state-file') for a file that is none of this version's. `save` throws EnvironmentError: 'state-changed' when
 * another process wrote the file, 'state-size' when the record is too large.
 */
export function openStateFile(path: string): StateFile {
  const found = fs.existsSync(path) ? new Uint8Array(fs.readFileSync(path)) : null;
  if (found !== null && found.length !== 2 * SLOT_BYTES)
    throw new MalformedError('state-file', 'the sealed state is not a file that this version writes');
  const content = found ?? new Uint8Array(2 * SLOT_BYTES);
  const slots = [content.subarray(0, SLOT_BYTES), content.subarray(SLOT_BYTES)];
  /** Null: unknown, since a write to it failed. */
  const heads: (Uint8Array | null)[] = slots.map((slot) => slot.slice(0, HEAD_BYTES));
  /** Bytes of each slot that may be other than zero. */
  const used = [SLOT_BYTES, SLOT_BYTES];
  function replace(file: number, slot: number, image: Uint8Array): void {
    if (headsIn(file).some((head, i) => !equalBytes(head, heads[i] ?? head)))
      throw new EnvironmentError('state-changed', 'a second enclave writes the same sealed state; stop one of them');
    heads[slot] = null;
    write(file, image, slot * SLOT_BYTES);
  }
  function save(bytes: Uint8Array, version: number): void {
    const slot = version % 2;
    if (4 + bytes.length > SLOT_BYTES) throw new EnvironmentError('state-size', 'the sealed state exceeds its slot');
    const image = new Uint8Array(Math.max(used[slot]!, 4 + bytes.length));
    new DataView(image.buffer).setUint32(0, bytes.length, true);
    image.set(bytes, 4);
    if (fs.existsSync(path)) withFile(path, 'r+', (file) => replace(file, slot, image));
    else {
      const whole = new Uint8Array(2 * SLOT_BYTES);
      whole.set(image, slot * SLOT_BYTES);
      heads[slot] = null;
      create(path, whole);
    }
    heads[slot] = image.slice(0, HEAD_BYTES);
    used[slot] = 4 + bytes.length;
  }
  const recordOf = (slot: Uint8Array): Uint8Array => {
    const length = new DataView(slot.buffer, slot.byteOffset).getUint32(0, true);
    return slot.slice(4, 4 + Math.min(length, SLOT_BYTES - 4));
  };
  return { load: () => slots.map(recordOf).filter(({ length }) => length > 0), save };
}
