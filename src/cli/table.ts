// Tables for the terminal: aligned columns, a bold heading, no frame, readable when piped.
import { stripVTControlCharacters } from 'node:util';
import { paint } from './terminal.js';

export interface Column {
  readonly title: string;
  /** Numbers are aligned right. */
  readonly numeric?: boolean;
}

/** Lines end in \n; cells may carry colour codes. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[], colour: boolean): string {
  const widths = columns.map(({ title }, i) => Math.max(title.length, ...rows.map((row) => widthOf(row[i] ?? ''))));
  const line = (cells: readonly string[]): string =>
    columns
      .map(({ numeric }, i) => {
        const cell = cells[i] ?? '';
        const gap = ' '.repeat(widths[i]! - widthOf(cell));
        return numeric === true ? gap + cell : cell + gap;
      })
      .join('  ')
      .trimEnd();
  const heading = line(columns.map(({ title }) => title));
  const rule = widths.map((width) => '─'.repeat(width)).join('──');
  return `${[paint(colour, 'bold', heading), paint(colour, 'dim', rule), ...rows.map(line)].join('\n')}\n`;
}

/** `name  value` lines. */
export function renderPairs(pairs: readonly (readonly [name: string, value: string])[], colour: boolean): string {
  const width = Math.max(0, ...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${paint(colour, 'dim', name.padEnd(width))}  ${value}\n`).join('');
}

function widthOf(cell: string): number {
  return [...stripVTControlCharacters(cell)].length;
}
