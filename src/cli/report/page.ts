// report.html: one file, no network, light and dark, readable on a phone and by a screen reader.
// Charts are uPlot's, inlined from its package; each has its numbers in a table as well.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { escapeHtml } from './escape.js';
import { PAGE_SCRIPT } from './page-script.js';
import { PAGE_STYLE } from './page-style.js';
import type { ReportCurves, ReportData, ReportTable } from './report-data.js';

/** The whole page. Every text is escaped; a policy in the page forbids all loading. */
export function renderReport(data: ReportData): string {
  const { script, style } = plotLibrary();
  const charts = data.curves.map(alignSeries);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(data.title)}</title>
<style>${style}\n${PAGE_STYLE}</style>
</head>
<body>
<main>
<h1>${escapeHtml(data.title)}</h1>
${data.simulated ? SIMULATED : ''}
${pairs(data.summary)}
${sentences('In plain words', data.findings ?? [])}
${data.tables.map(table).join('\n')}
${data.curves.map(figure).join('\n')}
${(data.details ?? []).map(table).join('\n')}
${data.config === null ? '' : config(data.config)}
${sentences('What this shows, and what not', data.notes)}
</main>
<script>${script}</script>
<script>const charts = ${JSON.stringify(charts).replaceAll('<', '\\u003c')};\n${PAGE_SCRIPT}</script>
</body>
</html>
`;
}

const SIMULATED = `<p class="simulated" role="note"><strong>SIMULATED enclave.</strong> This run used a separate process in place of
a trusted execution environment. It shows how the parts work together; it does not protect the teacher.</p>`;

function plotLibrary(): { readonly script: string; readonly style: string } {
  const require = createRequire(import.meta.url);
  const read = (name: string): string => readFileSync(require.resolve(`uplot/dist/${name}`), 'utf8');
  return { script: read('uPlot.iife.min.js').replaceAll('</script', '<\\/script'), style: read('uPlot.min.css') };
}

interface AlignedChart {
  readonly names: readonly string[];
  readonly xLabel: string;
  readonly yLabel: string;
  readonly logX: boolean;
  readonly styles: readonly { readonly colour: number; readonly dashed: boolean }[];
  /** How many series at the end are level lines. */
  readonly levels: number;
  /** x, then one list per series; null where a series has no point. */
  readonly data: readonly (readonly (number | null)[])[];
}

function alignSeries({ series, xLabel, yLabel, logX = false, levels = [] }: ReportCurves): AlignedChart {
  const xs = [...new Set(series.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b);
  const columns = series.map(({ points }) => {
    const at = new Map(points);
    return xs.map((x) => at.get(x) ?? null);
  });
  const names = [...series, ...levels].map(({ name }) => name);
  const lines = levels.map(({ y }) => xs.map(() => y));
  // Six colours; whatever comes after them is told apart by dashes.
  const styles = series.map(({ colour, dashed }, i) => ({ colour: (colour ?? i) % 6, dashed: dashed ?? i >= 6 }));
  return { names, xLabel, yLabel, logX, styles, levels: levels.length, data: [xs, ...columns, ...lines] };
}

function figure(curves: ReportCurves, index: number): string {
  const label = `${curves.title}: ${curves.series.map(({ name }) => name).join(', ')} by ${curves.xLabel}; numbers below`;
  const numbers = curves.logX === true ? pointsTable(curves) : endsTable(curves);
  return `<section><h2>${escapeHtml(curves.title)}</h2>
<figure><div class="chart" id="chart-${index}" role="img" aria-label="${escapeHtml(label)}"></div>
<figcaption><details><summary>Numbers</summary>${numbers}</details></figcaption></figure></section>`;
}

function pointsTable(curves: ReportCurves): string {
  const [xs = [], ...columns] = alignSeries({ ...curves, levels: [] }).data;
  const titles = [curves.xLabel, ...curves.series.map(({ name }) => name)];
  const rows = xs.map((x, i) => [x!.toLocaleString('en-US'), ...columns.map((ys) => short(ys[i] ?? undefined))]);
  return grid(
    titles.map((title, i) => ({ title, numeric: i > 0 })),
    rows,
  );
}

function endsTable(curves: ReportCurves): string {
  const ends = curves.series.map(({ name, points }) => {
    const lowest = Math.min(...points.map(([, y]) => y));
    return [name, short(points[0]?.[1]), short(points.at(-1)?.[1]), short(lowest), String(points.length)];
  });
  const columns = ['', 'first', 'last', 'lowest', 'points'].map((title, i) => ({ title, numeric: i > 0 }));
  return grid(columns, ends);
}

function table({ title, caption, columns, rows }: ReportTable): string {
  return `<section><h2>${escapeHtml(title)}</h2><p>${escapeHtml(caption)}</p>${grid(columns, rows)}</section>`;
}

function grid(columns: ReportTable['columns'], rows: readonly (readonly string[])[]): string {
  const classOf = (text: string, i: number): string => {
    const tone = columns[i]?.tones?.[text];
    if (tone !== undefined) return ` class="${tone}"`;
    return columns[i]?.numeric === true ? ' class="number"' : '';
  };
  const cell = (tag: string, text: string, i: number, scope = ''): string =>
    `<${tag}${scope}${classOf(text, i)}>${escapeHtml(text)}</${tag}>`;
  const head = columns.map(({ title }, i) => cell('th', title, i, ' scope="col"')).join('');
  const body = rows.map(
    (row) =>
      `<tr>${row.map((text, i) => (i === 0 ? cell('th', text, i, ' scope="row"') : cell('td', text, i))).join('')}</tr>`,
  );
  // A wide table scrolls inside its own box, which the keyboard can reach.
  return `<div class="scroll" tabindex="0" role="group"><table><thead><tr>${head}</tr></thead><tbody>${body.join('\n')}</tbody></table></div>`;
}

function pairs(entries: ReportData['summary']): string {
  const items = entries.map(([name, value]) => `<div><dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd></div>`);
  return items.length === 0 ? '' : `<dl>${items.join('\n')}</dl>`;
}

function config(settings: Readonly<Record<string, unknown>>): string {
  const lines = Object.entries(settings).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
  return `<section><h2>Configuration</h2><details><summary>All settings</summary><pre>${escapeHtml(lines.join('\n'))}</pre></details></section>`;
}

function sentences(title: string, lines: readonly string[]): string {
  if (lines.length === 0) return '';
  return `<section><h2>${escapeHtml(title)}</h2><ul>${lines.map((line) => `<li>${escapeHtml(line)}</li>`).join('')}</ul></section>`;
}

function short(value: number | undefined): string {
  return value === undefined ? '' : String(Number(value.toPrecision(4)));
}
