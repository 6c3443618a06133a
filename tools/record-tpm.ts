// Records one TPM 2.0 run with swtpm, so that parsing and verification are tested where swtpm is not installed.
// `node dist/tools/record-tpm.js`; writes test/fixtures/attestation/tpm/recorded.json (hex throughout).
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { challengeKey, endorseKey, proveKey } from '../src/attest/tpm/activated-key.js';
import { encodeCredential } from '../src/attest/tpm/credential.js';
import { SoftwareTpm } from './software-tpm.js';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const folder = join('test', 'fixtures', 'attestation', 'tpm');
const reportData = createHash('sha512').update('distillock recorded TPM quote').digest();
const now = Math.floor(Date.now() / 1000) + 60;

const tpm = await SoftwareTpm.start();
try {
  await tpm.extend(7, createHash('sha256').update('measured').digest());
  const roots = [{ certificate: tpm.rootCertificate }];
  const ek = await tpm.endorsement();
  const ak = await tpm.attestationKey(ek.context);
  const key = endorseKey(ek, ak.akPublic, { now, roots });
  const secret = randomBytes(32);
  proveKey(key, secret, await tpm.activate(ek.context, ak.context, encodeCredential(challengeKey(key, secret))));
  const quote = async (format: 'tss' | 'plain', data: Uint8Array) => {
    const { attest, signature, pcrs } = await tpm.quote(ak.context, data, [0, 1, 7], format);
    const values = Object.fromEntries([...pcrs].map(([index, value]) => [index, hex(value)]));
    return { attest: hex(attest), signature: hex(signature), pcrs: values };
  };
  const eccKey = await tpm.endorsementKey('ecc');
  const recorded = {
    format: 'swtpm 0.7 with tpm2-tools 5.4; a software TPM made for this recording and thrown away',
    now,
    root: hex(tpm.rootCertificate),
    chain: ek.chain.map(hex),
    ekCertificate: hex(ek.ekCertificate),
    ekPublic: hex(ek.ekPublic),
    eccEkPublic: hex(eccKey.ekPublic),
    akPublic: hex(ak.akPublic),
    reportData: hex(reportData),
    quote: await quote('tss', reportData),
    plain: await quote('plain', reportData),
    hashed: await quote('tss', createHash('sha256').update(reportData).digest()),
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'recorded.json'), `${JSON.stringify(recorded, null, 1)}\n`);
} finally {
  await tpm.stop();
}
