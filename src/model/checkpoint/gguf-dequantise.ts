// Block formats of GGUF tensors to float32, one function per format; layouts as in ggml's quants.
// Zone: edge and owner. Every function takes whole blocks and fills `out`; products are exact in double, so results are ggml's bit for bit.

import { UnsupportedError } from '../../trusted/wire/errors.js';
import { halfToNumber, widen } from './float-formats.js';

export interface BlockFormat {
  readonly name: string;
  /** Weights in a block. */
  readonly blockSize: number;
  /** Bytes of a block. */
  readonly blockBytes: number;
  readonly dequantise: (bytes: Uint8Array, out: Float32Array) => void;
}

function half(bytes: Uint8Array, at: number): number {
  return halfToNumber(bytes[at]! | (bytes[at + 1]! << 8));
}

function q40(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 18, to += 32) {
    const scale = half(bytes, at);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 2 + i]!;
      out[to + i] = scale * ((pair & 15) - 8);
      out[to + 16 + i] = scale * ((pair >> 4) - 8);
    }
  }
}

function q41(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 20, to += 32) {
    const scale = half(bytes, at);
    const least = half(bytes, at + 2);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 4 + i]!;
      out[to + i] = scale * (pair & 15) + least;
      out[to + 16 + i] = scale * (pair >> 4) + least;
    }
  }
}

function q50(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 22, to += 32) {
    const scale = half(bytes, at);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 6 + i]!;
      out[to + i] = scale * (((pair & 15) | fifthBit(bytes, at + 2, i)) - 16);
      out[to + 16 + i] = scale * (((pair >> 4) | fifthBit(bytes, at + 2, i + 16)) - 16);
    }
  }
}

function q51(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 24, to += 32) {
    const scale = half(bytes, at);
    const least = half(bytes, at + 2);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 8 + i]!;
      out[to + i] = scale * ((pair & 15) | fifthBit(bytes, at + 4, i)) + least;
      out[to + 16 + i] = scale * ((pair >> 4) | fifthBit(bytes, at + 4, i + 16)) + least;
    }
  }
}

/** Bit `index` of the 32 high bits of a five-bit block, already worth 16. */
function fifthBit(bytes: Uint8Array, at: number, index: number): number {
  return ((bytes[at + (index >> 3)]! >> (index & 7)) & 1) << 4;
}

function q80(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 34, to += 32) {
    const scale = half(bytes, at);
    for (let i = 0; i < 32; i++) out[to + i] = scale * ((bytes[at + 2 + i]! << 24) >> 24);
  }
}

/** The six-bit scale of sub-block `index` (0–7) in the twelve packed bytes of a K block. */
function sixBitScale(bytes: Uint8Array, at: number, index: number): number {
  return index < 4 ? bytes[at + index]! & 63 : (bytes[at + 4 + index]! & 15) | ((bytes[at + index - 4]! >> 6) << 4);
}

/** The six-bit minimum of sub-block `index`. */
function sixBitMinimum(bytes: Uint8Array, at: number, index: number): number {
  return index < 4 ? bytes[at + 4 + index]! & 63 : (bytes[at + 4 + index]! >> 4) | ((bytes[at + index]! >> 6) << 4);
}

function q4k(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 144, to += 256) {
    const scale = half(bytes, at);
    const least = half(bytes, at + 2);
    for (let sub = 0; sub < 8; sub++) {
      const d = scale * sixBitScale(bytes, at + 4, sub);
      const m = least * sixBitMinimum(bytes, at + 4, sub);
      const source = at + 16 + (sub >> 1) * 32;
      const shift = (sub & 1) * 4;
      for (let i = 0; i < 32; i++) out[to + sub * 32 + i] = d * ((bytes[source + i]! >> shift) & 15) - m;
    }
  }
}

function q5k(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 176, to += 256) {
    const scale = half(bytes, at);
    const least = half(bytes, at + 2);
    for (let sub = 0; sub < 8; sub++) {
      const d = scale * sixBitScale(bytes, at + 4, sub);
      const m = least * sixBitMinimum(bytes, at + 4, sub);
      const source = at + 48 + (sub >> 1) * 32;
      const shift = (sub & 1) * 4;
      for (let i = 0; i < 32; i++) {
        const high = ((bytes[at + 16 + i]! >> sub) & 1) << 4;
        out[to + sub * 32 + i] = d * (((bytes[source + i]! >> shift) & 15) | high) - m;
      }
    }
  }
}

function q6k(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 210, to += 256) {
    const scale = half(bytes, at + 208);
    for (let i = 0; i < 256; i++) {
      const part = i >> 7; // two halves of 128 weights: 64 bytes of low bits and 32 bytes of high bits each
      const within = i & 127;
      const low = (bytes[at + part * 64 + (within & 63)]! >> ((within >> 6) * 4)) & 15;
      const high = (bytes[at + 128 + part * 32 + (within & 31)]! >> ((within >> 5) * 2)) & 3;
      const sub = (bytes[at + 192 + (i >> 4)]! << 24) >> 24;
      out[to + i] = scale * sub * ((low | (high << 4)) - 32);
    }
  }
}

function plain(format: 'F32' | 'F16' | 'BF16'): (bytes: Uint8Array, out: Float32Array) => void {
  return (bytes, out) => out.set(widen(bytes, format));
}

/** By ggml's type number. */
const formats: ReadonlyMap<number, BlockFormat> = new Map(
  (
    [
      [0, 'F32', 1, 4, plain('F32')],
      [1, 'F16', 1, 2, plain('F16')],
      [30, 'BF16', 1, 2, plain('BF16')],
      [2, 'Q4_0', 32, 18, q40],
      [3, 'Q4_1', 32, 20, q41],
      [6, 'Q5_0', 32, 22, q50],
      [7, 'Q5_1', 32, 24, q51],
      [8, 'Q8_0', 32, 34, q80],
      [12, 'Q4_K', 256, 144, q4k],
      [13, 'Q5_K', 256, 176, q5k],
      [14, 'Q6_K', 256, 210, q6k],
    ] as const
  ).map(([type, name, blockSize, blockBytes, dequantise]) => [type, { name, blockSize, blockBytes, dequantise }]),
);

const otherNames: Readonly<Record<number, string>> = {
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

/** Throws UnsupportedError naming file, tensor and format. */
export function blockFormat(type: number, tensor: string, file: string): BlockFormat {
  const format = formats.get(type);
  if (format !== undefined) return format;
  const name = otherNames[type] ?? `type ${type}`;
  const known = [...formats.values()].map((candidate) => candidate.name).join(', ');
  throw new UnsupportedError(
    'quantisation-unsupported',
    `${file}: tensor "${tensor}" is quantised as ${name}; supported are ${known}. Requantise the file to one of them.`,
    { file, tensor, quantisation: name },
  );
}
