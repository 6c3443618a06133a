// Tables, numbers, colour and progress as they appear on the terminal.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createProgress } from '../../src/cli/progress.js';
import { renderPairs, renderTable } from '../../src/cli/table.js';
import { formatBytes, formatDuration, formatNumber, paint, wantsColour } from '../../src/cli/terminal.js';
import { captured } from './captured.js';

test('tables align, also with colour in the cells', () => {
  const columns = [{ title: 'name' }, { title: 'KL', numeric: true }];
  const plain = renderTable(
    columns,
    [
      ['student', '1.5'],
      ['é', '10.25'],
    ],
    false,
  );
  assert.equal(plain, 'name        KL\n──────────────\nstudent    1.5\né        10.25\n');
  const green = renderTable(columns, [['student', paint(true, 'green', '1.5')]], true);
  assert.ok(green.includes('student  \u001b[32m1.5\u001b[39m\n'));
  assert.equal(renderTable(columns, [], false), 'name  KL\n────────\n');
  assert.equal(
    renderPairs(
      [
        ['a', '1'],
        ['long', '2'],
      ],
      false,
    ),
    'a     1\nlong  2\n',
  );
});

test('numbers, durations and sizes', () => {
  assert.deepEqual([0, 7, 12345.6, 0.12345, 1e-5, 123456789, Number.NaN].map(formatNumber), [
    '0',
    '7',
    '12,346',
    '0.1235',
    '1.00e-5',
    '123,456,789',
    'NaN',
  ]);
  assert.deepEqual([5, 65, 3700, -1].map(formatDuration), ['0:05', '1:05', '1:01:40', '0:00']);
  assert.deepEqual([0, 512, 1536, 3 * 2 ** 30].map(formatBytes), ['0 B', '512 B', '1.5 KiB', '3.0 GiB']);
});

test('NO_COLOR wins, then FORCE_COLOR, then whether it is a terminal', () => {
  const terminal = captured(true);
  assert.equal(wantsColour(terminal, {}), true);
  assert.equal(wantsColour(terminal, { NO_COLOR: '1' }), false);
  assert.equal(wantsColour(terminal, { NO_COLOR: '', TERM: 'dumb' }), false);
  assert.equal(wantsColour(captured(), {}), false);
  assert.equal(wantsColour(captured(), { FORCE_COLOR: '1' }), true);
  assert.equal(wantsColour(captured(), { FORCE_COLOR: '1', NO_COLOR: '1' }), false);
});

test('progress lines: at most one in five seconds, with rate from the first update and the last state at the end', () => {
  const stream = captured();
  let now = 0;
  const progress = createProgress('train', stream, { now: () => now });
  progress.update({ tokens: 1000, totalTokens: 11000 });
  for (now = 1000; now < 10_000; now += 1000)
    progress.update({ tokens: 1000 + now, totalTokens: 11_000, loss: 2.5, budgetLeft: 90_000 });
  progress.note('saved');
  progress.stop();
  progress.stop();
  assert.deepEqual(stream.text.trimEnd().split('\n'), [
    'train: 1,000 of 11,000 tokens',
    'train: 6,000 of 11,000 tokens, 1,000 tokens/s, loss 2.500, 0:05 left, budget 90,000 left',
    'saved',
    'train: 10,000 of 11,000 tokens, 1,000 tokens/s, loss 2.500, 0:01 left, budget 90,000 left',
  ]);
});

test('a bar on a terminal: nothing when there was nothing to show, nothing after its end', () => {
  const stream = captured(true);
  createProgress('train', stream).stop();
  assert.equal(stream.text, '');
  const progress = createProgress('lock', stream);
  progress.update({ tokens: 3, totalTokens: 9, unit: 'MB' });
  progress.note('a note just before the end');
  progress.stop();
  assert.match(stream.text, /a note just before the end\n/);
  assert.match(stream.text, /lock ━+─+ +33 % 3 of 9 MB/);
  const before = stream.text;
  progress.update({ tokens: 4, totalTokens: 9 });
  progress.stop();
  assert.equal(stream.text, before);
});
