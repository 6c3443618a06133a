// An audit for people: table and sentences for the terminal, the page with one curve per bundle. Zone: owner.
import { BROKEN, HELD } from '../../audit/measure.js';
import type { AuditReport, AuditRow, ProbeRow } from '../../audit/report.js';
import { decisiveRows } from '../../audit/report-rows.js';
import { controlSentences, sentencesOf, shown, targetName } from '../../audit/sentences.js';
import type { ReportCurves, ReportData } from '../report/report-data.js';
import { renderTable } from '../table.js';
import { formatBytes, formatDuration, formatNumber, paint, type Style } from '../terminal.js';

const COLUMNS = [
  { title: 'attack' },
  { title: 'adversary' },
  { title: 'scheme' },
  { title: 'placement' },
  { title: 'tokens', numeric: true },
  { title: 'advantage', numeric: true },
  { title: 'worst', numeric: true },
  { title: 'agreement', numeric: true },
  { title: 'control', numeric: true },
  { title: 'verdict', tones: { held: 'good', weakened: 'middling', broken: 'bad', inconclusive: 'middling' } },
] as const;

const COLOURS: Readonly<Record<AuditRow['verdict'], NonNullable<Style>>> = {
  held: 'green',
  weakened: 'yellow',
  broken: 'red',
  inconclusive: 'dim',
};

function cells(row: AuditRow): string[] {
  const { half, control } = row;
  return [
    row.attack,
    row.adversary,
    row.scheme,
    row.placement,
    formatNumber(Math.round(row.recordedTokens)),
    half === null ? shown(row.advantage) : `${shown(row.advantage)} ± ${half.toFixed(2)}`,
    shown(row.worst),
    `${(100 * row.agreement).toFixed(1)} %`,
    `${shown(control.advantage)}${control.succeeded ? '' : ' failed'}`,
    row.verdict,
  ];
}

const PROBE_COLUMNS = [
  { title: 'probe' },
  { title: 'adversary' },
  { title: 'scheme' },
  { title: 'placement' },
  { title: 'control' },
  { title: 'verdict', tones: { held: 'good', broken: 'bad', inconclusive: 'middling' } },
  { title: 'what happened' },
] as const;

const PROBE_COLOURS: Readonly<Record<ProbeRow['verdict'], NonNullable<Style>>> = {
  held: 'green',
  broken: 'red',
  inconclusive: 'dim',
  idle: 'dim',
};

function probeCells({ probe, adversary, scheme, placement, control, verdict, detail }: ProbeRow): string[] {
  return [probe, adversary, scheme, placement, control.succeeded ? 'succeeded' : 'failed', verdict, detail];
}

const MEANING = `Advantage: 0 is a black-box student taught with the same released answers, 1 is the bare model. Verdict by the worst seed: held up to ${HELD}, broken from ${BROKEN}; without a control that succeeded, inconclusive.`;

/** For the terminal. */
export function auditText(report: AuditReport, colour: boolean): string {
  const rows = decisiveRows(report.attacks).map((row) => {
    const line = cells(row);
    return [...line.slice(0, -1), paint(colour, COLOURS[row.verdict], line.at(-1)!)];
  });
  const probed = report.probes.map((row) => {
    const line = probeCells(row);
    return [...line.slice(0, -2), paint(colour, PROBE_COLOURS[row.verdict], row.verdict)];
  });
  const sentences = sentencesOf(report.attacks, report.probes).map((sentence) => `• ${sentence}`);
  const attacks = rows.length === 0 ? '' : `${renderTable(COLUMNS, rows, colour)}\n${MEANING}\n\n`;
  const probes = probed.length === 0 ? '' : `${renderTable(PROBE_COLUMNS.slice(0, -1), probed, colour)}\n`;
  return `${attacks}${probes}${sentences.join('\n')}\n`;
}

export function auditPage(report: AuditReport): ReportData {
  const { attacks, model, settings, machine, lines } = report;
  const decisive = decisiveRows(attacks);
  const largest = settings.budgetTokens.at(-1)!;
  const blackBox = lines.blackBox.filter(({ budgetTokens }) => budgetTokens === largest);
  const agreement = blackBox.reduce((sum, line) => sum + line.agreement, 0) / blackBox.length;
  return {
    title: `Audit of ${model.name}`,
    simulated: report.simulated,
    summary: [
      ['Model', `${model.name} (${model.family}, ${model.blocks} blocks, ${model.width} wide)`],
      ['Bundles attacked', formatNumber(new Set(decisive.map(targetName)).size)],
      ['Attacks', formatNumber(settings.attacks.length)],
      ['Released tokens', settings.budgetTokens.map(formatNumber).join(', ')],
      ['Seeds', formatNumber(settings.seeds.length)],
      ['Black-box student agrees on', `${(100 * agreement).toFixed(1)} % of held-out tokens`],
      ['Took', formatDuration(report.seconds)],
      ['Written', `${report.date.slice(0, 10)}, distillock ${report.distillock}`],
    ],
    findings: sentencesOf(attacks, report.probes),
    tables: [
      {
        title: `Attacks with ${formatNumber(largest)} released tokens`,
        caption: MEANING,
        columns: COLUMNS,
        rows: decisive.map(cells),
      },
    ],
    curves: attacks.length === 0 ? [] : [curvesOf(attacks)],
    details: [
      ...(report.probes.length === 0
        ? []
        : [
            {
              title: 'Probes of enclave and protocol',
              caption: 'Each ends in a yes or no; its control is the same code against a deliberately weak enclave.',
              columns: PROBE_COLUMNS,
              rows: report.probes.map(probeCells),
            },
          ]),
      {
        title: 'What it took',
        caption:
          'Mean over the seeds. Recorded bytes are what the attacker keeps; a query is a text passed through the teacher.',
        columns: [
          { title: 'attack' },
          { title: 'scheme' },
          { title: 'placement' },
          { title: 'queries', numeric: true },
          { title: 'kept', numeric: true },
          { title: 'seconds', numeric: true },
          { title: 'KL to teacher', numeric: true },
        ],
        rows: decisive.map((row) => [
          row.attack,
          row.scheme,
          row.placement,
          formatNumber(Math.round(row.queries)),
          formatBytes(row.bytes),
          row.seconds.toFixed(1),
          row.kl.toFixed(3),
        ]),
      },
    ],
    config: { command: report.command, ...settings, machine: { ...machine } },
    notes: [
      'Attacks whose success grows with what is recorded ran with every number of released tokens, all others with the largest alone.',
      ...controlSentences(attacks),
      ...idleSentences(decisive),
      'An attack that failed is no proof: it says what these attacks, with this many tokens and steps, did not achieve.',
      'Side channels of the TEE and physical attacks are outside this audit, and so is what a licensed student may learn.',
    ],
  };
}

function idleSentences(rows: readonly AuditRow[]): string[] {
  const idle = rows.filter((row) => row.idle !== null);
  const reasons = [...new Set(idle.map((row) => row.idle))];
  return reasons.map((reason) => {
    const own = idle.filter((row) => row.idle === reason);
    const names = (of: (row: AuditRow) => string): string => [...new Set(own.map(of))].join(', ');
    return `Nothing to work on for ${names(({ attack }) => attack)} in ${names(targetName)}: ${reason}.`;
  });
}

/** The strongest attack on each bundle at each budget, by its mean over the seeds, of those that ran at every budget. */
function curvesOf(rows: readonly AuditRow[]): ReportCurves {
  const all = rows.filter(({ seed }) => seed === 'mean');
  const least = Math.min(...all.map(({ budgetTokens }) => budgetTokens));
  const everywhere = new Set(all.filter(({ budgetTokens }) => budgetTokens === least).map(({ attack }) => attack));
  const means = all.filter(({ attack }) => everywhere.has(attack));
  const names = [...new Set(means.map(targetName))];
  const budgets = [...new Set(means.map(({ budgetTokens }) => budgetTokens))].sort((a, b) => a - b);
  // A placement has one colour; its second scheme is dashed.
  const placements = [...new Set(means.map(({ placement }) => placement))];
  const schemes = [...new Set(means.map(({ scheme }) => scheme))];
  const styleOf = (name: string): { name: string; colour: number; dashed: boolean } => {
    const { scheme, placement } = means.find((row) => targetName(row) === name)!;
    const dashed = schemes.indexOf(scheme) > 0;
    return { name: dashed ? `${name} (dashed)` : name, colour: placements.indexOf(placement), dashed };
  };
  const series = names.map((name) => ({
    ...styleOf(name),
    points: budgets.flatMap((budget) => {
      const here = means.filter((row) => targetName(row) === name && row.budgetTokens === budget);
      const known = here.flatMap(({ advantage }) => (advantage === null ? [] : [advantage]));
      return known.length === 0 ? [] : [[budget, Math.max(...known)] as const];
    }),
  }));
  return {
    title: `Advantage of the strongest attack by released tokens: ${[...everywhere].join(', ')}`,
    xLabel: 'released tokens, logarithmic',
    yLabel: 'advantage',
    logX: true,
    levels: [
      { name: `broken from ${BROKEN}`, y: BROKEN },
      { name: `held up to ${HELD}`, y: HELD },
    ],
    series,
  };
}
