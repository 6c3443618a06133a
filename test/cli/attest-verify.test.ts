// distillock attest verify: every recorded quote under a strict policy, evidence files, what is refused and how it is shown.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { readCollateral } from '../../src/attest/evidence/read-collateral.js';
import { verifyQuote } from '../../src/attest/evidence/verify-evidence.js';
import { VENDOR_ROOTS } from '../../src/attest/policy/trust-roots.js';
import type { PlatformFacts } from '../../src/attest/verified.js';
import { writeEvidenceFile } from '../../src/cli/exchange-files.js';
import { createOwnerKeys } from '../../src/owner/owner-keys.js';
import { encodeCanonicalJson } from '../../src/trusted/wire/canonical-json.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';
import { signJws } from '../../src/trusted/wire/jws.js';
import { type Claims, encodeEvidence, reportData } from '../../src/trusted/wire/report-data.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { cli, failure, json } from './command-line.js';

const FOLDER = join('test', 'fixtures', 'attestation');
const BUNDLE = 'cd'.repeat(32);

interface Case {
  readonly id: string;
  readonly kind: 'sgx' | 'tdx' | 'snp';
  readonly now: number;
  readonly quote?: string;
  readonly collateral?: string;
  readonly report?: string;
  readonly vek?: string;
  readonly chain?: string;
}
const { cases } = JSON.parse(readFileSync(join(FOLDER, 'cases.json'), 'utf8')) as { cases: Case[] };

/** The facts that a verified case has; null when it does not verify. */
async function factsOf(item: Case): Promise<PlatformFacts | null> {
  const bytes = readFileSync(join(FOLDER, (item.quote ?? item.report)!));
  const stored = item.collateral === undefined ? {} : await readCollateral(join(FOLDER, item.collateral));
  const leaf = item.vek === undefined ? undefined : readFileSync(join(FOLDER, item.vek));
  const chain = item.chain === undefined ? [] : [readFileSync(join(FOLDER, item.chain))];
  const collateral = { ...stored, snp: { leaf, chain } };
  try {
    return verifyQuote(item.kind, bytes, { now: item.now, roots: VENDOR_ROOTS, collateral }).platform;
  } catch (error) {
    if (error instanceof DistillockError && error.kind === 'verification') return null;
    throw error;
  }
}

type Section = Readonly<Record<string, unknown>>;
const DCAP = { statuses: ['UpToDate'], minTcbEvaluationDataNumber: 1, maxCollateralAgeDays: 31 };

/** Pins exactly what the platform is, and nothing weaker than a healthy platform. */
function strict(facts: PlatformFacts): Section {
  switch (facts.kind) {
    case 'sgx':
      return {
        mrenclave: [facts.mrenclave],
        attributes: { value: '0500000000000000' },
        xfrm: { value: facts.xfrm },
        ...DCAP,
      };
    case 'tdx': {
      const [rtmr0, rtmr1, rtmr2, rtmr3] = facts.rtmrs.map((value) => [value]);
      const { mrtd, tdAttributes, xfam, mrConfigId, mrOwner, mrOwnerConfig } = facts;
      const pins = { mrtd, tdAttributes, xfam, mrConfigId, mrOwner, mrOwnerConfig };
      const lists = Object.fromEntries(Object.entries(pins).map(([name, value]) => [name, [value]]));
      return { ...lists, rtmr0, rtmr1, rtmr2, rtmr3, ...DCAP };
    }
    case 'snp': {
      const { fmc: _, ...tcb } = facts.reportedTcb;
      const { measurement, hostData, idKeyDigest, authorKeyDigest, chipId } = facts;
      return {
        measurement: [measurement],
        minTcb: { [facts.product]: tcb },
        minAbi: { major: facts.policy.abiMajor, minor: facts.policy.abiMinor },
        allowSmt: true,
        allowMultipleSockets: true,
        vmpl: [0],
        minGuestSvn: facts.guestSvn,
        hostData: [hostData],
        idKeyDigest: [idKeyDigest],
        authorKeyDigest: [authorKeyDigest],
        signedBy: ['VCEK'],
        chipIds: [chipId],
      };
    }
    default:
      return assert.fail(facts.kind);
  }
}

async function writePolicy(folder: string, sections: Section): Promise<string> {
  const file = join(folder, 'policy.yaml');
  await writeFile(file, JSON.stringify({ version: 1, bundles: [BUNDLE], ...sections }));
  return file;
}

function argumentsOf(item: Case, policy: string): readonly string[] {
  const flags: string[] = [];
  const flag = (name: string, value: string | undefined): void => {
    if (value !== undefined) flags.push(name, join(FOLDER, value));
  };
  flag('--collateral', item.collateral);
  flag('--certificate', item.vek);
  flag('--chain', item.chain);
  const evidence = join(FOLDER, (item.quote ?? item.report)!);
  return ['attest', 'verify', evidence, '--policy', policy, '--now', String(item.now), ...flags];
}

/** `accept`, `refuse` by a rule, or `error` because it does not verify at all. */
const EXPECTED: Readonly<Record<string, readonly ['accept' | 'refuse' | 'error', string?]>> = {
  'sgx-ok': ['refuse', 'tcb-status'],
  'sgx-debug': ['refuse', 'debug'],
  'tdx4-ok': ['accept'],
  'tdx4-oldsvn': ['error', 'tcb-level'],
  'tdx5-ok': ['accept'],
  'tdx5-oldsvn': ['error', 'tcb-level'],
  'tdx4-outofdate': ['refuse', 'tcb-status'],
  'tdx4-module15': ['accept'],
  'tdx4-debug': ['refuse', 'debug'],
  'snp-ok': ['accept'],
  'snp-debug': ['refuse', 'debug'],
  'snp-vlek': ['refuse', 'vmpl'],
  'snp-vlek-expired': ['error', 'certificate-time'],
  'snp-wrong-vcek': ['error', 'snp-tcb'],
  'snp-invalid-vcek': ['error', 'certificate-signature'],
  'snp-wrong-chain': ['error', 'snp-root'],
};

test('the table has every case', () => {
  assert.deepEqual(
    Object.keys(EXPECTED),
    cases.map(({ id }) => id),
  );
});

for (const item of cases) {
  const [outcome, code] = EXPECTED[item.id]!;
  test(`${item.id}: ${outcome} ${code ?? ''}`, async (t) => {
    const folder = await temporaryFolder(t);
    const facts = await factsOf(item);
    if (outcome === 'error' || facts === null) {
      assert.equal(facts, null);
      const healthy = (await factsOf(
        cases.find(({ id }) => id === `${item.kind === 'tdx' ? 'tdx4' : item.kind}-ok`)!,
      ))!;
      const policy = await writePolicy(folder, { [item.kind]: strict(healthy) });
      const failed = await failure(...argumentsOf(item, policy));
      assert.deepEqual([outcome, failed.code, failed.exitCode], ['error', code, 1]);
      return;
    }
    const argv = argumentsOf(item, await writePolicy(folder, { [item.kind]: strict(facts) }));
    const { code: exitCode, out, err } = await cli(...argv, '--json');
    const result = JSON.parse(out);
    assert.equal(err, '');
    assert.deepEqual(
      [exitCode, result.verdict, result.refusedBy, result.rawQuote, result.fresh, result.now],
      [
        outcome === 'accept' ? 0 : 1,
        outcome === 'accept' ? 'platform-accepted' : 'refused',
        code ?? null,
        true,
        null,
        item.now,
      ],
    );
    assert.deepEqual(result.platform, JSON.parse(JSON.stringify(facts)));
    const unchecked = result.rules.filter(({ verdict }: { verdict: string }) => verdict === 'unchecked');
    assert.deepEqual(
      unchecked.map((rule: { code: string }) => rule.code),
      ['report-data', 'evidence-bundle'],
    );
    const shown = await cli(...argv);
    assert.equal(shown.code, exitCode);
    assert.match(shown.out, /report-data\s+not checked\s.*not checked: raw quote/);
    if (outcome === 'accept') assert.match(shown.out, /no key may be released for it/);
    else assert.match(shown.out, new RegExp(`\\n${code}\\s+FAIL`));
    // One pin changed, and the accepted one is refused by exactly that.
    if (outcome === 'accept') {
      const [pin, rule] = item.kind === 'snp' ? ['measurement', 'measurement'] : ['rtmr2', 'rtmr2'];
      await writePolicy(folder, { [item.kind]: { ...strict(facts), [pin]: ['ee'.repeat(48)] } });
      const refused = await cli(...argv, '--json');
      assert.deepEqual([refused.code, JSON.parse(refused.out).refusedBy], [1, rule]);
    }
  });
}

test('weaker platforms are accepted once the policy lists all that makes them weaker', async (t) => {
  const folder = await temporaryFolder(t);
  const run = async (id: string, change: Section): Promise<readonly unknown[]> => {
    const item = cases.find((one) => one.id === id)!;
    const policy = await writePolicy(folder, { [item.kind]: { ...strict((await factsOf(item))!), ...change } });
    const { code, out } = await cli(...argumentsOf(item, policy), '--json');
    return [code, JSON.parse(out).refusedBy];
  };
  const statuses = ['ConfigurationAndSWHardeningNeeded'];
  const advisories = ['INTEL-SA-00289', 'INTEL-SA-00615'];
  assert.deepEqual(await run('sgx-ok', { statuses }), [1, 'advisories']);
  assert.deepEqual(await run('sgx-ok', { advisories }), [1, 'tcb-status']);
  assert.deepEqual(await run('sgx-ok', { statuses, advisories: advisories.slice(1) }), [1, 'advisories']);
  assert.deepEqual(await run('sgx-ok', { statuses, advisories }), [0, null]);
  assert.deepEqual(await run('sgx-ok', { statuses, advisories, maxCollateralAgeDays: 1 }), [1, 'collateral-age']);
  assert.deepEqual(await run('sgx-debug', { statuses, advisories, attributes: { value: '0700000000000000' } }), [
    1,
    'debug',
  ]);
  const outOfDate = ['INTEL-SA-00960', 'INTEL-SA-00982', 'INTEL-SA-00986'];
  assert.deepEqual(await run('tdx4-outofdate', { statuses: ['OutOfDate'], advisories: outOfDate }), [0, null]);
  assert.deepEqual(await run('snp-vlek', { vmpl: [1] }), [1, 'signed-by']);
  assert.deepEqual(await run('snp-vlek', { vmpl: [0, 1], signedBy: ['VLEK'] }), [0, null]);
});

const root = createOwnerKeys();
const nonce = new Uint8Array(32).fill(5);
const claims: Claims = {
  kind: 'simulated',
  encryptionKey: new Uint8Array(32).fill(1),
  signingKey: new Uint8Array(32).fill(2),
  bundleId: BUNDLE,
  ownerKey: createOwnerKeys().signingKey,
};
function simulated(claimed: Claims = claims): Uint8Array {
  const data = Buffer.from(reportData(claims, nonce)).toString('hex');
  const payload = { kind: 'simulated', label: 'SIMULATED: test', measurement: 'ab'.repeat(32), reportData: data };
  const quote = signJws('simulated-quote', encodeCanonicalJson(payload), root.signingSecret, root.signingKey);
  return encodeEvidence({ claims: claimed, quote: Buffer.from(quote) });
}
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const pins = { simulated: { roots: [hexOf(root.signingKey)], measurements: ['ab'.repeat(32)] } };

test('an evidence file: accepted, fresh with its nonce, refused for another bundle, kind, root or nonce', async (t) => {
  const folder = await temporaryFolder(t);
  const file = join(folder, 'alice.evidence');
  // The root that the file brings along is not believed.
  await writeEvidenceFile(file, { evidence: simulated(), nonce, simulatedRoot: createOwnerKeys().signingKey });
  const policy = await writePolicy(folder, pins);
  const argv = ['attest', 'verify', file, '--policy', policy];
  const accepted = await json(...argv);
  assert.deepEqual([accepted.verdict, accepted.fresh, accepted.rawQuote], ['accepted', false, false]);
  assert.ok(Math.abs(accepted.now - Date.now() / 1000) < 600, 'the clock, when --now is not given');
  assert.ok(accepted.rules.every(({ verdict }: { verdict: string }) => verdict === 'pass'));
  assert.equal((await json(...argv, '--nonce', hexOf(nonce))).fresh, true);
  for (const time of ['1751624924', '2025-07-04T10:28:44Z', '2025-07-04T10:28:44', '2025-07-04T12:28:44+02:00']) {
    assert.equal((await json(...argv, '--now', time)).now, 1_751_624_924, time);
  }
  const shown = await cli(...argv);
  assert.match(shown.out, /freshness\s+not proven[\s\S]*measurement\s+pass[\s\S]*Accepted by/);

  assert.equal((await failure(...argv, '--nonce', '00'.repeat(32))).code, 'evidence-nonce');
  await writePolicy(folder, { ...pins, bundles: ['ee'.repeat(32)] });
  const other = await cli(...argv);
  assert.equal(other.code, 1);
  assert.match(
    other.out,
    new RegExp(`evidence-bundle: bundle\\n {2}wanted ${'ee'.repeat(32)}\\n {2}found {2}${BUNDLE}`),
  );
  assert.match(other.out, /Refused by .*: 1 rule does not hold\./);
  const roots = [hexOf(createOwnerKeys().signingKey)];
  await writePolicy(folder, { simulated: { ...pins.simulated, roots } });
  assert.equal((await failure(...argv)).code, 'signature');
  await writePolicy(folder, { snp: strict((await factsOf(cases.find(({ id }) => id === 'snp-ok')!))!) });
  assert.equal((await failure(...argv)).code, 'simulated-root');
});

test('bare evidence needs its nonce; a raw quote takes none; a recorded quote does not prove keys', async (t) => {
  const folder = await temporaryFolder(t);
  const policy = await writePolicy(folder, pins);
  const bare = join(folder, 'bare');
  await writeFile(bare, simulated());
  const argv = ['attest', 'verify', bare, '--policy', policy];
  assert.equal((await failure(...argv)).code, 'evidence-file');
  assert.equal((await json(...argv, '--nonce', hexOf(nonce))).verdict, 'accepted');
  assert.equal((await failure(...argv, '--nonce', '00'.repeat(32))).code, 'report-data');
  await writeFile(bare, simulated({ ...claims, encryptionKey: new Uint8Array(32) }));
  assert.equal((await failure(...argv, '--nonce', hexOf(nonce))).code, 'report-data');

  const item = cases.find(({ id }) => id === 'tdx4-ok')!;
  await writePolicy(folder, { tdx: strict((await factsOf(item))!) });
  assert.equal((await failure(...argumentsOf(item, policy), '--nonce', hexOf(nonce))).code, 'evidence-file');
  const quote = readFileSync(join(FOLDER, item.quote!));
  await writeFile(bare, encodeEvidence({ claims: { ...claims, kind: 'tdx' }, quote }));
  const [, , , ...flags] = argumentsOf(item, policy);
  const stolen = await failure('attest', 'verify', bare, ...flags, '--nonce', hexOf(nonce));
  assert.deepEqual([stolen.code, stolen.exitCode], ['report-data', 1]);
});

test('what the user gave wrong is said, with exit code 2 for policy and flags', async (t) => {
  const folder = await temporaryFolder(t);
  const policy = await writePolicy(folder, pins);
  const quote = join(FOLDER, 'sgx', 'quote-v3-00a067.bin');
  await writePolicy(folder, { sgx: strict((await factsOf(cases[0]!))!) });
  const missing = await failure('attest', 'verify', quote, '--policy', policy, '--now', '1751624924');
  assert.deepEqual([missing.code, missing.exitCode], ['collateral-missing', 1]);
  assert.match(missing.message, /SGX collateral .*00a067110000/);
  await writeFile(policy, '');
  const empty = await failure('attest', 'verify', quote, '--policy', policy);
  assert.deepEqual([empty.code, empty.exitCode], ['policy-empty', 2]);
  await writeFile(policy, 'version: 1\nbundels: []\n');
  const unknown = await failure('attest', 'verify', quote, '--policy', policy);
  assert.match(unknown.message, /policy\.yaml:2: bundels: a policy has no such key; did you mean bundles\?/);
  for (const [flags, message] of [
    [['--now', 'soon'], /2025-07-04T10:00:00Z/],
    [['--now', '-1'], /Unix seconds|argument missing/],
    [['--nonce', 'ab'], /64 hex digits/],
    [['--nonsense'], /unknown option/],
  ] as const) {
    const wrong = await failure('attest', 'verify', quote, '--policy', policy, ...flags);
    assert.deepEqual([wrong.code, wrong.exitCode], ['usage', 2]);
    assert.match(wrong.message, message);
  }
  assert.equal((await failure('attest', 'verify', quote)).code, 'usage');
  await writePolicy(folder, pins);
  assert.equal((await failure('attest', 'verify', 'README.md', '--policy', policy)).code, 'evidence-file');
  assert.equal((await failure('attest', 'verify', 'no-such-file', '--policy', policy)).exitCode, 1);
  const { out } = await cli('attest', 'verify', '--help');
  assert.match(out, /--collateral <file\|folder>[\s\S]*distillock attest verify quote\.bin/);
});
