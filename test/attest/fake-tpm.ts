// A TPM made of node:crypto: attestation and endorsement keys, quotes of any shape, and the TPM's side of credential activation.
// It lays structures out on its own, so it also says what the verifier must not accept from a TPM that lies.
import {
  constants,
  createDecipheriv,
  createHash,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyPairKeyObjectResult,
  privateDecrypt,
  sign,
} from 'node:crypto';
import type { TpmEndorsement } from '../../src/attest/tpm/endorsement.js';
import { CA_EXTENSIONS, der, extension, oid, sequence, writeCertificate } from './x509-writer.js';

export const NOW = 1_800_000_000;
export const AK_ATTRIBUTES = 0x0005_0072;
export const EK_ATTRIBUTES = 0x0003_00b2;

export const u16 = (value: number): Buffer => Buffer.of(value >> 8, value & 0xff);
export const u32 = (value: number): Buffer => Buffer.concat([u16(value >>> 16), u16(value & 0xffff)]);
export const sized = (bytes: Uint8Array): Buffer => Buffer.concat([u16(bytes.length), bytes]);
const words = (...values: readonly number[]): Buffer => Buffer.concat(values.map(u16));
const coordinates = ({ publicKey }: KeyPairKeyObjectResult): [Buffer, Buffer] => {
  const { x, y } = publicKey.export({ format: 'jwk' });
  return [Buffer.from(x!, 'base64url'), Buffer.from(y!, 'base64url')];
};

export interface FakeKey {
  readonly keys: KeyPairKeyObjectResult;
  /** TPM2B_PUBLIC */
  readonly area: Uint8Array;
  readonly name: Uint8Array;
}

function made(keys: KeyPairKeyObjectResult, area: Buffer): FakeKey {
  const name = Buffer.concat([u16(0x000b), createHash('sha256').update(area).digest()]);
  return { keys, area: sized(area), name };
}

export function makeAk(
  attributes: number = AK_ATTRIBUTES,
  scheme: readonly number[] = [0x18, 0x0b],
  policy: Uint8Array = Buffer.alloc(0),
): FakeKey {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const [x, y] = coordinates(keys);
  const head = [words(0x23, 0x0b), u32(attributes), sized(policy), words(0x10, ...scheme, 3, 0x10)];
  return made(keys, Buffer.concat([...head, sized(x), sized(y)]));
}

export function makeEk(kind: 'rsa' | 'ecc', attributes: number = EK_ATTRIBUTES): FakeKey {
  const head = [u16(0x0b), u32(attributes), sized(Buffer.alloc(32, 7)), words(6, 128, 0x43, 0x10)];
  if (kind === 'rsa') {
    const keys = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const n = Buffer.from(keys.publicKey.export({ format: 'jwk' }).n!, 'base64url');
    return made(keys, Buffer.concat([u16(1), ...head, u16(2048), u32(0), sized(n)]));
  }
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const [x, y] = coordinates(keys);
  return made(keys, Buffer.concat([u16(0x23), ...head, words(3, 0x10), sized(x), sized(y)]));
}

export interface AttestFields {
  readonly magic?: number;
  readonly type?: number;
  readonly extraData: Uint8Array;
  readonly selections?: readonly { readonly hash: number; readonly mask: Uint8Array }[];
  readonly safe?: number;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  readonly trailing?: Uint8Array;
}

/** TPMS_ATTEST of a quote. */
export function writeAttest(fields: AttestFields): Uint8Array {
  const mask = Buffer.alloc(3);
  for (const pcr of fields.pcrs.keys()) mask[pcr >> 3]! |= 1 << (pcr & 7);
  const { selections = [{ hash: 0x0b, mask }], safe = 1, magic = 0xff544347, type = 0x8018 } = fields;
  const digest = createHash('sha256')
    .update(Buffer.concat([...fields.pcrs.values()]))
    .digest();
  return Buffer.concat([
    u32(magic),
    u16(type),
    sized(Buffer.alloc(34, 9)),
    sized(fields.extraData),
    u32(1),
    u32(0x8000_0000),
    u32(5),
    u32(6),
    Buffer.of(safe),
    u32(0x20191023),
    u32(0x00163636),
    u32(selections.length),
    ...selections.map(({ hash, mask: bits }) => Buffer.concat([u16(hash), Buffer.of(bits.length), bits])),
    sized(digest),
    fields.trailing ?? Buffer.alloc(0),
  ]);
}

/** TPMT_SIGNATURE */
export function signAttest(attest: Uint8Array, { keys }: FakeKey): Uint8Array {
  const raw = sign('sha256', attest, { key: keys.privateKey, dsaEncoding: 'ieee-p1363' });
  return Buffer.concat([words(0x18, 0x0b), sized(raw.subarray(0, 32)), sized(raw.subarray(32))]);
}

const kdfa = (key: Uint8Array, label: string, context: Uint8Array, bits: number): Buffer =>
  createHmac('sha256', key)
    .update(Buffer.concat([u32(1), Buffer.from(`${label}\0`), context, u32(bits)]))
    .digest()
    .subarray(0, bits / 8);

/** TPM2_ActivateCredential: the secret, or null when the TPM would refuse. `file`: as for tpm2_activatecredential. */
export function openCredential(file: Uint8Array, ek: FakeKey, akName: Uint8Array): Uint8Array | null {
  const bytes = Buffer.from(file);
  const blobSize = bytes.readUInt16BE(8);
  const blob = bytes.subarray(10, 10 + blobSize);
  const encrypted = bytes.subarray(12 + blobSize);
  const [integrity, identity] = [blob.subarray(2, 34), blob.subarray(34)];
  const seed = ek.keys.privateKey.asymmetricKeyType === 'rsa' ? rsaSeed(ek, encrypted) : eccSeed(ek, encrypted);
  const hmac = createHmac('sha256', kdfa(seed, 'INTEGRITY', Buffer.alloc(0), 256))
    .update(identity)
    .update(akName);
  if (!hmac.digest().equals(integrity)) return null;
  const cipher = createDecipheriv('aes-128-cfb', kdfa(seed, 'STORAGE', akName, 128), Buffer.alloc(16));
  const secret = Buffer.concat([cipher.update(identity), cipher.final()]);
  return secret.subarray(2, 2 + secret.readUInt16BE(0));
}

function rsaSeed({ keys }: FakeKey, encrypted: Buffer): Buffer {
  const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256', oaepLabel: Buffer.from('IDENTITY\0') };
  return privateDecrypt({ key: keys.privateKey, ...oaep }, encrypted);
}

function eccSeed({ keys }: FakeKey, encrypted: Buffer): Buffer {
  const [x, y] = [encrypted.subarray(2, 34), encrypted.subarray(36, 68)];
  const jwk = { kty: 'EC', crv: 'P-256', x: x.toString('base64url'), y: y.toString('base64url') };
  const shared = diffieHellman({
    privateKey: keys.privateKey,
    publicKey: createPublicKey({ key: jwk, format: 'jwk' }),
  });
  const input = Buffer.concat([u32(1), shared, Buffer.from('IDENTITY\0'), x, coordinates(keys)[0]]);
  return createHash('sha256').update(input).digest();
}

export interface FakeCa {
  readonly name: string;
  readonly keys: KeyPairKeyObjectResult;
  readonly certificate: Uint8Array;
}

const VALID = { notBefore: NOW - 1000, notAfter: NOW + 1000 };
export const EKU: Uint8Array = extension('2.5.29.37', sequence(oid('2.23.133.8.1')));

export function makeCa(name: string, by?: FakeCa, extensions: readonly Uint8Array[] = CA_EXTENSIONS): FakeCa {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const fields = {
    serial: 1,
    subject: name,
    issuer: by?.name ?? name,
    ...VALID,
    publicKey: keys.publicKey,
    extensions,
  };
  return { name, keys, certificate: writeCertificate(fields, 'ecdsa', (by ?? { keys }).keys.privateKey) };
}

/** Subject alternative name with the TPM's model. */
export function modelName(model: string): Uint8Array {
  const attribute = sequence(oid('2.23.133.2.2'), der(0x0c, Buffer.from(model)));
  return extension('2.5.29.17', sequence(der(0xa4, sequence(der(0x31, attribute)))), true);
}

export interface EkCertificateOptions {
  readonly extensions?: readonly Uint8Array[];
  readonly notAfter?: number;
  readonly chain?: readonly FakeCa[];
  /** Subject public key info, instead of the key's own. */
  readonly spki?: Uint8Array;
}

/** The endorsement of `ek` by `ca`. */
export function endorse(ek: FakeKey, ca: FakeCa, options: EkCertificateOptions = {}): TpmEndorsement {
  const { extensions = [EKU, modelName('real')], notAfter = VALID.notAfter, chain = [] } = options;
  const publicKey = options.spki ?? ek.keys.publicKey;
  const fields = { serial: 2, subject: 'EK', issuer: ca.name, ...VALID, notAfter, publicKey, extensions };
  const ekCertificate = writeCertificate(fields, 'ecdsa', ca.keys.privateKey);
  return { ekCertificate, ekPublic: ek.area, chain: chain.map(({ certificate }) => certificate) };
}
