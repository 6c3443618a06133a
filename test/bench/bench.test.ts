// The bench frame: schema, medians, fair pairs, verdicts and exit codes.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { listBenches, loadBench } from '../../bench/bench.js';
import { runBenchCommand } from '../../bench/command.js';
import { interleave, median, summarise } from '../../bench/interleave.js';
import { describeMachine } from '../../bench/machine.js';
import { type BenchResult, benchReportSchema, benchResultSchema, meetsBar } from '../../bench/schema.js';
import { captured } from '../cli/captured.js';

const root = mkdtempSync(join(tmpdir(), 'distillock-bench-'));
after(() => rmSync(root, { recursive: true }));

test('the documented report passes the schema, altered ones do not', () => {
  const page = readFileSync(new URL('../../../docs/results/SCHEMA.md', import.meta.url), 'utf8');
  const example = JSON.parse(/```json bench\n([\s\S]*?)```/.exec(page)![1]!);
  assert.deepEqual(benchReportSchema.parse(example), example);
  const [result] = example.results as BenchResult[];
  for (const change of [
    { value: 2 },
    { min: 5 },
    { runs: 0 },
    { better: 'more' },
    { metric: 'No' },
    { bar: undefined },
    { extra: 1 },
  ]) {
    assert.ok(!benchResultSchema.safeParse({ ...result, ...change }).success, JSON.stringify(change));
  }
  assert.ok(benchResultSchema.safeParse({ ...result, metric: 'ratio.rotation.int4.prefill', bar: null }).success);
});

test('medians and summaries', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.throws(() => median([]), RangeError);
  const result = summarise([1.2, 1, 1.1], { metric: 'ratio', unit: 'ratio', better: 'lower', bar: 1.15 });
  assert.deepEqual(result, {
    metric: 'ratio',
    value: 1.1,
    unit: 'ratio',
    better: 'lower',
    median: 1.1,
    min: 1,
    max: 1.2,
    runs: 3,
    bar: 1.15,
  });
  assert.ok(meetsBar(result));
  assert.ok(!meetsBar({ ...result, bar: 1.05 }));
  assert.ok(!meetsBar({ ...result, better: 'higher' }));
  assert.ok(meetsBar({ ...result, better: 'higher', bar: null }));
});

test('pairs take turns, the warm-up does not count, and drift cancels in the ratios', async () => {
  let clock = 0;
  let speed = 1;
  const order: string[] = [];
  const work = (name: string, cost: number) => async () => {
    order.push(name);
    clock += cost * speed;
    if (order.length % 2 === 0) speed *= 2;
  };
  const runs = await interleave(work('a', 512), work('b', 128), { runs: 4, warmup: 2, now: () => clock });
  assert.equal(order.join(''), 'abbaabbaabba');
  assert.deepEqual(runs.ratios, [4, 4, 4, 4]);
  assert.equal(runs.a.length, 4);
  assert.equal(median(runs.ratios), 4);
});

test('the machine is described', () => {
  const machine = describeMachine();
  assert.ok(machine.cores >= 1 && machine.memory_gb > 0 && /^\d+\./.test(machine.onnxruntime));
});

async function call(argv: readonly string[], results: readonly BenchResult[]) {
  const stdout = captured();
  const stderr = captured();
  const asked: number[] = [];
  const code = await runBenchCommand(argv, {
    ...{ stdout, stderr, env: {}, machine: describeMachine, list: async () => ['one', 'two'] },
    load:
      async () =>
      async ({ runs, log }) => {
        asked.push(runs);
        log('working');
        return results;
      },
  });
  return { code, out: stdout.text, err: stderr.text, asked };
}

const good = summarise([0.9, 0.85], { metric: 'sgemm_share', unit: 'share', better: 'higher', bar: 0.8 });
const bad = summarise([1.1], { metric: 'ratio.slow', unit: 'ratio', better: 'lower', bar: 1.03 });

test('a bench prints its table, writes its file, and fails when a bar is missed', async () => {
  const file = join(root, 'deep/out.json');
  const pass = await call(['one', '--json', file, '--runs', '7'], [good]);
  assert.equal(pass.code, 0);
  assert.deepEqual(pass.asked, [7]);
  assert.match(pass.out, /sgemm_share \(share\) +0\.875 +0\.85 +0\.9 +2 +≥ 0\.8 +pass/);
  assert.equal(pass.err, 'working\n');
  const report = benchReportSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  assert.deepEqual(report.results, [good]);
  assert.equal(report.name, 'one');
  const fail = await call(['one'], [good, bad]);
  assert.equal(fail.code, 1);
  assert.match(fail.out, /ratio\.slow \(ratio\) .*≤ 1\.03 +FAIL/);
});

test('usage and defects of a bench', async () => {
  assert.deepEqual((await call([], [])).out, 'one\ntwo\n');
  assert.equal((await call(['one', '--runs', '0'], [good])).code, 2);
  assert.equal((await call(['one', '--nope'], [good])).code, 2);
  const broken = await call(['one'], [{ ...good, value: 1 }]);
  assert.equal(broken.code, 1);
  assert.match(broken.err, /bench-result.*one: results\.0/);
});

test('benches are found by name, and each exports run', async () => {
  for (const name of await listBenches()) assert.equal(typeof (await loadBench(name)), 'function', name);
  await assert.rejects(loadBench('../main'), { code: 'bench-unknown' });
  await assert.rejects(loadBench('main'), { code: 'bench-unknown' });
});
