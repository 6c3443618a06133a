// The same tasks put to a model three ways: its own segments, every choice by itself over the whole vocabulary, and the licensed
// teacher through its enclave, whose top k must say the same and whose bounds must hold.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createTeacherRows, type TeacherRows } from '../../src/edge/cache/rows.js';
import { createConfig } from '../../src/edge/config.js';
import { createBatches } from '../../src/edge/data/batches.js';
import { createExample } from '../../src/edge/data/example.js';
import { chooseTasks } from '../../src/edge/evaluate/choose-tasks.js';
import { encodeChoice } from '../../src/edge/evaluate/encode.js';
import { sumOfChoice } from '../../src/edge/evaluate/likelihood-plan.js';
import { PlainModel } from '../../src/edge/evaluate/plain-model.js';
import { type PreparedChoices, prepareTask } from '../../src/edge/evaluate/prepared-task.js';
import { summarise, textResults } from '../../src/edge/evaluate/results.js';
import { checkBudget, openTeacherScorer, scorePlain } from '../../src/edge/evaluate/score.js';
import { openGate } from '../../src/edge/teacher/gate.js';
import { forward } from '../../src/edge/teacher/pass.js';
import { Evaluator } from '../../src/edge/train/evaluate.js';
import { openStudent, randomStudent } from '../../src/edge/train/student.js';
import { openTokenizer } from '../../src/model/tokenizer.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { charged, openLicensed, storiesFolder } from '../teacher/stories-teacher.js';

async function stories(t: TestContext) {
  const student = await openStudent(storiesFolder, 1);
  const model = await PlainModel.open(student);
  t.after(() => model.close());
  const tokenizer = await openTokenizer(storiesFolder);
  const wording = { tokenizer, template: null, maxTokens: student.config.maxPositionEmbeddings };
  const { tasks } = await chooseTasks(['classification=test/fixtures/evaluation/clinc150.jsonl']);
  const prepared = (await prepareTask(tasks[0]!, wording, 6)) as PreparedChoices;
  return { student, model, tokenizer, wording, prepared };
}

test('shared prefixes give what every choice gives by itself, over the whole vocabulary', async (t) => {
  const { model, wording, prepared } = await stories(t);
  const { accelerator } = model;
  const { vocabSize, hiddenSize } = accelerator.config;
  const answers = await model.likelihoods(prepared.plan.asks);
  for (const [d, { prompt, choices, document }] of prepared.items.entries()) {
    for (const [c, choice] of choices.entries()) {
      const { ids, first } = encodeChoice(wording, prompt, ' ', choice, document.origin);
      const layout = { batch: 1, tokens: ids.length, lengths: [ids.length] };
      const hidden = (await forward(accelerator, openGate, ids, layout)) as Float32Array;
      let expected = 0;
      for (let at = first; at < ids.length; at += 1) {
        const row = hidden.subarray((at - 1) * hiddenSize, at * hiddenSize);
        const all = await accelerator.topK(row, 1, vocabSize, 1);
        expected += all.logprobs[all.ids.indexOf(ids[at]!)]!;
      }
      const { logprob, bounded } = sumOfChoice(prepared.plan.places[d]![c]!, answers);
      assert.ok(Math.abs(logprob - expected) < 1e-3 && bounded === 0, `${choice}: ${logprob}, not ${expected}`);
    }
  }
});

test('the licensed teacher: equal within its top k, an upper bound outside, charged as announced and once', async (t) => {
  const folder = await temporaryFolder(t);
  const { tokenizer, wording, model } = await stories(t);
  const file = join(folder, 'stories.jsonl');
  await writeFile(
    file,
    `${[
      { prompt: 'Once upon a', choices: ['time', 'zebra', 'little girl'], label: 'time' },
      { prompt: 'Lily and Tom went to the', choices: ['park', 'store', 'Xylophone 77'], label: 0 },
      { prompt: 'The dog was very', choices: ['happy', 'sad', 'Q'], label: 0 },
    ]
      .map((line) => JSON.stringify(line))
      .join('\n')}\n`,
  );
  const { tasks } = await chooseTasks([`multiple_choice=${file}`]);
  const prepared = (await prepareTask(tasks[0]!, wording, null)) as PreparedChoices;
  const { teacher, locked } = await openLicensed(t, folder);
  const config = createConfig({
    model_name_or_path: storiesFolder,
    teacher_model_name_or_path: locked.bundleDir,
    dataset: 'unused',
    output_dir: join(folder, 'out'),
    cache_dir: join(folder, 'cache'),
    cache_precision: 'float32',
    loss_top_k: 32,
    // Of the text only: tasks are asked at 1.
    kd_temperature: 2,
  });
  const asked = { text: null, tasks: [prepared] };
  const onSetAside = (): void => assert.fail('nothing is damaged');
  const scorer = await openTeacherScorer(config, teacher, tokenizer, asked, onSetAside);
  assert.equal(scorer.cost.generated, 0);
  const rows = prepared.plan.asks.reduce((sum, { tokens }) => sum + tokens.length, 0);
  assert.equal(scorer.cost.rows, rows);
  const own = await scorePlain(model, prepared, { tokenizer });
  const taught = await scorer.score(prepared, { tokenizer });
  assert.equal(await charged(teacher), rows);
  let [exact, bounded] = [0, 0];
  for (const [d, { prediction, shares }] of taught.entries()) {
    const [released, all] = [prediction, own[d]!.prediction].map(({ logprobs }) => logprobs as number[]);
    for (const [c, outside] of (prediction['bounded'] as number[]).entries()) {
      const difference = released![c]! - all![c]!;
      if (outside === 0) exact += 1;
      else bounded += 1;
      assert.ok(outside === 0 ? Math.abs(difference) < 1e-3 : difference > -1e-3, `${d}/${c}: ${difference}`);
    }
    // The truth, which the plain model knows, lies in what the top k leave open.
    const [least, most] = shares['acc']!.range!;
    const truth = own[d]!.shares['acc']!.sum;
    assert.ok(least <= truth && truth <= most && shares['acc']!.bounded === least < most);
  }
  assert.ok(exact > 0 && bounded > 0, `both happen: ${exact} exact, ${bounded} bounded`);
  assert.deepEqual([summarise(own, 1)['acc']!.bounded, summarise(own, 1)['acc']!.range], [0, null]);

  const again = await openTeacherScorer(config, teacher, tokenizer, asked, onSetAside);
  assert.deepEqual(again.cost, { rows: 0, generated: 0 });
  assert.deepEqual(await again.score(prepared, { tokenizer }), taught);
  assert.equal(await charged(teacher), rows);
});

test('the teacher with its whole vocabulary released chooses exactly as the plain model', async (t) => {
  const folder = await temporaryFolder(t);
  const { tokenizer, prepared, model, student } = await stories(t);
  const { vocabSize } = student.config;
  const { teacher, locked } = await openLicensed(t, folder, { topK: vocabSize });
  const config = createConfig({
    model_name_or_path: storiesFolder,
    teacher_model_name_or_path: locked.bundleDir,
    dataset: 'unused',
    output_dir: join(folder, 'out'),
    cache_dir: join(folder, 'cache'),
    cache_precision: 'float32',
    loss_top_k: vocabSize,
  });
  const scorer = await openTeacherScorer(
    config,
    teacher,
    tokenizer,
    { text: null, tasks: [prepared] },
    () => undefined,
  );
  const [own, taught] = [await scorePlain(model, prepared, { tokenizer }), await scorer.score(prepared, { tokenizer })];
  for (const [d, { prediction }] of taught.entries()) {
    assert.deepEqual(prediction['bounded'], [0, 0, 0, 0, 0]);
    assert.equal(prediction['prediction'], own[d]!.prediction['prediction']);
    for (const [c, logprob] of (prediction['logprobs'] as number[]).entries())
      assert.ok(Math.abs(logprob - (own[d]!.prediction['logprobs'] as number[])[c]!) < 1e-3);
  }
});

test('a budget that is too small is refused with both numbers', () => {
  checkBudget({ rows: 10, generated: 5 }, 15);
  assert.throws(() => checkBudget({ rows: 10, generated: 6 }, 15), {
    code: 'budget-short',
    message: /16 positions \(6 .*15 left/,
  });
});

test('KL, agreement and likelihood of a text are what training measures, at temperature 2 as well', async (t) => {
  const { model: teacher, tokenizer, student: large } = await stories(t);
  const { hiddenSize, vocabSize } = large.config;
  const shape = { ...large.config, hiddenSize: 32, intermediateSize: 48, numHiddenLayers: 1, numAttentionHeads: 4 };
  const student = randomStudent({ ...shape, numKeyValueHeads: 2, headDim: 8 }, 7);
  const texts = ['Once upon a time there was a boy.', 'Lily liked her red ball. She played all day.'];
  const examples = texts.map((text) => {
    const ids = tokenizer.encode(text);
    return createExample(ids, new Uint8Array(ids.length).fill(1, 2));
  });
  const k = 16;
  const rows: TeacherRows[] = [];
  for (const { inputIds } of examples) {
    const layout = { batch: 1, tokens: inputIds.length, lengths: [inputIds.length] };
    const hidden = (await forward(teacher.accelerator, openGate, inputIds, layout)) as Float32Array;
    const top = await teacher.accelerator.topK(hidden.subarray(hiddenSize, -hiddenSize), inputIds.length - 2, k, 2);
    rows.push(createTeacherRows(k, top.ids, top.logprobs));
  }
  const readExample = (i: number): TeacherRows => rows[i]!;
  const maxLength = Math.max(...examples.map(({ inputIds }) => inputIds.length));
  const order = { batchSize: 2, maxLength, packing: false, seed: 1, shuffle: false, padTokenId: 0 };
  const data = { examples, batches: createBatches(examples, order), teacher: { k, source: 'test', readExample } };
  const evaluator = await Evaluator.open(student, data, { temperature: 2, chunkRows: 2 * maxLength });
  t.after(() => evaluator.close());
  const expected = await evaluator.evaluate(student);
  const model = await PlainModel.open(student);
  t.after(() => model.close());
  const sums = await model.compare(examples, readExample, 2);
  const results = summarise(textResults(sums), 1);
  for (const measure of ['kl', 'nll', 'agreement'] as const)
    assert.ok(Math.abs(results[measure]!.value - expected[measure]) < 1e-5, measure);
  assert.equal(
    sums.reduce((sum, { tokens }) => sum + tokens, 0),
    expected.targets,
  );
  assert.ok(expected.kl > 0.5 && vocabSize === 512);
});
