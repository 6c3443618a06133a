// Simulated evidence: each check refuses on its own, appraisal needs every rule named, and no key goes to another owner's enclave.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSimulated, verifySimulated } from '../../src/attest/evidence/simulated.js';
import { appraise } from '../../src/attest/policy/appraise.js';
import { type AttestationPolicy, simulatedPolicy } from '../../src/attest/policy/policy.js';
import type { AppraisedEvidence } from '../../src/attest/verified.js';
import { grantLicence } from '../../src/owner/grant.js';
import { createOwnerKeys } from '../../src/owner/owner-keys.js';
import { encodeCanonicalJson } from '../../src/trusted/wire/canonical-json.js';
import { signJws } from '../../src/trusted/wire/jws.js';
import { type Claims, encodeEvidence, reportData } from '../../src/trusted/wire/report-data.js';

const root = createOwnerKeys();
const nonce = new Uint8Array(32).fill(5);
const measurement = 'ab'.repeat(32);
const claims: Claims = {
  kind: 'simulated',
  encryptionKey: new Uint8Array(32).fill(1),
  signingKey: new Uint8Array(32).fill(2),
  bundleId: 'cd'.repeat(32),
  ownerKey: createOwnerKeys().signingKey,
};

function evidence(quoted: Claims = claims, changes: object = {}): Uint8Array {
  const data = Buffer.from(reportData(quoted, nonce)).toString('hex');
  const payload = { kind: 'simulated', label: 'SIMULATED: test', measurement, reportData: data, ...changes };
  const quote = signJws('simulated-quote', encodeCanonicalJson(payload), root.signingSecret, root.signingKey);
  return encodeEvidence({ claims, quote: Buffer.from(quote) });
}

test('genuine evidence verifies and is accepted by a policy that names it', () => {
  const verified = verifySimulated(parseSimulated(evidence()), root.signingKey, nonce);
  assert.deepEqual(verified.claims, claims);
  const policy = simulatedPolicy(claims.bundleId, root.signingKey, [measurement]);
  assert.deepEqual(appraise(verified, policy, 0).platform, { kind: 'simulated', measurement });
  appraise(verified, simulatedPolicy(claims.bundleId, root.signingKey), 0);
  const { simulated: _, ...noKind } = policy;
  const pins = policy.simulated!;
  const rules: [AttestationPolicy, string][] = [
    [noKind, 'evidence-kind'],
    [{ ...policy, bundles: [] }, 'evidence-bundle'],
    [{ ...policy, simulated: { ...pins, measurements: [] } }, 'measurement'],
    [{ ...policy, simulated: { ...pins, measurements: ['00'.repeat(32)] } }, 'measurement'],
  ];
  for (const [changed, code] of rules) assert.throws(() => appraise(verified, changed, 0), { kind: 'policy', code });
});

test('another root, nonce, key, bundle or owner is refused', () => {
  const verify = (bytes: Uint8Array, key = root.signingKey, challenge = nonce) =>
    verifySimulated(parseSimulated(bytes), key, challenge);
  assert.throws(() => verify(evidence(), createOwnerKeys().signingKey), { kind: 'verification', code: 'signature' });
  assert.throws(() => verify(evidence(), root.signingKey, new Uint8Array(32)), {
    kind: 'verification',
    code: 'report-data',
  });
  const others: Partial<Claims>[] = [
    { kind: 'sgx' },
    { encryptionKey: new Uint8Array(32) },
    { signingKey: new Uint8Array(32) },
    { bundleId: '00'.repeat(32) },
    { ownerKey: new Uint8Array(32) },
  ];
  for (const other of others) {
    assert.throws(() => verify(evidence({ ...claims, ...other })), { code: 'report-data' });
  }
  assert.throws(() => verify(evidence(claims, { label: 'genuine' })), { kind: 'malformed' });
  assert.throws(() => verify(evidence(claims, { extra: 1 })), { kind: 'malformed' });
});

test('evidence truncated at every byte or with any byte changed is refused', () => {
  const bytes = evidence();
  for (let at = 0; at < bytes.length; at++) {
    assert.throws(() => parseSimulated(bytes.slice(0, at)), { kind: 'malformed' });
    const changed = bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
    assert.throws(() => verifySimulated(parseSimulated(changed), root.signingKey, nonce), `byte ${at}`);
  }
});

test('no key is granted to an enclave that obeys another owner, nor under impossible terms', async () => {
  const policy = simulatedPolicy(claims.bundleId, root.signingKey, [measurement]);
  const accepted: AppraisedEvidence = appraise(
    verifySimulated(parseSimulated(evidence()), root.signingKey, nonce),
    policy,
    0,
  );
  const terms = {
    budgetTokens: 1,
    topK: 1,
    precision: 'float32',
    temperature: { min: 1, max: 1 },
    notBefore: 0,
    expires: 1,
  } as const;
  await assert.rejects(grantLicence({ keys: createOwnerKeys(), evidence: accepted, terms }), {
    code: 'evidence-owner',
  });
  const keys = { ...createOwnerKeys(), signingKey: claims.ownerKey };
  await assert.rejects(grantLicence({ keys, evidence: accepted, terms: { ...terms, budgetTokens: 0 } }), {
    kind: 'malformed',
  });
  const verified = verifySimulated(parseSimulated(evidence()), root.signingKey, nonce);
  // @ts-expect-error evidence that was verified but not appraised has the wrong type
  const unappraised = (): unknown => grantLicence({ keys, evidence: verified, terms });
  assert.equal(typeof unappraised, 'function');
});
