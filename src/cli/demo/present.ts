// How the demo's results are shown: a table on the terminal, a page in the browser. Zone: edge.
import type { Config } from '../../edge/config.js';
import type { Receipt } from '../../trusted/wire/receipt.js';
import type { Comparison } from '../experiment/compare.js';
import type { DemoReport } from '../report/demo-schema.js';
import type { ReportCurves, ReportData } from '../report/report-data.js';
import { renderPairs, renderTable } from '../table.js';
import { formatBytes, formatDuration, formatNumber } from '../terminal.js';

const columns = [
  { title: 'held-out text' },
  { title: 'KL to teacher', numeric: true },
  { title: 'NLL', numeric: true },
  { title: 'agreement', numeric: true },
];

function rowsOf({ teacher, student, frequencyOnly }: DemoReport): string[][] {
  const figure = (x: number): string => x.toFixed(3);
  const share = (x: number): string => `${(x * 100).toFixed(1)} %`;
  const line = (name: string, { kl, nll, agreement }: DemoReport['student']['authorised']): string[] => [
    name,
    figure(kl),
    figure(nll),
    share(agreement),
  ];
  return [
    ['the teacher itself', '', figure(teacher.nll), ''],
    line('student, authorised', student.authorised),
    ['token frequencies only', figure(frequencyOnly.kl), '', ''],
    ['student before training', figure(student.start.kl), '', ''],
    line('student, unauthorised', student.unauthorised),
  ];
}

function pairsOf(report: DemoReport): [string, string][] {
  const { budget, egressBytesAfterUnlock, overheadRatio, seconds, peakRssMb } = report;
  return [
    ['budget', `${formatNumber(budget.charged)} of ${formatNumber(budget.granted)} tokens charged`],
    ['left the device', `${formatNumber(egressBytesAfterUnlock)} bytes after unlock`],
    ['lock and enclave', `${overheadRatio.toFixed(3)} × the time of the unlocked teacher`],
    ['time, memory', `${formatDuration(seconds)}, ${formatNumber(Math.round(peakRssMb))} MB at most`],
  ];
}

const placementColumns = [
  { title: 'placement' },
  { title: 'time', numeric: true },
  { title: 'readable', numeric: true },
  { title: 'crosses a token', numeric: true },
  { title: 'a recorder has' },
];

function placementRows({ placements }: DemoReport): string[][] {
  return placements.map(({ placement, overheadRatio, readableBytes, crossingBytesPerToken, recorder }) => [
    placement,
    `${overheadRatio.toFixed(2)} ×`,
    formatBytes(readableBytes),
    `${formatNumber(crossingBytesPerToken)} B`,
    recorder,
  ]);
}

/** For the terminal. */
export function demoTables(report: DemoReport, colour: boolean): string {
  const placements = renderTable(placementColumns, placementRows(report), colour);
  const students = renderTable(columns, rowsOf(report), colour);
  return `\n${students}\n${placements}\n${renderPairs(pairsOf(report), colour)}`;
}

/** For report.html. */
export function demoPage(
  report: DemoReport,
  comparison: Comparison,
  { story, refusal, teacherKl, receipt }: { story: string; refusal: string; teacherKl: number; receipt: Receipt },
  curves: readonly ReportCurves[],
  config: Config,
): ReportData {
  return {
    title: 'distillock demo',
    simulated: true,
    summary: [
      ['teacher', 'stories260K, locked with scheme rotation, placed by auto: everything in the enclave'],
      ['student', `${formatNumber(comparison.studentParameters)} weights, random at the start`],
      ...pairsOf(report),
    ],
    tables: [
      {
        title: 'With and without a licence',
        caption:
          'The same student, text, steps and seed, twice. KL and NLL in nats per held-out token, agreement as the share of tokens with the same most likely next token.',
        columns,
        rows: rowsOf(report),
      },
      {
        title: 'Where the parts lie, and what it costs',
        caption:
          'The same teacher locked three ways. Time over the unlocked graph in the same run; the simulated enclave runs at native speed, published TEE costs (4 to 8 % for a confidential VM, arXiv 2509.18886) come on top. At 260,032 weights the fixed costs of the enclave weigh more than at any real size.',
        columns: placementColumns,
        rows: placementRows(report),
      },
    ],
    curves,
    config: { ...config },
    notes: [
      `The attacker holds the accelerator placement of the same teacher and an enclave without a licence, which answered "${refusal}". The attacker then fed plain token ids to the locked model and took its answers for token ids. In the enclave placement there is nothing to feed.`,
      `Locked and unlocked teacher agree: KL between them on held-out text is ${teacherKl.toExponential(1)} nats (float16 release included).`,
      `Receipt: bundle ${receipt.bundleId.slice(0, 16)}…, ${receipt.licences.length} licence, signed by the ${receipt.platform} enclave's key.`,
      'What this does not show: with embedding and head in the bundle (accelerator placement) the vocabulary permutation is a substitution cipher, and a recorder of a licensed session can fit a clone by least squares. See the table of adversaries in the README.',
      `A story by the licensed teacher: ${story.trim()} …`,
    ],
  };
}
