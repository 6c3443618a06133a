// Policy rules: each one alone turns acceptance into refusal, by its own code; nothing that a policy lacks is accepted.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { appraise, explain } from '../../src/attest/policy/appraise.js';
import type { AttestationPolicy } from '../../src/attest/policy/policy.js';
import type { PlatformFacts } from '../../src/attest/verified.js';
import {
  BUNDLE,
  FACTS,
  NOW,
  OTHER_32,
  policyOf,
  SECTIONS,
  type Section,
  SGX,
  SIMULATED,
  SNP,
  TDX,
  TPM,
  verified,
} from './facts.js';

const KINDS = ['simulated', 'sgx', 'tdx', 'snp', 'tpm'] as const;
const pem = /-----BEGIN[\s\S]*END CERTIFICATE-----/.exec(readFileSync('examples/policy/tpm.yaml', 'utf8'))![0];
const sections = SECTIONS(`${pem.replaceAll(/^ +/gm, '')}\n`);
const policies = Object.fromEntries(KINDS.map((kind) => [kind, policyOf({ [kind]: sections[kind] })]));
const other = (bytes: number): string => 'ee'.repeat(bytes);

/** Exactly the rule `code` fails, and `appraise` says so. */
function refusedBy(code: string, facts: PlatformFacts, policy: AttestationPolicy, now = NOW): void {
  const rules = explain(verified(facts), policy, now);
  assert.deepEqual(
    rules.filter(({ verdict }) => verdict !== 'pass').map((rule) => rule.code),
    [code],
  );
  assert.throws(() => appraise(verified(facts), policy, now), { kind: 'policy', code });
}

test('each healthy platform is accepted by its policy and refused by every other', () => {
  for (const kind of KINDS) {
    const accepted = appraise(verified(FACTS[kind]), policies[kind]!, NOW);
    assert.equal(accepted.platform, FACTS[kind]);
    assert.ok(explain(verified(FACTS[kind]), policies[kind]!, NOW).every(({ verdict }) => verdict === 'pass'));
    for (const wrong of KINDS.filter((name) => name !== kind))
      refusedBy('evidence-kind', FACTS[wrong], policies[kind]!);
  }
  const all = policyOf(sections);
  for (const kind of KINDS) appraise(verified(FACTS[kind]), all, NOW);
});

test('another bundle, another kind in the claims, and a raw quote are refused', () => {
  for (const kind of KINDS) {
    const policy = policies[kind]!;
    assert.throws(() => appraise(verified(FACTS[kind], { bundleId: OTHER_32 }), policy, NOW), {
      code: 'evidence-bundle',
    });
    assert.throws(() => appraise(verified(FACTS[kind], { kind: 'other' }), policy, NOW), { code: 'evidence-kind' });
    const raw = explain({ claims: null, platform: FACTS[kind] }, policy, NOW);
    const open = raw.filter(({ verdict }) => verdict !== 'pass');
    assert.deepEqual(
      open.map(({ code, verdict, actual }) => [code, verdict, actual]),
      ['report-data', 'evidence-bundle'].map((code) => [code, 'unchecked', 'not checked: raw quote']),
    );
    // @ts-expect-error a raw quote has the wrong type for appraisal
    assert.throws(() => appraise({ claims: null, platform: FACTS[kind] }, policy, NOW), { code: 'report-data' });
  }
});

const dcapChanges: readonly [object, string][] = [
  [{ tcbStatus: 'OutOfDate' }, 'tcb-status'],
  [{ tcbStatus: 'Revoked' }, 'tcb-status'],
  [{ advisories: ['INTEL-SA-00615', 'INTEL-SA-00999'] }, 'advisories'],
  [{ tcbEvaluationDataNumber: 16 }, 'tcb-evaluation'],
  [{ collateralIssued: NOW - 10 * 86_400 - 1 }, 'collateral-age'],
  [{ collateralIssued: NOW + 1 }, 'collateral-age'],
  [{ debug: true }, 'debug'],
];
const CHANGES: Record<(typeof KINDS)[number], readonly [object, string][]> = {
  simulated: [[{ measurement: OTHER_32 }, 'measurement']],
  sgx: [
    [{ mrsigner: OTHER_32 }, 'mrsigner'],
    [{ isvProdId: 4 }, 'isv-prod-id'],
    [{ isvSvn: 3 }, 'isv-svn'],
    [{ attributes: '1500000000000000' }, 'attributes'],
    [{ xfrm: 'e702000000000000' }, 'xfrm'],
    ...dcapChanges,
  ],
  tdx: [
    [{ mrtd: other(48) }, 'mrtd'],
    ...[0, 1, 2, 3].map((at): [object, string] => [
      { rtmrs: TDX.rtmrs.map((value, i) => (i === at ? other(48) : value)) },
      `rtmr${at}`,
    ]),
    [{ tdAttributes: '0000005000000000' }, 'td-attributes'],
    [{ xfam: 'e700000000000000' }, 'xfam'],
    [{ mrConfigId: other(48) }, 'mr-config-id'],
    [{ mrOwner: other(48) }, 'mr-owner'],
    [{ mrOwnerConfig: other(48) }, 'mr-owner-config'],
    [{ mrServiceTd: other(48) }, 'mr-service-td'],
    [{ mrSignerSeam: other(48) }, 'seam-signer'],
    [{ septVeDisable: false }, 'sept-ve-disable'],
    ...dcapChanges,
  ],
  snp: [
    [{ policy: { ...SNP.policy, debug: true } }, 'debug'],
    [{ policy: { ...SNP.policy, migrateMa: true } }, 'migration'],
    [{ policy: { ...SNP.policy, singleSocket: false } }, 'sockets'],
    [{ policy: { ...SNP.policy, abiMinor: 54 } }, 'abi'],
    [{ policy: { ...SNP.policy, abiMajor: 0, abiMinor: 99 } }, 'abi'],
    [{ vmpl: 1 }, 'vmpl'],
    [{ measurement: other(48) }, 'measurement'],
    ...(['bootLoader', 'tee', 'snp', 'microcode'] as const).map((part): [object, string] => [
      { reportedTcb: { ...SNP.reportedTcb, microcode: 255, [part]: SNP.reportedTcb[part] - 1 } },
      'tcb',
    ]),
    [{ reportedTcb: { ...SNP.reportedTcb, fmc: 1 } }, 'tcb'],
    [{ guestSvn: 6 }, 'guest-svn'],
    [{ hostData: OTHER_32 }, 'host-data'],
    [{ idKeyDigest: other(48) }, 'id-key-digest'],
    [{ authorKeyDigest: other(48) }, 'author-key-digest'],
    [{ signedBy: 'VLEK' }, 'signed-by'],
    [{ chipId: other(64) }, 'chip-id'],
  ],
  tpm: [
    [{ softwareTpm: true }, 'software-tpm'],
    [{ endorsementCa: 'CN=Somebody' }, 'endorsement-ca'],
    [{ pcrs: { ...TPM.pcrs, '7': OTHER_32 } }, 'pcr-7'],
    [{ pcrs: { ...TPM.pcrs, '8': OTHER_32 } }, 'pcr-selection'],
  ],
};
for (const kind of KINDS) {
  test(`${kind}: every fact that the policy pins refuses alone`, () => {
    for (const [change, code] of CHANGES[kind]) {
      refusedBy(code, { ...FACTS[kind], ...change } as PlatformFacts, policies[kind]!);
    }
    // No rule is left that no change reaches.
    const reached = new Set(CHANGES[kind].map(([, code]) => code));
    const fixed = new Set(['evidence-kind', 'report-data', 'evidence-bundle', 'smt', 'product', 'pcr-0']);
    for (const { code } of explain(verified(FACTS[kind]), policies[kind]!, NOW)) {
      assert.ok(reached.has(code) || fixed.has(code), code);
    }
  });
}

const changed = (kind: (typeof KINDS)[number], change: Section): AttestationPolicy =>
  policyOf({ [kind]: { ...sections[kind], ...change } });

test('the same evidence under a policy that wants more', () => {
  refusedBy('smt', SNP, changed('snp', { allowSmt: false }));
  refusedBy('isv-svn', SGX, changed('sgx', { minIsvSvn: 5 }));
  refusedBy('tcb-evaluation', TDX, changed('tdx', { minTcbEvaluationDataNumber: 18 }));
  refusedBy('collateral-age', TDX, changed('tdx', { maxCollateralAgeDays: 9 }));
  refusedBy('advisories', SGX, changed('sgx', { advisories: [] }));
  refusedBy('tcb-status', SGX, changed('sgx', { statuses: ['UpToDate'] }));
  const genoa = { Genoa: { bootLoader: 0, tee: 0, snp: 0, microcode: 0 } };
  const rules = explain(verified(SNP), changed('snp', { minTcb: genoa }), NOW);
  assert.deepEqual(
    rules.filter(({ verdict }) => verdict === 'fail').map(({ code }) => code),
    ['product', 'tcb'],
  );
  const missing = { ...TPM, pcrs: { '0': TPM.pcrs[0]! } };
  const tpm = explain(verified(missing), policies.tpm!, NOW).filter(({ verdict }) => verdict === 'fail');
  assert.deepEqual(
    tpm.map(({ code, actual }) => [code, actual]),
    [
      ['pcr-selection', '0'],
      ['pcr-7', 'missing'],
    ],
  );
});

test('SGX by measurement; masks look only at their bits; any accepts', () => {
  const { mrsigner: _, isvProdId: __, minIsvSvn: ___, ...rest } = sections.sgx!;
  const byCode = policyOf({ sgx: { ...rest, mrenclave: [SGX.mrenclave] } });
  appraise(verified({ ...SGX, mrsigner: OTHER_32, isvSvn: 0 }), byCode, NOW);
  refusedBy('mrenclave', { ...SGX, mrenclave: OTHER_32 }, byCode);
  const xfrm = { value: '0700000000000000', mask: '0700000000000000' };
  appraise(verified({ ...SGX, xfrm: 'ff02000000000000' }), changed('sgx', { xfrm }), NOW);
  refusedBy('xfrm', { ...SGX, xfrm: '0300000000000000' }, changed('sgx', { xfrm }));
  appraise(verified({ ...SGX, xfrm: '0000000000000000' }), changed('sgx', { xfrm: 'any' }), NOW);
  // A mask that hides the DEBUG bit does not let a debug enclave in.
  const open = { value: '0000000000000000', mask: '0000000000000000' };
  const debug = { ...SGX, attributes: '0700000000000000', debug: true };
  refusedBy('debug', debug, changed('sgx', { attributes: open }));
  const loose = changed('simulated', { measurements: 'any' });
  appraise(verified({ ...SIMULATED, measurement: OTHER_32 }), loose, NOW);
});

test('a policy made by a program: empty lists refuse, Revoked stays refused, the time must be a time', () => {
  const pins = policies.sgx!.sgx!;
  const revoked = { ...policies.sgx!, sgx: { ...pins, statuses: ['Revoked'] } };
  refusedBy('tcb-status', { ...SGX, tcbStatus: 'Revoked' }, revoked);
  refusedBy('evidence-bundle', SGX, { ...policies.sgx!, bundles: [] });
  refusedBy('evidence-kind', SGX, { bundles: [BUNDLE] });
  refusedBy('mrsigner', SGX, { ...policies.sgx!, sgx: { ...pins, mrsigner: [] } });
  for (const now of [Number.NaN, undefined, 1.5, -1, Number.POSITIVE_INFINITY]) {
    assert.throws(() => appraise(verified(SGX), policies.sgx!, now as number), { kind: 'malformed', code: 'now' });
  }
});

test('a refusal says what was wanted and what was found', () => {
  assert.throws(
    () => appraise(verified({ ...SGX, isvSvn: 3 }), policies.sgx!, NOW),
    (error: Error & { details: object }) => {
      assert.equal(error.message, 'the policy refuses this sgx evidence: ISVSVN: wanted at least 4, got 3');
      assert.deepEqual(error.details, { kind: 'sgx', expected: 'at least 4', actual: '3' });
      return true;
    },
  );
});
