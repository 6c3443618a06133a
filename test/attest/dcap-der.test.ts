// The strict DER reader and what stands on it: every other spelling of a value is refused, and so is every extension that could
// change what a certificate or a list means.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCertificate, parsePemChain } from '../../src/attest/dcap/certificates.js';
import { parseCrl } from '../../src/attest/dcap/crl.js';
import { DerReader, TAG } from '../../src/attest/dcap/der.js';
import { certificates, date, keyOf, NOW, pemChain, SIGN, x509 } from './intel-pki.js';

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));
const reader = (hex: string): DerReader => new DerReader(bytes(hex));
const ascii = (text: string): string => Buffer.from(text).toString('hex');
const time = (tag: string, text: string): string => tag + text.length.toString(16).padStart(2, '0') + ascii(text);

test('values read as X.690 says', () => {
  assert.equal(reader('020100').integer(0), 0);
  assert.equal(reader('02020080').integer(128), 128);
  assert.equal(reader('02020100').integer(65_535), 256);
  assert.equal(reader(`021500${'ef'.repeat(20)}`).serial(), `00${'ef'.repeat(20)}`);
  assert.equal(reader('0101ff').boolean(), true);
  assert.equal(reader('010100').boolean(), false);
  assert.deepEqual(reader('03020780').bits(7), bytes('80'));
  assert.equal(reader(time('17', '491231235959Z')).time(), Date.parse('2049-12-31T23:59:59Z') / 1000);
  assert.equal(reader(time('17', '500101000000Z')).time(), Date.parse('1950-01-01T00:00:00Z') / 1000);
  assert.equal(reader(time('18', '20500101000000Z')).time(), Date.parse('2050-01-01T00:00:00Z') / 1000);
  assert.equal(reader(time('17', '240229000000Z')).time(), Date.parse('2024-02-29T00:00:00Z') / 1000);
  assert.equal(reader(`0481c8${'aa'.repeat(200)}`).octets(200).length, 200);
  const nested = reader('3006300402020100').into().into();
  assert.equal(nested.integer(256), 256);
  nested.end();
});

const malformed: readonly [string, string, (value: DerReader) => unknown][] = [
  ['nothing', '', (value) => value.any()],
  ['a tag alone', '30', (value) => value.any()],
  ['an indefinite length', '30800000', (value) => value.any()],
  ['a length of four bytes', '308400000001aa', (value) => value.any()],
  ['a short length in the long form', '04810100', (value) => value.any()],
  ['a length with a leading zero', `048200c8${'aa'.repeat(200)}`, (value) => value.any()],
  ['a length beyond the end', '0403aaaa', (value) => value.any()],
  ['a tag of several bytes', '1f8101', (value) => value.any()],
  ['another tag', '0401aa', (value) => value.next(TAG.integer)],
  ['an octet string of another length', '0401aa', (value) => value.octets(2)],
  ['an empty integer', '0200', (value) => value.integer(9)],
  ['a negative integer', '0201ff', (value) => value.serial()],
  ['an integer with a needless zero', '02020001', (value) => value.integer(9)],
  ['an integer that is too large', '02020100', (value) => value.integer(255)],
  ['an integer beyond what numbers hold', `0209${'01'.repeat(9)}`, (value) => value.integer(Number.MAX_SAFE_INTEGER)],
  ['a boolean of another value', '010101', (value) => value.boolean()],
  ['a boolean of two bytes', '0102ffff', (value) => value.boolean()],
  ['a bit string without its first byte', '0300', (value) => value.bits(7)],
  ['unused bits where none may be', '03020780', (value) => value.bits(0)],
  ['unused bits of no byte', '030101', (value) => value.bits(7)],
  ['unused bits that are set', '03020781', (value) => value.bits(7)],
  ['eight unused bits', '03020800', (value) => value.bits(7)],
  ['a time without seconds', time('17', '2401010000Z'), (value) => value.time()],
  ['a time with an offset', time('17', '240101000000+0100'), (value) => value.time()],
  ['a time with a fraction', time('18', '20240101000000.5Z'), (value) => value.time()],
  ['the thirtieth of February', time('17', '240230000000Z'), (value) => value.time()],
  ['a thirteenth month', time('17', '241301000000Z'), (value) => value.time()],
  ['second 60', time('17', '240101000060Z'), (value) => value.time()],
  ['bytes left over', '0100', (value) => value.end()],
];

for (const [what, hex, read] of malformed) {
  test(`refused: ${what}`, () => assert.throws(() => read(reader(hex)), { code: 'der', kind: 'malformed' }));
}

async function certificateWith(...extensions: readonly x509.Extension[]): Promise<Uint8Array> {
  const { publicKey, privateKey } = await keyOf('root');
  const made = await x509.X509CertificateGenerator.create({
    subject: 'CN=Intel SGX PCK Certificate',
    issuer: 'CN=Intel SGX Root CA',
    notBefore: date(NOW),
    notAfter: date(NOW + 1),
    publicKey,
    signingKey: privateKey,
    signingAlgorithm: SIGN,
    extensions: [...extensions],
  });
  return new Uint8Array(made.rawData);
}

const opaque = (id: string, critical: boolean): x509.Extension => new x509.Extension(id, critical, bytes('0500'));

test('certificates: unknown critical and repeated extensions, two names, other keys', async () => {
  assert.equal(parseCertificate(await certificateWith(opaque('1.2.3', false))).extensions.size, 1);
  for (const extensions of [
    [opaque('1.2.3', true)],
    [opaque('1.2.3', false), opaque('1.2.3', false)],
    [new x509.Extension('2.5.29.19', true, bytes('30030101ff00'))],
    [new x509.Extension('2.5.29.15', true, bytes('03020701'))],
    [],
  ]) {
    const raw = await certificateWith(...extensions);
    assert.throws(() => parseCertificate(raw), { code: 'der' });
  }
  const raw = await certificateWith(opaque('1.2.3', false));
  const at = Buffer.from(raw).indexOf(bytes('2a8648ce3d030107'));
  // The curve's number changed: P-256 is the only one read.
  assert.throws(() => parseCertificate(raw.map((byte, i) => (i === at + 7 ? 0x06 : byte))), { code: 'der' });
});

test('revocation lists: partial ones are refused', async () => {
  const { privateKey } = await keyOf('root');
  const make = async (
    extensions: x509.Extension[],
    entry: x509.Extension[],
    nextUpdate?: Date,
  ): Promise<Uint8Array> => {
    const reason = new x509.Extension('2.5.29.21', false, bytes('0a0101'));
    const list = await x509.X509CrlGenerator.create({
      issuer: 'CN=Intel SGX Root CA',
      thisUpdate: date(NOW),
      ...(nextUpdate && { nextUpdate }),
      entries: [{ serialNumber: '0b', revocationDate: date(NOW), extensions: [reason, ...entry] }],
      signingAlgorithm: SIGN,
      signingKey: privateKey,
      extensions,
    });
    return new Uint8Array(list.rawData);
  };
  const number = new x509.Extension('2.5.29.20', false, bytes('020101'));
  assert.deepEqual([...parseCrl(await make([number], [], date(NOW + 1))).revoked], ['0b']);
  const refused: [string, Uint8Array][] = [
    ['delta', await make([number, new x509.Extension('2.5.29.27', false, bytes('020101'))], [], date(NOW + 1))],
    [
      'delta, critical',
      await make([number, new x509.Extension('2.5.29.27', true, bytes('020101'))], [], date(NOW + 1)),
    ],
    ['of some reasons only', await make([number, opaque('2.5.29.28', true)], [], date(NOW + 1))],
    ["with another issuer's entry", await make([number], [opaque('2.5.29.29', true)], date(NOW + 1))],
    ['without a next update', await make([number], [])],
    ['without extensions', await make([], [], date(NOW + 1))],
  ];
  for (const [what, raw] of refused) assert.throws(() => parseCrl(raw), { code: 'der' }, what);
});

test('PEM chains have one spelling', async () => {
  const { leaf, authority, root } = await certificates({});
  const text = pemChain(leaf, authority, root);
  assert.equal(parsePemChain(text, 3, 'chain').length, 3);
  for (const other of [
    text.trimEnd(),
    `${text}\n`,
    ` ${text}`,
    text.replaceAll('\n', '\r\n'),
    text.replace('\nM', '\n M'),
    text.replace('-----BEGIN', 'a comment\n-----BEGIN'),
    text.replace('CERTIFICATE', 'TRUSTED CERTIFICATE'),
    pemChain(leaf, authority),
    pemChain(leaf, authority, root, root),
    '',
    `${text}${' '.repeat(40_000)}`,
  ]) {
    assert.throws(() => parsePemChain(other, 3, 'chain'), { code: 'certificate-chain' });
  }
});
