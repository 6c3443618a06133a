// Which status a platform gets: merging, level matching, TDX modules, relaunch. Expectations are those of Intel's quote verification
// library (the tables of its unit tests for checkTcbLevel), worked through whole signed quotes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDcapQuote } from '../../src/attest/dcap/quote.js';
import { matchPlatform, parseTcbInfo } from '../../src/attest/dcap/tcb-info.js';
import {
  adviseRelaunch,
  ENCLAVE_STATUSES,
  mergeStatus,
  PLATFORM_STATUSES,
  type PlatformStatus,
} from '../../src/attest/dcap/tcb-status.js';
import { verifyDcapQuote } from '../../src/attest/dcap/verify-dcap.js';
import type { TdxFacts } from '../../src/attest/verified.js';
import { type Level, NOW, type PlatformOptions, zeros } from './intel-pki.js';
import { makePlatform } from './synthetic-quote.js';

test('every pair of platform and enclave status', () => {
  const outdated: Record<PlatformStatus, string> = {
    UpToDate: 'OutOfDate',
    SWHardeningNeeded: 'OutOfDate',
    ConfigurationNeeded: 'OutOfDateConfigurationNeeded',
    ConfigurationAndSWHardeningNeeded: 'OutOfDateConfigurationNeeded',
    OutOfDate: 'OutOfDate',
    OutOfDateConfigurationNeeded: 'OutOfDateConfigurationNeeded',
    Revoked: 'Revoked',
  };
  assert.equal(PLATFORM_STATUSES.length * ENCLAVE_STATUSES.length, 21);
  for (const platform of PLATFORM_STATUSES) {
    assert.equal(mergeStatus(platform, 'UpToDate'), platform);
    assert.equal(mergeStatus(platform, 'OutOfDate'), outdated[platform]);
    assert.equal(mergeStatus(platform, 'Revoked'), 'Revoked');
  }
});

test('relaunch is advised for exactly the statuses that it would cure', () => {
  for (const sgx of PLATFORM_STATUSES)
    for (const tdx of PLATFORM_STATUSES)
      for (const module of ENCLAVE_STATUSES)
        for (const qe of ENCLAVE_STATUSES)
          for (const latest of [true, false]) {
            const advised = adviseRelaunch({ sgx, tdx, module, qe, currentModuleIsLatest: () => latest });
            const cures =
              latest &&
              qe === 'UpToDate' &&
              module === 'OutOfDate' &&
              ['UpToDate', 'SWHardeningNeeded', 'ConfigurationNeeded', 'ConfigurationAndSWHardeningNeeded'].includes(
                sgx,
              ) &&
              ['OutOfDate', 'OutOfDateConfigurationNeeded'].includes(tdx);
            const configuration =
              ['ConfigurationNeeded', 'ConfigurationAndSWHardeningNeeded'].includes(sgx) ||
              tdx === 'OutOfDateConfigurationNeeded';
            const expected = configuration ? 'TDRelaunchAdvisedConfigurationNeeded' : 'TDRelaunchAdvised';
            assert.equal(advised, cures ? expected : tdx, `${sgx} ${tdx} ${module} ${qe} ${latest}`);
          }
});

async function statusOf(options: PlatformOptions): Promise<TdxFacts> {
  const { quote, collateral, root } = await makePlatform(options);
  return verifyDcapQuote(parseDcapQuote(quote), { now: NOW, collateral, root }).platform as TdxFacts;
}

const at = (svn: number): number[] => new Array<number>(16).fill(svn);
const td = (svn: number): number[] => [svn, 1, ...new Array<number>(14).fill(svn)];
const LATEST = 6;
const EARLIEST = 5;

interface Row {
  /** Of the latest and the earliest platform level. */
  readonly platform: readonly [PlatformStatus, PlatformStatus];
  /** Of the module's latest and earliest level. */
  readonly module: readonly [string, string];
  readonly pck: number;
  /** The module that launched the TD, and the one running now. */
  readonly quote: readonly [number, number];
  readonly qe?: string;
  readonly expected: string;
}

const UTD = 'UpToDate';
const OOD = 'OutOfDate';
const RKD = 'Revoked';
const SHN = 'SWHardeningNeeded';
const CN = 'ConfigurationNeeded';
const CNSHN = 'ConfigurationAndSWHardeningNeeded';
const OODCN = 'OutOfDateConfigurationNeeded';
const REVOKED = 'tcb-revoked';
const [L, E] = [LATEST, EARLIEST];
const RELAUNCH = 'TDRelaunchAdvised';
const RELAUNCH_CN = 'TDRelaunchAdvisedConfigurationNeeded';

const rows: readonly Row[] = [
  { platform: [UTD, OOD], module: [UTD, OOD], pck: L, quote: [L, L], expected: UTD },
  // A revoked level below does not matter.
  { platform: [UTD, RKD], module: [UTD, RKD], pck: L, quote: [L, L], expected: UTD },
  { platform: [RKD, OOD], module: [UTD, OOD], pck: L, quote: [L, L], expected: REVOKED },
  { platform: [UTD, OOD], module: [RKD, OOD], pck: L, quote: [L, L], expected: REVOKED },
  { platform: [UTD, OOD], module: [UTD, OOD], pck: L, quote: [L, L], qe: RKD, expected: REVOKED },
  { platform: [UTD, OOD], module: [UTD, OOD], pck: E, quote: [E, E], expected: OOD },
  { platform: [UTD, OOD], module: [UTD, OOD], pck: E, quote: [L, L], expected: OOD },
  // The SGX level is revoked, the level that the TDX components reach is an older one.
  { platform: [RKD, OOD], module: [OOD, OOD], pck: L, quote: [E, L], expected: OOD },
  { platform: [OOD, OOD], module: [UTD, OOD], pck: L, quote: [L, L], expected: OOD },
  { platform: [UTD, OOD], module: [UTD, OOD], pck: L, quote: [L, L], qe: OOD, expected: OOD },
  { platform: [CN, OOD], module: [UTD, OOD], pck: L, quote: [L, L], qe: OOD, expected: OODCN },
  { platform: [SHN, OOD], module: [UTD, OOD], pck: L, quote: [L, L], expected: SHN },
  { platform: [UTD, SHN], module: [UTD, OOD], pck: E, quote: [L, L], expected: SHN },
  { platform: [CNSHN, OOD], module: [UTD, OOD], pck: L, quote: [L, L], expected: CNSHN },
  { platform: [UTD, CNSHN], module: [UTD, OOD], pck: E, quote: [L, L], expected: CNSHN },
  { platform: [UTD, OOD], module: [OOD, OOD], pck: L, quote: [E, L], expected: RELAUNCH },
  { platform: [SHN, OOD], module: [OOD, OOD], pck: L, quote: [E, L], expected: RELAUNCH },
  { platform: [UTD, OODCN], module: [OOD, OOD], pck: L, quote: [E, L], expected: RELAUNCH_CN },
  { platform: [CN, OOD], module: [OOD, OOD], pck: L, quote: [E, L], expected: RELAUNCH_CN },
  // No advice where the module running now is old too, or the quoting enclave is.
  { platform: [UTD, OOD], module: [OOD, OOD], pck: L, quote: [E, E], expected: OOD },
  { platform: [UTD, OOD], module: [OOD, OOD], pck: L, quote: [E, L], qe: OOD, expected: OOD },
  { platform: [UTD, CN], module: [OOD, OOD], pck: E, quote: [E, E], expected: OODCN },
];

for (const row of rows) {
  const { platform, module, pck, quote, qe = UTD, expected } = row;
  test(`TD 1.5: platform ${platform.join('/')}, module ${module.join('/')}, PCK ${pck}, TD ${quote.join('/')}, QE ${qe} → ${expected}`, async () => {
    const level = (svn: number, status: string): Level => ({ sgx: at(svn), tdx: [0, 0, ...at(svn).slice(2)], status });
    const outcome = statusOf({
      kind: 'td15',
      levels: [level(L, platform[0]), level(E, platform[1])],
      moduleLevels: [
        { isvSvn: L, status: module[0] },
        { isvSvn: E, status: module[1] },
      ],
      qeLevels: [{ isvSvn: 8, status: qe }],
      pck: { components: at(pck) },
      tcbSvn: td(quote[0]),
      tcbSvn2: td(quote[1]),
    });
    if (expected === REVOKED) await assert.rejects(outcome, { code: REVOKED });
    else assert.equal((await outcome).tcbStatus, expected);
  });
}

test('a TD report 1.0 never gets the advice: it does not say which module runs now', async () => {
  const levels = [{ sgx: at(L), tdx: [0, 0, ...at(L).slice(2)], status: UTD }, { status: OOD }];
  const moduleLevels = [
    { isvSvn: L, status: OOD },
    { isvSvn: E, status: OOD },
  ];
  const same: PlatformOptions = { levels, moduleLevels, pck: { components: at(L) }, tcbSvn: td(E) };
  assert.equal((await statusOf({ ...same, kind: 'td10' })).tcbStatus, OOD);
  assert.equal((await statusOf({ ...same, kind: 'td15', tcbSvn2: td(L) })).tcbStatus, RELAUNCH);
  // The module running now has no major version: compared with the platform's own components 0 and 2.
  const older = { ...same, kind: 'td15', tcbSvn2: [L, 0, L, ...zeros(13)] } as const;
  assert.equal((await statusOf(older)).tcbStatus, RELAUNCH);
  assert.equal((await statusOf({ ...older, tcbSvn2: [L, 0, E, ...zeros(13)] })).tcbStatus, OOD);
  await assert.rejects(statusOf({ ...older, tcbSvn2: [L, 9, L, ...zeros(13)] }), { code: 'tdx-module' });
});

test('a module below every level, and a quoting enclave of no level, are refused', async () => {
  await assert.rejects(statusOf({ kind: 'td10', tcbSvn: td(4) }), { code: 'tcb-level' });
  await assert.rejects(statusOf({ kind: 'td10', moduleLevels: [] }), { code: 'tcb-level' });
  await assert.rejects(statusOf({ kind: 'td10', qeLevels: [] }), { code: 'tcb-level' });
});

test('advisories come from every level that matched, sorted, each once', async () => {
  const facts = await statusOf({
    kind: 'td10',
    levels: [
      { sgx: at(6), status: UTD, advisories: ['INTEL-SA-00009'] },
      { sgx: at(5), tdx: [0, 0, ...at(6).slice(2)], status: SHN, advisories: ['INTEL-SA-00003', 'INTEL-SA-00001'] },
      { status: OOD, advisories: ['INTEL-SA-00002', 'INTEL-SA-00001'] },
    ],
    moduleLevels: [{ isvSvn: 5, status: UTD, advisories: ['INTEL-SA-00004'] }],
    qeLevels: [{ isvSvn: 8, status: UTD, advisories: ['INTEL-SA-00001', 'INTEL-SA-00005'] }],
    tcbSvn: td(5),
  });
  assert.equal(facts.tcbStatus, OOD);
  const numbers = facts.advisories.map((id) => Number(id.slice(-1)));
  assert.deepEqual(numbers, [1, 2, 3, 4, 5]);
});

test('levels: the first whose every component and PCE are reached', async () => {
  const { collateral } = await makePlatform({
    kind: 'td10',
    levels: [
      { sgx: [9, ...zeros(15)], pceSvn: 11, status: UTD },
      { sgx: [5, ...zeros(14), 5], tdx: [4, 2, 4, ...zeros(13)], pceSvn: 10, status: SHN },
      { sgx: [5, ...zeros(15)], tdx: [0, 0, 4, ...zeros(12), 9], pceSvn: 10, status: CN },
      { pceSvn: 3, status: OOD },
    ],
  });
  const info = parseTcbInfo(collateral.tcb_info);
  const match = (components: number[], pceSvn: number, tdSvn: number[] | null): string => {
    const tcbSvn = tdSvn === null ? null : Uint8Array.from(tdSvn);
    const { sgx, matched } = matchPlatform(info, { components, pceSvn, pceId: '', fmspc: '' }, tcbSvn);
    return `${sgx.status} ${matched.status}`;
  };
  assert.equal(match(at(9), 11, null), `${UTD} ${UTD}`);
  assert.equal(match(at(9), 10, null), `${SHN} ${SHN}`);
  assert.equal(match([9, ...zeros(15)], 10, null), `${CN} ${CN}`);
  assert.equal(match([4, ...at(99).slice(1)], 10, null), `${OOD} ${OOD}`);
  assert.throws(() => match(at(99), 2, null), { code: 'tcb-level' });
  // Without a major version all 16 TDX components count, with one only those from index 2.
  assert.equal(match(at(5), 10, [4, 0, 4, ...zeros(13)]), `${SHN} ${OOD}`);
  assert.equal(match(at(5), 10, [0, 1, 4, ...zeros(13)]), `${SHN} ${SHN}`);
  assert.equal(match(at(5), 10, [9, 1, 3, ...at(99).slice(3)]), `${SHN} ${OOD}`);
});
