// The whole of Node that trusted code may touch. `types: []` hides @types/node from this project, so a call to
// anything not declared here does not compile: this file is the compile-time allow-list of the enclave program.
declare module 'node:crypto' {
  export interface KeyObject {
    readonly type: 'secret' | 'public' | 'private';
    export(options: { format: 'jwk' }): Record<string, string>;
  }
  interface Hash {
    update(data: Uint8Array): Hash;
    digest(): Uint8Array;
  }
  interface Cipher {
    setAAD(aad: Uint8Array): Cipher;
    update(data: Uint8Array): Uint8Array;
    final(): Uint8Array;
    getAuthTag(): Uint8Array;
    setAuthTag(tag: Uint8Array): Cipher;
  }
  export function createHash(algorithm: 'sha256' | 'sha512'): Hash;
  export function hkdfSync(
    digest: 'sha256',
    key: Uint8Array,
    salt: Uint8Array,
    info: Uint8Array,
    length: number,
  ): ArrayBuffer;
  export function createCipheriv(algorithm: 'aes-256-gcm' | 'aes-256-ctr', key: Uint8Array, iv: Uint8Array): Cipher;
  export function createDecipheriv(algorithm: 'aes-256-gcm', key: Uint8Array, iv: Uint8Array): Cipher;
  export function createPublicKey(key: { key: Record<string, string>; format: 'jwk' }): KeyObject;
  export function createPrivateKey(key: { key: Record<string, string>; format: 'jwk' }): KeyObject;
  export function generateKeyPairSync(type: 'ed25519'): { publicKey: KeyObject; privateKey: KeyObject };
  export function sign(algorithm: null, data: Uint8Array, key: KeyObject): Uint8Array;
  export function verify(algorithm: null, data: Uint8Array, key: KeyObject, signature: Uint8Array): boolean;
  export function randomBytes(size: number): Uint8Array;
  export function timingSafeEqual(a: Uint8Array, b: Uint8Array): boolean;
}

/** Bytes as text and back; what comes out of a pool is copied where it is used. */
declare const Buffer: {
  from(bytes: Uint8Array): { toString(encoding: 'base64url' | 'hex'): string };
  from(text: string, encoding: 'base64url' | 'hex'): Uint8Array;
};

/** UTF-8 only: `types: []` hides the global classes as well. */
declare class TextEncoder {
  encode(text: string): Uint8Array;
}
declare class TextDecoder {
  constructor(label: 'utf-8', options: { fatal: true; ignoreBOM: true });
  decode(bytes: Uint8Array): string;
}
