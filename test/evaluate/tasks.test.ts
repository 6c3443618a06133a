// Task files, documents and prompts: real excerpts, lm-eval's conventions, and every fault named by file, line and field.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { chooseTasks } from '../../src/edge/evaluate/choose-tasks.js';
import { encodeChoice, encodePrompt, type Wording } from '../../src/edge/evaluate/encode.js';
import { readChoiceItems, readGenerationItems } from '../../src/edge/evaluate/items.js';
import { planLikelihoods, sumOfChoice } from '../../src/edge/evaluate/likelihood-plan.js';
import { exactMatch } from '../../src/edge/evaluate/measures/exact-match.js';
import type { Task } from '../../src/edge/evaluate/task.js';
import { readTaskFile } from '../../src/edge/evaluate/task-file.js';
import { openTokenizer, type Tokenizer } from '../../src/model/tokenizer.js';
import { chatml, fakeTokenizer } from '../data/fake-tokenizer.js';
import { temporaryFolder } from '../owner/tiny-model.js';

const FIXTURES = 'test/fixtures/evaluation';
const origin = { file: 'd.jsonl', line: 1 };

async function only(word: string): Promise<Task> {
  return (await chooseTasks([word])).tasks[0]!;
}

test("gsm8k: lm-eval's prompt, and the gold answer matches itself under both filters", async () => {
  const task = await only(`gsm8k=${FIXTURES}/gsm8k.jsonl`);
  const items = await readGenerationItems(task, null);
  assert.equal(items.length, 12);
  assert.match(items[0]!.prompt, /^Question: Natalia sold clips [\s\S]*\nAnswer:$/);
  for (const { target } of items)
    for (const filter of task.filters)
      assert.ok(exactMatch(target!, target!, filter, task.normalisation).matches, target!);
  assert.equal((await readGenerationItems(task, 3)).length, 3);
});

test('classification: all labels of the file are choices, even with --limit', async () => {
  const items = await readChoiceItems(await only(`classification=${FIXTURES}/clinc150.jsonl`), 2);
  assert.equal(items.length, 2);
  assert.deepEqual(items[0]!.choices, ['balance', 'flip_coin', 'timer', 'translate', 'weather']);
  assert.equal(items[0]!.choices[items[0]!.target], 'timer');
});

test('a task file: templates, few-shot examples, filters and options of lm-eval; what is not read is said', async (t) => {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, 'd.jsonl'), '{"q": "Sky?", "options": {"text": ["blue", "red"]}, "key": 0}\n');
  await writeFile(join(folder, 's.jsonl'), '{"q": "Grass?", "options": {"text": ["blue", "green"]}, "key": "green"}\n');
  const file = join(folder, 'colours.yaml');
  await writeFile(
    file,
    `output_type: multiple_choice
dataset_path: d.jsonl
description: "Colours.\\n"
doc_to_text: "Q: {{q}}\\nA:"
doc_to_choice: "{{options.text}}"
doc_to_target: key
num_fewshot: 1
fewshot_path: s.jsonl
metric_list: [{ metric: acc, aggregation: mean, higher_is_better: true }]
metadata: { version: 1.0 }
`,
  );
  const { task, ignored } = await readTaskFile(file);
  assert.deepEqual([task.name, task.metrics, ignored], ['colours', ['acc'], ['metadata']]);
  const [item] = await readChoiceItems(task, null);
  assert.equal(item!.prompt, 'Colours.\nQ: Grass?\nA: green\n\nQ: Sky?\nA:');
  assert.deepEqual([item!.choices, item!.target], [['blue', 'red'], 0]);
  const json = join(folder, 'gen.json');
  const filter = {
    name: 'n',
    filter: [{ function: 'regex', regex_pattern: 'A: (\\-?[0-9]+)' }, { function: 'take_first' }],
  };
  const metric = { metric: 'exact_match', ignore_case: true, regexes_to_ignore: ['(?s).*= '] };
  await writeFile(
    json,
    JSON.stringify({
      task: 'sum',
      output_type: 'generate_until',
      dataset_path: 'x',
      generation_kwargs: { until: '\n', max_gen_toks: 8 },
      filter_list: [filter],
      metric_list: [metric],
    }),
  );
  const sum = (await readTaskFile(json)).task;
  assert.deepEqual([sum.until, sum.maxGenToks, sum.dataset], [['\n'], 8, join(folder, 'x')]);
  assert.ok(exactMatch('A: -3', 'x\n= -3', sum.filters[0]!, sum.normalisation).matches);
});

test('faults of task files name file, line and field', async (t) => {
  const folder = await temporaryFolder(t);
  const refused = async (text: string, message: RegExp): Promise<void> => {
    const file = join(folder, 'bad.yaml');
    await writeFile(file, text);
    await assert.rejects(readTaskFile(file), { code: 'task-file', message });
  };
  await refused('a: [', /bad\.yaml:\d+: not YAML/);
  await refused('- 1', /bad\.yaml:1: a task is a list/);
  await refused('dataset_path: x', /bad\.yaml:1: field "output_type" is missing/);
  await refused('output_type: multiple_choice', /field "dataset_path" is missing/);
  await refused(
    'output_type: multiple_choice\n\ndoc_to_txt: x\ndataset_path: x',
    /bad\.yaml:3: field "doc_to_txt" is not known here; known are task, /,
  );
  await refused('output_type: loglikelihood\ndataset_path: x', /bad\.yaml:1: field "output_type"/);
  await refused(
    'output_type: generate_until\ndataset_path: x\nmetric_list: [{metric: acc}]',
    /bad\.yaml:3: .*acc; generate_until can have exact_match, rougeL/,
  );
  await refused(
    'output_type: generate_until\ndataset_path: x\nmetric_list: [{metric: bleu}]',
    /bad\.yaml:3: field "metric_list"/,
  );
  await refused(
    'output_type: generate_until\ndataset_path: x\ngeneration_kwargs: {do_sample: true}',
    /bad\.yaml:3: .*do_sample evaluation is greedy/,
  );
  await refused(
    'output_type: generate_until\ndataset_path: x\nnum_fewshot: 2',
    /bad\.yaml:3: field "num_fewshot" needs fewshot_path/,
  );
  await refused(
    'output_type: generate_until\ndataset_path: x\nfilter_list: [{name: a, filter: [{function: regex, regex_pattern: "("}]}]',
    /bad\.yaml:3: field "filter_list" has the pattern \(/,
  );
  await refused(
    'output_type: classification\ndataset_path: x\ndoc_to_choice: labels',
    /bad\.yaml:3: field "doc_to_choice" is the list of all labels/,
  );
  await assert.rejects(chooseTasks(['hellaswag']), { code: 'task-unknown', message: /classification=FILE\.jsonl/ });
  await assert.rejects(chooseTasks(['rouge=a', 'rouge=b']), { code: 'task-twice' });
  await assert.rejects(chooseTasks([join(folder, 'none.yaml')]), { code: 'file-missing' });
});

test('faults of documents name file, line and field', async (t) => {
  const folder = await temporaryFolder(t);
  const file = join(folder, 'd.jsonl');
  const refused = async (kind: string, text: string, code: string, message: RegExp): Promise<void> => {
    await writeFile(file, text);
    const task = await only(`${kind}=${file}`);
    const read = task.outputType === 'generate_until' ? readGenerationItems : readChoiceItems;
    await assert.rejects(read(task, null), { code, message });
  };
  const good = '{"prompt": "p", "choices": ["a", "b"], "label": 1}\n';
  await refused('multiple_choice', '\n \n', 'task-empty', /d\.jsonl: the task's data is empty/);
  await refused('multiple_choice', `${good}{`, 'task-data', /d\.jsonl:2: not JSON/);
  await refused('multiple_choice', '[1]', 'task-data', /d\.jsonl:1: is not a JSON object/);
  await refused(
    'multiple_choice',
    `${good}\n{"prompt": "p", "label": 0}`,
    'task-field',
    /d\.jsonl:3: field "choices" is missing; the line has "prompt", "label"/,
  );
  await refused(
    'multiple_choice',
    '{"prompt": 1, "choices": ["a"], "label": 0}',
    'task-field',
    /d\.jsonl:1: field "choices" is not a list of two/,
  );
  await refused(
    'multiple_choice',
    '{"prompt": "p", "choices": ["a", "a"], "label": 0}',
    'task-field',
    /names a choice twice/,
  );
  await refused(
    'multiple_choice',
    good.replace('1', '2'),
    'task-label',
    /d\.jsonl:1: field "label" is 2, which is not among the choices "a", "b"/,
  );
  await refused('multiple_choice', good.replace('1', '"c"'), 'task-label', /field "label" is "c"/);
  await refused('multiple_choice', good.replace('1', '0.5'), 'task-label', /field "label" is 0\.5/);
  await refused('multiple_choice', good.replace('"p"', 'null'), 'task-field', /field "prompt" is not text/);
  await refused('classification', '{"prompt": "p", "label": "a"}', 'task-labels', /two labels and the file has 1/);
  await refused('rouge', '{"prompt": "p"}', 'task-field', /field "completion" is missing/);
  await refused('gsm8k', '{"answer": "#### 1"}', 'task-field', /field "question" is missing/);
  await assert.rejects(readChoiceItems(await only(`classification=${folder}/none.jsonl`), null), {
    code: 'file-missing',
  });
});

test('prompts and choices as tokens: white space, merges, templates, BOS, and what is too long', () => {
  const fake = fakeTokenizer(true);
  const wording = (maxTokens: number, template = false): Wording => {
    return {
      tokenizer: fake as unknown as Tokenizer,
      template: template ? { source: '', ...chatml } : null,
      maxTokens,
    };
  };
  const shown = (wording: Wording, prompt: string, choice: string): string => {
    const { ids, first, cut } = encodeChoice(wording, prompt, ' ', choice, origin);
    return `${fake.text(ids.subarray(0, first))}|${fake.text(ids.subarray(first))}${cut ? ' cut' : ''}`;
  };
  assert.equal(shown(wording(99), 'ab', 'cd'), '<s>ab| cd');
  // The space at the end goes to the choice, where the tokenizer joins it with the letter: "  c" is " " and " c".
  assert.equal(shown(wording(99), 'ab ', 'cd'), '<s>ab|  cd');
  assert.equal(shown(wording(99, true), 'ab', 'cd'), '<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n|cd');
  assert.equal(shown(wording(5), 'abcd', 'ef'), '<s>cd| ef cut');
  assert.equal(shown(wording(99), '', 'a'), '<s>| a');
  const bare = { ...wording(99), tokenizer: fakeTokenizer(false) as unknown as Tokenizer };
  assert.deepEqual([...encodeChoice(bare, '', '', 'ab', origin).ids.subarray(0, 1)], [0]);
  assert.throws(() => encodeChoice(wording(4), 'a', ' ', 'bcdef', origin), {
    code: 'task-too-long',
    message: /^d\.jsonl:1:/,
  });
  assert.throws(() => encodeChoice(wording(99), 'a', '', '', origin), { code: 'task-choice' });
  assert.equal(fake.text(encodePrompt(wording(6), 'abcdefgh', 2, origin).ids), '<s>fgh');
  assert.equal(encodePrompt(wording(16), 'abcdefgh', 2, origin).cut, false);
  assert.throws(() => encodePrompt(wording(6), 'a', 6, origin), { code: 'task-too-long' });
});

test('a plan asks for every prefix once, and finds every token again', async () => {
  const tokenizer = await openTokenizer('assets/stories260k');
  const wording = { tokenizer, template: null, maxTokens: 64 };
  const choices = ['a cat', 'a cap', 'a dog', 'dogs'].map((text) =>
    encodeChoice(wording, 'Tom had', ' ', text, origin),
  );
  const { asks, places } = planLikelihoods([choices]);
  const prefixes = new Set(
    choices.flatMap(({ ids, first }) =>
      [...ids.keys()].filter((t) => t >= first).map((t) => ids.subarray(0, t).join()),
    ),
  );
  const rows = asks.reduce((sum, { tokens }) => sum + tokens.length, 0);
  assert.equal(rows, prefixes.size);
  assert.ok(rows < choices.reduce((sum, { ids, first }) => sum + ids.length - first, 0), 'something is shared');
  // A "model" whose log-probability of a token is its id names the ids of a choice in the sum.
  const answers = asks.map(({ tokens }) =>
    tokens.map((row) => row.map((id) => ({ logprob: id, exact: id % 2 === 0, best: false }))),
  );
  for (const [c, { ids, first }] of choices.entries()) {
    const own = [...ids.subarray(first)];
    const expected = { logprob: own.reduce((a, b) => a + b), bounded: own.filter((id) => id % 2 === 1).length };
    assert.deepEqual(sumOfChoice(places[0]![c]!, answers), expected);
  }
});
