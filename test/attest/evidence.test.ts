// Evidence of every kind through the one entry: quotes of test platforms over an enclave's claims, verified and appraised under a
// policy read from YAML; every claim, the nonce, the kind, the roots and the collateral refuse alone.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, test } from 'node:test';
import type { Collateral } from '../../src/attest/evidence/collateral.js';
import { readCollateral } from '../../src/attest/evidence/read-collateral.js';
import { recogniseQuote } from '../../src/attest/evidence/recognise.js';
import { appraiseEvidence, verifyEvidence, verifyQuote } from '../../src/attest/evidence/verify-evidence.js';
import type { AttestationPolicy } from '../../src/attest/policy/policy.js';
import { trustRoots, VENDOR_ROOTS } from '../../src/attest/policy/trust-roots.js';
import { type ActivatedKey, recallKey } from '../../src/attest/tpm/activated-key.js';
import { encodeTpmQuote } from '../../src/attest/tpm/quote.js';
import { createOwnerKeys } from '../../src/owner/owner-keys.js';
import { encodeCanonicalJson } from '../../src/trusted/wire/canonical-json.js';
import { signJws } from '../../src/trusted/wire/jws.js';
import { type Claims, encodeEvidence, reportData } from '../../src/trusted/wire/report-data.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { chipIdOf, makeChain, makeLeaf, makeReport, makeTable, NOW as SNP_NOW, tcbOf } from './amd-test-pki.js';
import { BUNDLE, policyOf, SECTIONS, type Section } from './facts.js';
import { makeAk, signAttest, NOW as TPM_NOW, writeAttest } from './fake-tpm.js';
import { NOW as INTEL_NOW } from './intel-pki.js';
import { makePlatform } from './synthetic-quote.js';

interface Made {
  readonly quote: Uint8Array;
  readonly policy: AttestationPolicy;
  readonly now: number;
  readonly collateral?: Collateral;
  readonly activatedKeys?: readonly ActivatedKey[];
}

const nonce = new Uint8Array(32).fill(5);
const key = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
const claimsOf = (kind: string): Claims => ({
  kind,
  encryptionKey: key(1),
  signingKey: key(2),
  bundleId: BUNDLE,
  ownerKey: key(3),
});
const pem = /-----BEGIN[\s\S]*END CERTIFICATE-----/.exec(readFileSync('examples/policy/tpm.yaml', 'utf8'))![0];
const sections = SECTIONS(`${pem.replaceAll(/^ +/gm, '')}\n`);
const policyFor = (kind: string, changes: Section, roots?: object): AttestationPolicy =>
  policyOf({ [kind]: { ...sections[kind], ...changes }, ...(roots === undefined ? {} : { extraRoots: roots }) });

const KINDS = ['simulated', 'sgx', 'tdx', 'snp', 'tpm'] as const;
const MAKERS: Readonly<Record<(typeof KINDS)[number], (data: Uint8Array) => Promise<Made> | Made>> = {
  simulated(data) {
    const root = createOwnerKeys();
    const measurement = 'ab'.repeat(32);
    const hex = Buffer.from(data).toString('hex');
    const payload = { kind: 'simulated', label: 'SIMULATED: test', measurement, reportData: hex };
    const quote = signJws('simulated-quote', encodeCanonicalJson(payload), root.signingSecret, root.signingKey);
    const roots = [Buffer.from(createOwnerKeys().signingKey), Buffer.from(root.signingKey)].map((one) =>
      one.toString('hex'),
    );
    return { quote: Buffer.from(quote), now: 0, policy: policyFor('simulated', { roots }) };
  },
  async sgx(data) {
    const made = await makePlatform({ kind: 'sgx', reportData: data });
    const pins = { mrsigner: ['bb'.repeat(32)], statuses: ['UpToDate'], maxCollateralAgeDays: 400 };
    const policy = policyFor('sgx', { ...pins, minTcbEvaluationDataNumber: 1 }, { intel: [made.root] });
    return { quote: made.quote, policy, now: INTEL_NOW, collateral: { dcap: [made.collateral] } };
  },
  async tdx(data) {
    const made = await makePlatform({ kind: 'td15', reportData: data });
    const same = (byte: string): string[] => [byte.repeat(48)];
    const pins = {
      ...{ mrtd: same('b0'), mrConfigId: same('c0'), mrOwner: same('c1'), mrOwnerConfig: same('c2') },
      ...{ rtmr0: same('d0'), rtmr1: same('d1'), rtmr2: same('d2'), rtmr3: same('d3') },
      ...{ statuses: ['UpToDate'], maxCollateralAgeDays: 400, minTcbEvaluationDataNumber: 1 },
    };
    const policy = policyFor('tdx', pins, { intel: [made.root] });
    return { quote: made.quote, policy, now: INTEL_NOW, collateral: { dcap: [made.collateral] } };
  },
  snp(data) {
    const chain = makeChain('Genoa');
    const leaf = makeLeaf(chain);
    const report = makeReport('Genoa', leaf.keys, { edit: (bytes) => bytes.set(data, 0x50) });
    const table = makeTable([
      ['vcek', leaf.der],
      ['ask', chain.ask],
      ['ark', chain.ark],
    ]);
    const [bootLoader, tee] = tcbOf('Genoa');
    const pins = {
      minTcb: { Genoa: { bootLoader, tee, snp: 23, microcode: 200 } },
      ...{ measurement: ['aa'.repeat(48)], hostData: ['bb'.repeat(32)], idKeyDigest: 'zero' },
      ...{ chipIds: [Buffer.from(chipIdOf('Genoa')).toString('hex')], allowMultipleSockets: true },
    };
    const policy = policyFor('snp', pins, { amd: { Genoa: [chain.roots.Genoa] } });
    return { quote: Buffer.concat([report, table]), policy, now: SNP_NOW };
  },
  tpm(data) {
    const ak = makeAk();
    const pcrs = new Map([
      [0, key(0x51)],
      [7, key(0x52)],
    ]);
    const attest = writeAttest({ extraData: data, pcrs });
    const quote = encodeTpmQuote({
      reportData: data,
      attest,
      signature: signAttest(attest, ak),
      akPublic: ak.area,
      pcrs,
    });
    const activated = recallKey({
      attestationKeyName: Buffer.from(ak.name.subarray(2)).toString('hex'),
      endorsementCa: 'O=Example, CN=Example TPM endorsement CA',
      softwareTpm: false,
      endorsedUntil: TPM_NOW + 1000,
    });
    return { quote, policy: policyFor('tpm', {}), now: TPM_NOW, activatedKeys: [activated] };
  },
};

const made = {} as Record<(typeof KINDS)[number], Made>;
before(async () => {
  for (const kind of KINDS) made[kind] = await MAKERS[kind](reportData(claimsOf(kind), nonce));
});

const contextOf = ({ policy, quote: _, ...rest }: Made) => ({ ...rest, roots: trustRoots(policy) });

for (const kind of KINDS) {
  test(`${kind}: verified, bound to the claims, and appraised`, () => {
    const claims = claimsOf(kind);
    const bytes = encodeEvidence({ claims, quote: made[kind].quote });
    const evidence = appraiseEvidence(bytes, made[kind].policy, { ...contextOf(made[kind]), nonce });
    assert.deepEqual(evidence.claims, claims);
    assert.equal(evidence.platform.kind, kind);
  });

  test(`${kind}: another claim, nonce or kind is refused`, () => {
    const { quote } = made[kind];
    const context = { ...contextOf(made[kind]), nonce };
    const others: Partial<Claims>[] = [
      { encryptionKey: key(9) },
      { signingKey: key(9) },
      { bundleId: '00'.repeat(32) },
      { ownerKey: key(9) },
    ];
    for (const other of others) {
      const bytes = encodeEvidence({ claims: { ...claimsOf(kind), ...other }, quote });
      assert.throws(() => verifyEvidence(bytes, context), { kind: 'verification', code: 'report-data' });
    }
    const bytes = encodeEvidence({ claims: claimsOf(kind), quote });
    assert.throws(() => verifyEvidence(bytes, { ...context, nonce: key(6) }), { code: 'report-data' });
    assert.throws(() => verifyEvidence(bytes, { ...context, nonce: new Uint8Array(31) }), { code: 'nonce' });
    for (const wrong of [...KINDS.filter((name) => name !== kind), 'sev', '', 'constructor']) {
      const relabelled = encodeEvidence({ claims: { ...claimsOf(kind), kind: wrong }, quote });
      assert.throws(
        () => verifyEvidence(relabelled, context),
        { name: /^(Malformed|Verification|Unsupported)Error$/ },
        wrong,
      );
    }
    for (const now of [Number.NaN, undefined, -1, 0.5]) {
      assert.throws(() => verifyEvidence(bytes, { ...context, now: now as number }), { code: 'now' });
    }
  });

  test(`${kind}: nothing is believed under the vendors' roots alone`, () => {
    const codes = { simulated: 'simulated-root', sgx: 'root', tdx: 'root', snp: 'snp-root', tpm: 'tpm-activation' };
    const { activatedKeys: _, ...context } = contextOf(made[kind]);
    assert.throws(() => verifyQuote(kind, made[kind].quote, { ...context, roots: VENDOR_ROOTS }), {
      code: codes[kind],
    });
  });
}

test('collateral is chosen by kind, family and age; none that fits is said with the family', async () => {
  const { sgx, tdx } = made;
  const own = sgx.collateral!.dcap![0]!;
  const foreign = await readCollateral('test/fixtures/attestation/tdx');
  assert.equal(foreign.dcap!.length, 4);
  const context = contextOf(sgx);
  verifyQuote('sgx', sgx.quote, {
    ...context,
    collateral: { dcap: [...foreign.dcap!, ...tdx.collateral!.dcap!, own] },
  });
  for (const dcap of [[], foreign.dcap!, tdx.collateral!.dcap!]) {
    assert.throws(() => verifyQuote('sgx', sgx.quote, { ...context, collateral: { dcap } }), {
      code: 'collateral-missing',
      message: /\(FMSPC\) [0-9a-f]{12}/,
    });
  }
  assert.throws(() => verifyQuote('sgx', tdx.quote, contextOf(tdx)), { code: 'evidence-kind' });
});

test('collateral on disk: by type, and named when it is none', async (t) => {
  const snp = await readCollateral('test/fixtures/attestation/snp/chain-milan.pem');
  assert.equal(snp.snp!.chain!.length, 1);
  await assert.rejects(readCollateral('no/such/folder'), { kind: 'environment', code: 'collateral-read' });
  await assert.rejects(readCollateral('package.json'), {
    kind: 'malformed',
    message: /package\.json is no collateral/,
  });
  const folder = await temporaryFolder(t);
  const text = readFileSync('test/fixtures/attestation/sgx/collateral-00a067.json', 'utf8');
  await writeFile(join(folder, 'good.json'), text);
  await writeFile(join(folder, 'notes.txt'), 'not read');
  assert.equal((await readCollateral(folder)).dcap!.length, 1);
  await writeFile(join(folder, 'old.json'), JSON.stringify({ ...JSON.parse(text), tcb_info: '{}' }));
  await assert.rejects(readCollateral(folder), { kind: 'malformed', message: /old\.json is no collateral of Intel/ });
  for (const name of ['a.crl', 'b.crl']) await writeFile(join(folder, name), '');
  await writeFile(join(folder, 'old.json'), text);
  await assert.rejects(readCollateral(folder), { code: 'collateral', message: /more than one \.crl/ });
  await assert.rejects(readCollateral('README.md'), { code: 'collateral', message: /README\.md/ });
});

test('raw quotes are told apart by their first bytes', () => {
  const read = (name: string): Uint8Array => readFileSync(`test/fixtures/attestation/${name}`);
  assert.equal(recogniseQuote(read('sgx/quote-v3-00a067.bin')), 'sgx');
  for (const name of ['v4-b0c06f', 'v5-90c06f']) assert.equal(recogniseQuote(read(`tdx/quote-${name}.bin`)), 'tdx');
  for (const name of ['milan', 'milan-vlek']) assert.equal(recogniseQuote(read(`snp/report-${name}.bin`)), 'snp');
  for (const kind of KINDS) {
    assert.equal(recogniseQuote(encodeEvidence({ claims: claimsOf(kind), quote: made[kind].quote })), null);
  }
  assert.equal(recogniseQuote(new Uint8Array(0)), null);
  assert.equal(recogniseQuote(read('sgx/collateral-00a067.json')), null);
});
