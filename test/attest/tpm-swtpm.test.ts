// The whole TPM flow against swtpm and tpm2-tools: endorsement, activation, quote, and what must fail. About 30 commands.
// Needs the Debian packages swtpm, swtpm-tools and tpm2-tools; skipped without them, except where CI is set.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { type ActivatedKey, challengeKey, endorseKey, proveKey } from '../../src/attest/tpm/activated-key.js';
import { encodeCredential } from '../../src/attest/tpm/credential.js';
import { parseEndorsementKey } from '../../src/attest/tpm/public-area.js';
import { encodeTpmQuote, parseTpmQuote } from '../../src/attest/tpm/quote.js';
import { verifyTpmQuote } from '../../src/attest/tpm/verify.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';
import { missingTpmProgram, SoftwareTpm } from '../../tools/software-tpm.js';
import { endorse, makeAk, makeCa, NOW as TEST_NOW } from './fake-tpm.js';

const missing = missingTpmProgram();
const skip =
  missing !== null && process.env.CI !== 'true'
    ? `${missing} is not installed (Debian: swtpm swtpm-tools tpm2-tools)`
    : false;
const code = (expected: string) => (error: unknown) => error instanceof DistillockError && error.code === expected;
const PCRS = [0, 1, 7, 14];

describe('swtpm', { skip, timeout: 900_000 }, () => {
  let tpm: SoftwareTpm;
  let ek: Awaited<ReturnType<SoftwareTpm['endorsement']>>;
  let ak: Awaited<ReturnType<SoftwareTpm['attestationKey']>>;
  let key: ActivatedKey;
  // swtpm's certificates are valid from their making.
  const now = Math.floor(Date.now() / 1000) + 3600;
  const reportData = randomBytes(64);

  before(async () => {
    tpm = await SoftwareTpm.start();
    ek = await tpm.endorsement();
    ak = await tpm.attestationKey(ek.context);
    const roots = [{ certificate: tpm.rootCertificate }];
    const endorsed = endorseKey(ek, ak.akPublic, { now, roots });
    const secret = randomBytes(32);
    const credential = encodeCredential(challengeKey(endorsed, secret));
    key = proveKey(endorsed, secret, await tpm.activate(ek.context, ak.context, credential));
  });
  after(async () => {
    await tpm?.stop();
  });

  const judge = async (data: Uint8Array, format: 'tss' | 'plain' = 'tss') => {
    const quoted = await tpm.quote(ak.context, data, PCRS, format);
    return verifyTpmQuote(parseTpmQuote(encodeTpmQuote({ ...quoted, reportData, akPublic: ak.akPublic })), {
      now,
      activatedKeys: [key],
    });
  };

  test('a quote over 64 bytes of report data, and over their hash, in both signature forms', async () => {
    await tpm.extend(14, createHash('sha256').update('enclave').digest());
    const expected = createHash('sha256').update(new Uint8Array(32));
    const pcr14 = expected.update(createHash('sha256').update('enclave').digest()).digest('hex');
    for (const format of ['tss', 'plain'] as const) {
      for (const data of [reportData, createHash('sha256').update(reportData).digest()]) {
        const { platform, reportData: verified } = await judge(data, format);
        assert.deepEqual(Buffer.from(verified), reportData);
        assert.equal(platform.pcrs['14'], pcr14);
        assert.equal(platform.softwareTpm, true);
        assert.equal(platform.endorsementCa, 'CN=swtpm-localca-rootca');
      }
    }
  });

  test('another nonce, other PCR values and a change between quote and reading are refused', async () => {
    await assert.rejects(judge(randomBytes(64)), code('tpm-report-data'));
    await assert.rejects(judge(randomBytes(32)), code('tpm-report-data'));
    const quoted = await tpm.quote(ak.context, reportData, PCRS);
    const claim = { ...quoted, reportData, akPublic: ak.akPublic };
    verifyTpmQuote(claim, { now, activatedKeys: [key] });
    await tpm.extend(14, randomBytes(32));
    const { pcrs } = await tpm.quote(ak.context, reportData, PCRS);
    assert.throws(() => verifyTpmQuote({ ...claim, pcrs }, { now, activatedKeys: [key] }), code('tpm-pcrs'));
  });

  test('a second attestation key of the same TPM needs its own activation', async () => {
    const other = await tpm.attestationKey(ek.context);
    const quoted = await tpm.quote(other.context, reportData, PCRS);
    const claim = { ...quoted, reportData, akPublic: other.akPublic };
    assert.throws(() => verifyTpmQuote(claim, { now, activatedKeys: [key] }), code('tpm-activation'));
    assert.throws(
      () => verifyTpmQuote({ ...claim, akPublic: ak.akPublic }, { now, activatedKeys: [key] }),
      code('tpm-signature'),
    );
    // A credential made for the first key does not open for the second.
    const endorsed = endorseKey(ek, ak.akPublic, { now, roots: [{ certificate: tpm.rootCertificate }] });
    const credential = encodeCredential(challengeKey(endorsed, randomBytes(32)));
    await assert.rejects(tpm.activate(ek.context, other.context, credential), /Esys_ActivateCredential/);
    await tpm.activate(ek.context, ak.context, credential);
  });

  test('an unpinned CA and the certificate of another TPM are refused', async () => {
    assert.throws(() => endorseKey(ek, ak.akPublic, { now, roots: [] }), code('tpm-root'));
    const second = await SoftwareTpm.start();
    try {
      const roots = [{ certificate: second.rootCertificate }];
      assert.throws(() => endorseKey(ek, ak.akPublic, { now, roots }), code('certificate-signature'));
      const foreign = await second.endorsement();
      endorseKey(foreign, ak.akPublic, { now, roots }); // The chain alone says nothing about the key …
      const mixed = { ...foreign, ekPublic: ek.ekPublic };
      assert.throws(() => endorseKey(mixed, ak.akPublic, { now, roots }), code('tpm-endorsement'));
      // … but the other TPM cannot open the credential for a key that it does not hold, nor this TPM in its place.
      const endorsed = endorseKey(foreign, ak.akPublic, { now, roots });
      const credential = encodeCredential(challengeKey(endorsed, randomBytes(32)));
      await assert.rejects(tpm.activate(ek.context, ak.context, credential), /Esys_ActivateCredential/);
      const own = await second.attestationKey(foreign.context);
      await assert.rejects(second.activate(foreign.context, own.context, credential), /Esys_ActivateCredential/);
    } finally {
      await second.stop();
    }
  });

  test('a key made in software opens no credential, though its public area looks right', async () => {
    const outside = makeAk();
    const endorsed = endorseKey(ek, outside.area, { now, roots: [{ certificate: tpm.rootCertificate }] });
    const credential = encodeCredential(challengeKey(endorsed, randomBytes(32)));
    const context = await tpm.loadPublic(outside.area);
    await assert.rejects(tpm.activate(ek.context, context, credential), /0x12F/);
  });

  test('a P-256 endorsement key opens credentials too', async () => {
    const ecc = await tpm.endorsementKey('ecc');
    const { publicKey } = parseEndorsementKey(ecc.ekPublic);
    // swtpm does not certify it; a CA of the test does.
    const ca = makeCa('test CA');
    const keys = { publicKey, privateKey: ca.keys.privateKey };
    const endorsement = endorse({ keys, area: ecc.ekPublic, name: new Uint8Array(0) }, ca);
    const own = await tpm.attestationKey(ecc.context);
    const roots = [{ certificate: ca.certificate }];
    const endorsed = endorseKey(endorsement, own.akPublic, { now: TEST_NOW, roots });
    const secret = randomBytes(32);
    const credential = encodeCredential(challengeKey(endorsed, secret));
    proveKey(endorsed, secret, await tpm.activate(ecc.context, own.context, credential));
  });
});
