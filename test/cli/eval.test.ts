// `distillock eval` whole: the licensed teacher, itself as a student, and a random baseline on text and tasks; what it costs, what it
// writes, and what it refuses before anything is charged.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../owner/tiny-model.js';
import { cli, failure, json, license, lockStories, STORIES, writeRun } from './command-line.js';

const FIXTURES = resolve('test/fixtures/evaluation');

interface Line {
  readonly task: string;
  readonly measure: string;
  readonly documents: number;
  readonly models: Record<string, { value: number; low: number; high: number; bounded: number; interval: string }>;
}

test('student, teacher and baseline in one table; predictions; charged as announced, once; refusals', async (t) => {
  const folder = await temporaryFolder(t);
  const owned = await lockStories(folder, 'teacher');
  await license(owned, folder, ['--budget', '3_000']);
  const config = await writeRun(folder, owned.bundle, { loss_top_k: 64, cache_precision: 'float32' });
  const left = async (): Promise<number> =>
    (await json('enclave', '--bundle', owned.bundle, ...owned.state)).licence.remainingTokens;
  const task = join(folder, 'stories.yaml');
  const stories = [
    { prompt: 'Once upon a time, there was', completion: 'a little girl named Lily.' },
    { prompt: 'Tom had a big red ball. He', completion: 'liked to play with it.' },
  ];
  await writeFile(join(folder, 'stories.jsonl'), stories.map((line) => `${JSON.stringify(line)}\n`).join(''));
  await writeFile(
    task,
    'output_type: generate_until\ndataset_path: stories.jsonl\ngeneration_kwargs: { until: ["."], max_gen_toks: 24 }\nmetric_list: [{ metric: rougeL }]\n',
  );
  const classification = `classification=${FIXTURES}/clinc150.jsonl`;
  const models = ['--model_name_or_path', STORIES, '--baseline', join(folder, 'student.json')];
  const predictions = join(folder, 'deep', 'predictions.jsonl');
  const before = await left();
  const all = ['eval', config, ...models, '--tasks', `text,${classification},${task}`];
  const first = await cli(...all, '--predictions', predictions, '--json');
  assert.equal(first.code, 0, first.err);
  const result = JSON.parse(first.out);
  const measures = result.measures as Line[];
  const of = (name: string, measure: string): Line['models'] =>
    measures.find((line) => line.task === name && line.measure === measure)!.models;

  assert.deepEqual(
    measures.map((line) => `${line.task} ${line.measure} ${Object.keys(line.models).sort().join()}`),
    [
      'text kl baseline,student',
      'text agreement baseline,student',
      'text nll baseline,student,teacher',
      'text perplexity baseline,student,teacher',
      'classification acc baseline,student,teacher',
      'stories rougeL baseline,student,teacher',
    ],
  );
  for (const { models: cells } of measures)
    for (const { value, low, high } of Object.values(cells)) assert.ok(low <= value && value <= high);
  // The student is the teacher itself; the baseline has random weights.
  const { student, teacher, baseline } = of('text', 'perplexity') as Record<string, Line['models'][string]>;
  assert.ok(of('text', 'kl').student!.value < 1e-3 && of('text', 'agreement').student!.value > 0.999);
  assert.ok(baseline!.value > 5 * student!.value && of('text', 'kl').baseline!.low > 1);
  assert.ok(teacher!.bounded > 0 && teacher!.value <= student!.value, 'what lies outside the top k is a bound');
  assert.ok(teacher!.value > 0.8 * student!.value);
  assert.deepEqual(of('stories', 'rougeL').teacher, of('stories', 'rougeL').student);
  assert.equal(of('classification', 'acc').student!.interval, 'wilson');
  assert.deepEqual([result.kl, result.perplexity], [of('text', 'kl').student!.value, undefined]);

  const announced = /will be charged: ([\d,]+) positions and at most 48 generated tokens of 3,000 left/.exec(first.err);
  assert.ok(announced, first.err);
  const rows = Number(announced[1]!.replaceAll(',', ''));
  assert.ok(result.charged > rows && result.charged <= rows + 48, `${result.charged} after ${rows} + 48`);
  assert.deepEqual([await left(), result.budgetLeft], [before - result.charged, before - result.charged]);

  const lines = (await readFile(predictions, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  const count = (name: string, model: string): number =>
    lines.filter((line) => line.task === name && line.model === model).length;
  for (const model of ['student', 'teacher', 'baseline'])
    assert.deepEqual([count('classification', model), count('stories', model)], [20, 2]);
  assert.ok(count('text', 'student') > 2 && count('text', 'student') === measures[0]!.documents);
  const generated = lines.filter((line) => line.task === 'stories' && line.doc_id === 0);
  const [byTeacher, byStudent] = ['teacher', 'student'].map((m) => generated.find((line) => line.model === m).response);
  assert.equal(byTeacher, byStudent);
  assert.match(byTeacher, /^ a little girl named Lily$/, 'ended before the full stop');
  const accuracy = lines.filter((line) => line.task === 'classification' && line.model === 'student');
  assert.equal(
    accuracy.reduce((sum, line) => sum + (line.prediction === line.target ? 1 : 0), 0) / 20,
    of('classification', 'acc').student!.value,
  );

  // Likelihoods are in the cache now; samples of students alone cost nothing either.
  const samples = `samples=${join(folder, 'stories.jsonl')}`;
  const again = await cli(...all.slice(0, -1), `text,${classification}`);
  assert.match(again.out, /KL to teacher[\s\S]*classification +acc +20 +[\d.]+ % \[[\s\S]*nothing charged, budget/);
  assert.match(again.out, /text, NLL, teacher: in \d+ of \d+ documents tokens outside the released top k/);
  assert.ok(!again.err.includes('will be charged'));
  const shown = await cli(...all.slice(0, -1), samples, '--models', 'student,baseline', '--limit', '1');
  assert.match(
    shown.out,
    /^samples 1: Once upon a time, there was\n {2}student +a little girl[^\n]*\n {2}baseline +\S/,
  );
  assert.match(shown.out, /nothing charged/);
  const gsm8k = `gsm8k=${FIXTURES}/gsm8k.jsonl`;
  const solved = await json(...all.slice(0, -1), gsm8k, '--models', 'student', '--limit', '1');
  assert.deepEqual(
    solved.measures.map((line: Line) => [line.measure, line.documents]),
    [
      ['exact_match,strict-match', 1],
      ['exact_match,flexible-extract', 1],
    ],
  );

  // Refused before anything is charged, and before predictions of an earlier run are replaced.
  const kept = await left();
  const short = await failure(...all.slice(0, -1), gsm8k, '--predictions', predictions);
  assert.equal(short.code, 'budget-short');
  assert.match(short.message, /3072 positions \(3072 of them for generated text, at most\)/);
  assert.equal((await failure(...all.slice(0, -1), 'mmlu')).code, 'task-unknown');
  const broken = join(folder, 'broken.jsonl');
  await writeFile(broken, '{"prompt": "a", "choices": ["x", "y"], "label": "z"}\n');
  const written = ['--predictions', predictions];
  const label = await failure(...all.slice(0, -1), `multiple_choice=${broken}`, ...written);
  assert.equal(label.code, 'task-label');
  assert.match(label.message, /broken\.jsonl:1: field "label" is "z", which is not among the choices "x", "y"/);
  assert.equal((await failure(...all, '--predictions', folder)).code, 'not-a-file');
  assert.equal(await left(), kept);
  assert.equal((await readFile(predictions, 'utf8')).trimEnd().split('\n').length, lines.length, 'left as it was');
});
