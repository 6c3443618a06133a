// report.html: self-contained, escaped, says SIMULATED; curves from metrics; the demo's schema.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { demoReportSchema } from '../../src/cli/report/demo-schema.js';
import { renderReport } from '../../src/cli/report/page.js';
import { curvesOf, type ReportData } from '../../src/cli/report/report-data.js';

const nasty = `</script><script>alert("1")</script>'&`;
const data: ReportData = {
  title: `Run ${nasty}`,
  simulated: true,
  summary: [['Tokens', '1,000']],
  tables: [
    {
      title: nasty,
      caption: 'KL in nats',
      columns: [{ title: 'student' }, { title: 'KL', numeric: true }],
      rows: [[nasty, '0.5']],
    },
  ],
  curves: curvesOf({
    [nasty]: [
      { step: 1, loss: 2 },
      { step: 2, loss: 1, eval_kl: 0.5 },
    ],
    other: [{ step: 2, loss: 3 }],
  }),
  config: { dataset: nasty, seed: 1 },
  notes: [nasty],
};

test('the page loads nothing and forbids loading', () => {
  const page = renderReport(data);
  assert.match(page, /Content-Security-Policy" content="default-src 'none'/);
  assert.doesNotMatch(page, /<link|<img|<iframe|@import|url\(|src=/);
  assert.match(page, /<html lang="en">/);
  assert.match(page, /name="viewport"/);
  assert.match(page, /prefers-color-scheme: dark/);
  assert.match(page, /uPlot/);
});

test('no text of the user becomes markup or script', () => {
  const page = renderReport(data);
  assert.equal(page.match(/<script/g)?.length, 2);
  assert.equal(page.match(/<\/script/g)?.length, 2);
  assert.doesNotMatch(page, /alert\("1"\)<\/script/);
  assert.match(page, /Run &lt;\/script&gt;&lt;script&gt;alert\(&quot;1&quot;\)/);
});

test('the scripts of the page are valid, and the charts are in them', () => {
  const scripts = [...renderReport(data).matchAll(/<script>([\s\S]*?)<\/script>/g)].map(([, script]) => script!);
  for (const script of scripts) new Function(script);
  const charts = new Function(`${scripts[1]!.split('\n')[0]} return charts;`)() as {
    names: string[];
    data: unknown[];
  }[];
  assert.deepEqual(charts[0]!.names, [`${nasty}: loss`, 'other: loss']);
  assert.deepEqual(charts[0]!.data, [
    [1, 2],
    [2, 1],
    [null, 3],
  ]);
});

test('a simulated enclave is named at the top, a real one is not', () => {
  assert.match(renderReport(data), /<h1>[^\n]*<\/h1>\n<p class="simulated"[^>]*><strong>SIMULATED/);
  assert.doesNotMatch(renderReport({ ...data, simulated: false }), /SIMULATED/);
});

test('every chart has its numbers in a table', () => {
  const page = renderReport(data);
  assert.equal(page.match(/role="img" aria-label=/g)?.length, data.curves.length);
  assert.equal(page.match(/<summary>Numbers/g)?.length, data.curves.length);
});

test('curves: one chart per quantity that was measured, long ones thinned but never cut', () => {
  const lines = Array.from({ length: 10_001 }, (_, step) => ({ step, loss: step, lr: Number.NaN }));
  const curves = curvesOf({ run: lines.map(({ step, loss }) => ({ step, loss })) });
  assert.deepEqual(
    curves.map(({ title }) => title),
    ['Training loss'],
  );
  const { name, points } = curves[0]!.series[0]!;
  assert.equal(name, 'loss');
  assert.ok(points.length <= 2001);
  assert.deepEqual(points.at(-1), [10_000, 10_000]);
  assert.deepEqual(curvesOf({ run: [] }), []);
});

test('the documented demo report passes the schema, a wrong one does not', () => {
  const page = readFileSync(new URL('../../../docs/results/SCHEMA.md', import.meta.url), 'utf8');
  const example = JSON.parse(/```json demo\n([\s\S]*?)```/.exec(page)![1]!);
  assert.deepEqual(demoReportSchema.parse(example), example);
  assert.ok(demoReportSchema.safeParse({ ...example, later: 1 }).success);
  assert.ok(!demoReportSchema.safeParse({ ...example, seconds: undefined }).success);
  assert.ok(!demoReportSchema.safeParse({ ...example, budget: { granted: 1 } }).success);
  assert.ok(!demoReportSchema.safeParse({ ...example, teacher: { nll: Number.NaN } }).success);
});

test('findings come first, details last, marked cells by their text, and logarithmic curves show every point', () => {
  const points = [10, 100, 1000].map((x) => [x, x / 1000] as const);
  const page = renderReport({
    ...data,
    findings: [`first ${nasty}`],
    tables: [{ ...data.tables[0]!, columns: [{ title: 'verdict', tones: { [nasty]: 'bad' } }, { title: 'KL' }] }],
    curves: [
      {
        title: 'c',
        xLabel: 'x',
        yLabel: 'y',
        logX: true,
        levels: [{ name: 'level', y: 0.5 }],
        series: [{ name: 's', points }],
      },
    ],
    details: [{ ...data.tables[0]!, title: 'details' }],
  });
  assert.ok(
    page.indexOf('first &lt;') < page.indexOf('<table>') && page.indexOf('id="chart-0"') < page.indexOf('>details<'),
  );
  assert.match(page, /<th scope="row" class="bad">&lt;\/script&gt;/);
  assert.match(page, /<th scope="row">1,000<\/th><td class="number">1<\/td>/);
  const script = [...page.matchAll(/<script>([\s\S]*?)<\/script>/g)][1]![1]!;
  const [chart] = new Function(`${script.split('\n')[0]} return charts;`)() as { levels: number; data: unknown }[];
  assert.equal(chart!.levels, 1);
  assert.deepEqual(chart!.data, [
    [10, 100, 1000],
    [0.01, 0.1, 1],
    [0.5, 0.5, 0.5],
  ]);
});
