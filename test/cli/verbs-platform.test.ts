// The verbs with an enclave on hardware, under a played Gramine: what they say, write and refuse.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { decodeEvidence } from '../../src/attest/evidence/decode-evidence.js';
import { brandAppraised, brandVerified, type SgxFacts } from '../../src/attest/verified.js';
import { readEvidenceFile, writeLicenceFile } from '../../src/cli/exchange-files.js';
import { loadOwnerPublicKey } from '../../src/edge/owner-key.js';
import { grantLicence } from '../../src/owner/grant.js';
import { loadOwnerKeys } from '../../src/owner/owner-keys.js';
import { encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { terms } from '../enclave/licensed-enclave.js';
import { playGramine } from '../enclave/play-gramine.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { cli, failure, json, lockStories, until } from './command-line.js';

const posix = { skip: process.platform === 'win32' && 'needs a shell and Unix sockets' };
const facts = { kind: 'sgx', mrenclave: '0'.repeat(64) } as unknown as SgxFacts;

test(
  'evidence of hardware goes into the file, and not through `grant`, which has no policy for it',
  posix,
  async (t) => {
    const folder = await temporaryFolder(t);
    const owned = await lockStories(folder, 'a');
    const { bundle, keys, publicKey, state } = owned;
    const ownerKey = encodeBase64url(await loadOwnerPublicKey(publicKey));
    const gramine = await playGramine(t, folder, { bundleDir: bundle, ownerKey });
    const evidence = join(folder, 'a.evidence');
    const licence = join(folder, 'a.licence');
    const enclave = ['enclave', '--bundle', bundle, ...state, '--platform', 'sgx', '--gramine_app', gramine];
    const running = json(...enclave, '--owner_key', publicKey, '--evidence', evidence);
    await until('evidence', () => existsSync(evidence));
    const written = JSON.parse(await readFile(evidence, 'utf8'));
    assert.deepEqual(Object.keys(written).sort(), ['evidence', 'format', 'nonce', 'simulated']);
    assert.equal(written.simulated, false);
    const read = await readEvidenceFile(evidence);
    assert.equal(read.simulatedRoot, null);
    const { claims } = decodeEvidence(read.evidence);
    assert.equal(claims.kind, 'sgx');

    const grant = [
      'grant',
      '--bundle',
      bundle,
      '--keys',
      keys,
      '--evidence',
      evidence,
      '--out',
      licence,
      '--budget',
      '9',
    ];
    const refused = await failure(...grant);
    assert.equal(refused.code, 'evidence-kind');
    assert.ok(!existsSync(licence));

    // The owner's service would appraise the evidence and grant; the licence file unlocks this enclave as any other.
    const accepted = brandAppraised(brandVerified({ claims, platform: facts }));
    await writeLicenceFile(
      licence,
      await grantLicence({ keys: await loadOwnerKeys(keys), evidence: accepted, terms: terms() }),
    );
    const result = await running;
    assert.deepEqual([result.state, result.simulated], ['unlocked', false]);
    const shown = await cli(...enclave);
    assert.equal(shown.code, 0, shown.err);
    assert.match(shown.out, /Intel SGX/);
    assert.ok(!/simulated/i.test(shown.out + shown.err), shown.out + shown.err);
  },
);

test('an enclave whose evidence is of another kind than --platform says', posix, async (t) => {
  const folder = await temporaryFolder(t);
  const { bundle, publicKey, state } = await lockStories(folder, 'a');
  const ownerKey = encodeBase64url(await loadOwnerPublicKey(publicKey));
  const gramine = await playGramine(t, folder, { bundleDir: bundle, ownerKey });
  const common = ['enclave', '--bundle', bundle, '--owner_key', publicKey, ...state];
  const waits = join(folder, 'one.evidence');
  const running = cli(...common, '--platform', 'sgx', '--gramine_app', gramine, '--evidence', waits);
  await until('evidence', () => existsSync(waits));
  const [id] = await readdir(join(folder, 'state'));
  const socket = join(folder, 'state', id!, 'enclave.sock');
  const evidence = join(folder, 'two.evidence');
  const elsewhere = ['--enclave_state_dir', join(folder, 'other')];
  const attached = ['enclave', '--bundle', bundle, '--owner_key', publicKey, ...elsewhere, '--enclave_socket', socket];
  assert.equal(
    (await json(...attached, '--platform', 'snp')).simulated,
    false,
    'a state folder that is new is no obstacle',
  );
  const asked = await failure(...common, '--platform', 'tdx', '--enclave_socket', socket, '--evidence', evidence);
  assert.equal(asked.code, 'enclave-platform');
  assert.ok(!existsSync(evidence));
  assert.equal((await failure(...common, '--platform', 'tdx')).code, 'enclave-choice');
  await writeFile(join(folder, 'one.licence'), 'no licence'); // Ends the one that waits.
  assert.notEqual((await running).code, 0);
});
