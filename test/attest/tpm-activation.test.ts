// Endorsement chains and credential activation with a TPM made of node:crypto; no swtpm needed.
import assert from 'node:assert/strict';
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { challengeKey, endorseKey, proveKey } from '../../src/attest/tpm/activated-key.js';
import { encodeCredential } from '../../src/attest/tpm/credential.js';
import { parseAttestationKey, parseEndorsementKey } from '../../src/attest/tpm/public-area.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';
import {
  AK_ATTRIBUTES,
  EK_ATTRIBUTES,
  EKU,
  endorse,
  makeAk,
  makeCa,
  makeEk,
  modelName,
  NOW,
  openCredential,
} from './fake-tpm.js';
import { CA_EXTENSIONS, der, extension, integer, oid, sequence } from './x509-writer.js';

const code = (expected: string) => (error: unknown) => error instanceof DistillockError && error.code === expected;
const root = makeCa('TPM vendor root');
const roots = [{ certificate: root.certificate }];
const ak = makeAk();

for (const kind of ['rsa', 'ecc'] as const) {
  test(`a credential for an ${kind} endorsement key opens in its TPM, for the named key only`, () => {
    const [ek, other] = [makeEk(kind), makeEk(kind)];
    const key = endorseKey(endorse(ek, root), ak.area, { now: NOW, roots });
    assert.equal(key.attestationKeyName, Buffer.from(ak.name).toString('hex').slice(4));
    assert.equal(key.endorsementCa, 'CN=TPM vendor root');
    assert.equal(key.softwareTpm, false);
    const secret = randomBytes(32);
    const credential = encodeCredential(challengeKey(key, secret));
    const opened = openCredential(credential, ek, ak.name);
    assert.deepEqual(opened && Buffer.from(opened), secret);
    const activated = proveKey(key, secret, opened!);
    assert.equal(activated.attestationKeyName, key.attestationKeyName);
    assert.equal(activated.endorsedUntil, NOW + 1000);
    assert.equal(openCredential(credential, ek, makeAk().name), null);
    if (kind === 'rsa') assert.throws(() => openCredential(credential, other, ak.name));
    else assert.equal(openCredential(credential, other, ak.name), null);
    assert.equal(Buffer.from(credential).includes(secret), false);
  });
}

test('only the secret itself proves the key', () => {
  const key = endorseKey(endorse(makeEk('ecc'), root), ak.area, { now: NOW, roots });
  const secret = randomBytes(32);
  const empty = new Uint8Array(0);
  for (const returned of [randomBytes(32), secret.subarray(1), Buffer.concat([secret, Buffer.of(0)]), empty]) {
    assert.throws(() => proveKey(key, secret, returned), code('tpm-activation'));
  }
  assert.throws(() => proveKey(key, empty, empty), code('tpm-activation'));
  for (const size of [0, 33]) assert.throws(() => challengeKey(key, new Uint8Array(size)), code('tpm-secret'));
});

test('chains: intermediates, unpinned, expired and misused CAs', () => {
  const ek = makeEk('ecc');
  const middle = makeCa('TPM vendor intermediate', root);
  const judge = (endorsement: ReturnType<typeof endorse>, pins = roots, now = NOW) =>
    endorseKey(endorsement, ak.area, { now, roots: pins });
  judge(endorse(ek, root));
  assert.equal(judge(endorse(ek, root, { notAfter: NOW + 5 })).endorsedUntil, NOW + 5);
  judge(endorse(ek, middle, { chain: [middle] }));
  judge(endorse(ek, middle), [{ certificate: middle.certificate }]); // Pinned itself.
  assert.throws(() => judge(endorse(ek, middle)), code('tpm-root'));
  assert.throws(() => judge(endorse(ek, root), []), code('tpm-root'));
  assert.throws(() => judge(endorse(ek, root, { chain: [root] }), []), code('tpm-root'));
  const stranger = makeCa('TPM vendor root');
  assert.throws(() => judge(endorse(ek, stranger)), code('certificate-signature'));
  const strangers = makeCa('Other root');
  assert.throws(() => judge(endorse(ek, strangers, { chain: [strangers] })), code('tpm-root'));
  for (const now of [NOW - 2000, NOW + 2000]) {
    assert.throws(() => judge(endorse(ek, root), roots, now), code('certificate-time'));
  }
  for (const now of [Number.NaN, undefined as unknown as number]) {
    assert.throws(() => endorseKey(endorse(ek, root), ak.area, { now, roots }), code('now'));
  }
  assert.throws(() => judge(endorse(ek, root, { notAfter: NOW - 1 })), code('certificate-time'));
  const leaf = makeCa('not a CA', root, [extension('2.5.29.19', sequence())]);
  assert.throws(() => judge(endorse(ek, leaf, { chain: [leaf] })), code('certificate-issuer'));
  const short = makeCa('short', undefined, [
    extension('2.5.29.19', sequence(der(1, Buffer.of(0xff)), integer(0)), true),
    CA_EXTENSIONS[1]!,
  ]);
  const below = makeCa('below', short);
  judge(endorse(ek, short), [{ certificate: short.certificate }]);
  const tooLong = endorse(ek, below, { chain: [below] });
  assert.throws(() => judge(tooLong, [{ certificate: short.certificate }]), code('certificate-issuer'));
  const [one, two] = [makeCa('one', { ...root, name: 'two' }), makeCa('two', { ...root, name: 'one' })];
  assert.throws(() => judge(endorse(ek, one, { chain: [one, two] })), DistillockError); // A circle ends.
});

test('certificates that are not for this endorsement key are refused', () => {
  const ek = makeEk('ecc');
  const judge = (endorsement: ReturnType<typeof endorse>) => endorseKey(endorsement, ak.area, { now: NOW, roots });
  assert.throws(() => judge({ ...endorse(ek, root), ekPublic: makeEk('ecc').area }), code('tpm-endorsement'));
  assert.throws(() => judge({ ...endorse(ek, root), ekPublic: makeEk('rsa').area }), code('tpm-endorsement'));
  assert.throws(() => judge(endorse(ek, root, { extensions: [modelName('real')] })), code('tpm-endorsement'));
  assert.throws(() => judge(endorse(ek, root, { extensions: [EKU, ...CA_EXTENSIONS] })), code('tpm-endorsement'));
  const critical = extension('1.2.3', Buffer.of(5, 0), true);
  assert.throws(() => judge(endorse(ek, root, { extensions: [EKU, critical] })), code('certificate-extension'));
  // The attestation key presented as its own endorsement.
  const asEk = { ...endorse(ak, root), ekPublic: ak.area };
  assert.throws(() => judge(asEk), DistillockError);
});

test('an endorsement key that its certificate marks as for OAEP only is the same key', () => {
  const ek = makeEk('rsa');
  const spki = ek.keys.publicKey.export({ type: 'spki', format: 'der' });
  // rsaEncryption ends in 1, id-RSAES-OAEP in 7; its parameters say SHA-256 or nothing.
  const at = spki.indexOf(oid('1.2.840.113549.1.1.1'));
  const marked = Uint8Array.from(spki);
  marked[at + 10] = 7;
  const judge = (changed: Uint8Array) =>
    endorseKey(endorse(ek, root, { spki: changed }), ak.area, { now: NOW, roots }).attestationKeyName;
  assert.equal(judge(marked), judge(spki));
  assert.throws(() => new X509Certificate(endorse(ek, root, { spki: marked }).ekCertificate).publicKey);
  const other = Uint8Array.from(marked);
  other[other.length - 20]! ^= 2;
  assert.throws(() => judge(other), code('tpm-endorsement'));
});

test('software TPMs are labelled by model, by CA name or by the pin', () => {
  const ek = makeEk('ecc');
  const judge = (endorsement: ReturnType<typeof endorse>, pins: Parameters<typeof endorseKey>[2]['roots'] = roots) =>
    endorseKey(endorsement, ak.area, { now: NOW, roots: pins }).softwareTpm;
  assert.equal(judge(endorse(ek, root)), false);
  assert.equal(judge(endorse(ek, root, { extensions: [EKU] })), false);
  assert.equal(judge(endorse(ek, root, { extensions: [EKU, modelName('swtpm')] })), true);
  assert.equal(judge(endorse(ek, root), [{ certificate: root.certificate, softwareTpm: true }]), true);
  const local = makeCa('swtpm-localca');
  assert.equal(judge(endorse(ek, local), [{ certificate: local.certificate }]), true);
});

test('keys that could sign or open anything else are refused', () => {
  parseAttestationKey(ak.area);
  for (const bit of [1, 4, 5, 16, 18]) {
    assert.throws(() => parseAttestationKey(makeAk(AK_ATTRIBUTES & ~(1 << bit)).area), code('tpm-key-attributes'));
  }
  assert.throws(() => parseAttestationKey(makeAk(AK_ATTRIBUTES | (1 << 17)).area), code('tpm-key-attributes'));
  assert.throws(() => parseAttestationKey(makeAk((AK_ATTRIBUTES | (1 << 31)) >>> 0).area), code('tpm'));
  assert.throws(() => parseAttestationKey(makeAk(AK_ATTRIBUTES, [0x18, 0x04]).area), code('tpm')); // SHA-1
  assert.throws(() => parseAttestationKey(makeAk(AK_ATTRIBUTES, [0x10]).area), code('tpm')); // Any scheme.
  assert.throws(() => parseAttestationKey(makeAk(AK_ATTRIBUTES | (1 << 7)).area), code('tpm-key-policy'));
  const withPolicy = makeAk(AK_ATTRIBUTES, [0x18, 0x0b], Buffer.alloc(32, 1));
  assert.throws(() => parseAttestationKey(withPolicy.area), code('tpm-key-policy'));
  for (const kind of ['rsa', 'ecc'] as const) {
    parseEndorsementKey(makeEk(kind).area);
    for (const bit of [1, 4, 5, 16, 17]) {
      assert.throws(
        () => parseEndorsementKey(makeEk(kind, EK_ATTRIBUTES & ~(1 << bit)).area),
        code('tpm-key-attributes'),
      );
    }
    assert.throws(() => parseEndorsementKey(makeEk(kind, EK_ATTRIBUTES | (1 << 18)).area), code('tpm-key-attributes'));
  }
  const offCurve = Uint8Array.from(ak.area);
  offCurve[offCurve.length - 1]! ^= 1;
  assert.throws(() => parseAttestationKey(offCurve), code('tpm'));
  assert.equal(Buffer.from(parseAttestationKey(ak.area).name).equals(ak.name), true);
  assert.equal(
    createHash('sha256').update(ak.area.subarray(2)).digest('hex'),
    Buffer.from(ak.name).toString('hex').slice(4),
  );
});
