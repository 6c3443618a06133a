// Writes what recorded audits say into two places: the README's protection table and the summary that `distillock advise` reads.
// `npm run check` runs it with --check, which fails where either is stale. Plain JavaScript: it runs before the build.
// Whatever is broken stands there as broken; what nobody measured stands there as an argument.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ADVERSARIES, BEGIN, END, protectionTable } from './protection-table.mjs';

const args = process.argv.slice(2);
const check = args.includes('--check');
const root = args.includes('--root') ? args[args.indexOf('--root') + 1] : fileURLToPath(new URL('..', import.meta.url));
const LEAST_SEEDS = 3;
const SEVERITY = ['held', 'inconclusive', 'weakened', 'broken'];
const faults = [];

/** Recorded audits, by file name. */
function readAudits() {
  const folder = join(root, 'docs', 'results');
  const names = readdirSync(folder).filter((name) => /^audit-.+\.json$/.test(name));
  return names.sort().flatMap((name) => {
    const file = `docs/results/${name}`;
    const report = JSON.parse(readFileSync(join(folder, name), 'utf8'));
    if (report.format !== 'distillock-audit' || report.version !== 1)
      faults.push(`${file}:1: not an audit of version 1; record it again`);
    else if (report.settings.quick || report.settings.seeds.length < LEAST_SEEDS)
      faults.push(`${file}:1: a recorded audit has at least ${LEAST_SEEDS} seeds and is not --quick`);
    else return [{ file, report }];
    return [];
  });
}

const severity = ({ verdict, worst }) => 1e6 * SEVERITY.indexOf(verdict) + Math.max(-1000, worst ?? -1000);

/** Per adversary, scheme, placement and budget: the attack that came out worst for the owner. */
function summarise({ file, report }) {
  const groups = new Map();
  for (const row of report.attacks) {
    if (row.seed !== 'mean') continue;
    const key = [ADVERSARIES.indexOf(row.adversary), row.scheme, row.placement, row.budgetTokens].join('|');
    const before = groups.get(key);
    if (before === undefined || severity(row) > severity(before)) groups.set(key, row);
  }
  const rows = [...groups.values()].map((row) => {
    const { adversary, scheme, placement, budgetTokens, attack, advantage, half, worst, verdict, idle } = row;
    return { adversary, scheme, placement, budgetTokens, attack, advantage, half, worst, verdict, idle: idle !== null };
  });
  const { model, date, settings } = report;
  return { file, model: model.name, date: date.slice(0, 10), seeds: settings.seeds.length, rows };
}

function put(file, text) {
  const path = join(root, file);
  const before = existsSync(path) ? readFileSync(path, 'utf8') : null;
  if (before === text) return;
  if (check) faults.push(`${file}:1: stale against docs/results/audit-*.json; run \`node tools/protection.mjs\``);
  else {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
}

const recorded = readAudits();
const probes = recorded.flatMap(({ report }) => report.probes ?? []);
const summary = { format: 'distillock-audit-summary', version: 1, audits: recorded.map(summarise) };
put('assets/audit/summary.json', `${JSON.stringify(summary, null, 1)}\n`);
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
if (begin < 0 || end < begin) faults.push(`README.md:1: the markers ${BEGIN} and ${END} are missing`);
else
  put(
    'README.md',
    readme.slice(0, begin) + BEGIN + protectionTable(summary.audits, probes, severity) + readme.slice(end),
  );
console.log(`protection table: ${summary.audits.length} recorded audits, ${faults.length} faults`);
for (const fault of faults) console.error(fault);
process.exitCode = faults.length === 0 ? 0 : 1;
