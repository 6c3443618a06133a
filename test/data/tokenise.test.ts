// Which tokens count in the loss, for every kind of record, and what happens to what is too long.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { DataTemplate } from '../../src/edge/data/chat-spans.js';
import type { Example } from '../../src/edge/data/example.js';
import type { DataRecord } from '../../src/edge/data/record.js';
import { type TokeniseOptions, tokeniseRecords } from '../../src/edge/data/tokenise.js';
import { chatTemplate } from '../../src/model/chat-template.js';
import { chatml, fakeTokenizer } from './fake-tokenizer.js';

const tokenizer = fakeTokenizer(false);
const withBos = fakeTokenizer(true);
const origin = { file: 'd.jsonl', line: 7 };
const plain: TokeniseOptions = {
  maxLength: 1000,
  template: null,
  applyChatTemplate: true,
  completionOnlyLoss: null,
  assistantOnlyLoss: false,
  appendEos: true,
};

const textRecord = (text: string): DataRecord => ({ kind: 'text', text, origin });
const pair = (prompt: string, completion: string): DataRecord => ({
  kind: 'completion',
  prompt,
  rawPrompt: prompt,
  completion,
  origin,
});
const chat = (...turns: readonly (readonly [string, string])[]): DataRecord => ({
  kind: 'messages',
  messages: turns.map(([role, content]) => ({ role, content })),
  origin,
});
const counted = ({ inputIds, lossMask }: Example, t = tokenizer): string =>
  t.text(inputIds.filter((_, i) => lossMask[i] === 1));
const one = (record: DataRecord, options: TokeniseOptions, t = tokenizer): Example => {
  const { examples } = tokeniseRecords([record], t, options);
  assert.equal(examples.length, 1);
  return examples[0]!;
};

test('text: BOS never counts, everything after it and EOS do', () => {
  const example = one(textRecord('ab c'), plain, withBos);
  assert.equal(withBos.text(example.inputIds), '<s>ab c<|im_end|>');
  assert.equal(counted(example, withBos), 'ab c<|im_end|>');
  assert.equal(counted(one(textRecord('ab c'), { ...plain, appendEos: false })), 'b c');
});

test('prompt and completion without a template: only the completion counts, unless told otherwise', () => {
  assert.equal(counted(one(pair('Q: 2+2=', '4'), plain)), '4<|im_end|>');
  assert.equal(
    counted(one(pair('Q:', '4'), { ...plain, completionOnlyLoss: false }, withBos), withBos),
    'Q:4<|im_end|>',
  );
});

test('a token that straddles the boundary counts', () => {
  assert.equal(counted(one(pair('say ', 'yes'), plain)), ' yes<|im_end|>');
});

test('prompt and completion through a chat template: the assistant turn with its end, not the white space after it', () => {
  const example = one(pair('Hi', 'Yo'), { ...plain, template: chatml });
  assert.equal(
    tokenizer.text(example.inputIds),
    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n',
  );
  assert.equal(counted(example), 'Yo<|im_end|>');
});

test('assistant_only_loss marks every assistant turn and nothing else', () => {
  const record = chat(
    ['system', 'S'],
    ['user', 'a'],
    ['assistant', 'One two'],
    ['user', 'b'],
    ['assistant', '\nThree'],
  );
  const example = one(record, { ...plain, template: chatml, assistantOnlyLoss: true });
  // The line break before "Three" merges with the template's own: that token is the assistant's to predict.
  assert.equal(counted(example), 'One two<|im_end|>\n\nThree<|im_end|>');
  const all = one(record, { ...plain, template: chatml });
  assert.equal(counted(all).length, tokenizer.text(all.inputIds).length - '<|im_start|>'.length);
});

test('property: what counts in a conversation is exactly what the assistant said', () => {
  const word = fc.stringMatching(/^[a-z ]{1,8}$/).filter((text) => text.trim() !== '');
  fc.assert(
    fc.property(fc.array(fc.tuple(word, word), { minLength: 1, maxLength: 5 }), (turns) => {
      const record = chat(...turns.flatMap(([u, a]) => [['user', u] as const, ['assistant', a] as const]));
      const example = one(record, { ...plain, template: chatml, assistantOnlyLoss: true });
      assert.equal(counted(example), turns.map(([, a]) => `${a}<|im_end|>`).join(''));
    }),
  );
});

test('a template that rewrites earlier turns is refused', () => {
  const forgetful = { render: (m: readonly { content: string }[]): string => m.at(-1)!.content };
  const record = chat(['user', 'a'], ['assistant', 'b'], ['user', 'c']);
  assert.throws(() => one(record, { ...plain, template: forgetful, assistantOnlyLoss: true }), {
    code: 'template-rewrites-turns',
  });
});

test('property: dividing a long text counts every token but the first exactly once, in order', () => {
  for (const t of [tokenizer, withBos]) {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z]{2,60}$/), fc.integer({ min: 4, max: 20 }), (text, maxLength) => {
        const { examples, report } = tokeniseRecords([textRecord(text)], t, { ...plain, maxLength });
        const whole = t.encode(text).length + 1;
        assert.ok(examples.every(({ inputIds }) => inputIds.length <= maxLength));
        assert.equal(
          examples.map((example) => counted(example, t)).join(''),
          `${t === withBos ? text : text.slice(1)}<|im_end|>`,
        );
        assert.equal(report.targets, whole - 1);
        assert.equal(report.divided, whole > maxLength ? 1 : 0);
      }),
    );
  }
});

test('long completions are cut and counted, prompts that fill the row are dropped and counted', () => {
  const records = [pair('ab', 'c'.repeat(20)), pair('d'.repeat(20), 'e'), pair('f', 'g')];
  const { examples, report } = tokeniseRecords(records, tokenizer, { ...plain, maxLength: 8 });
  assert.deepEqual(
    examples.map(({ inputIds }) => inputIds.length),
    [8, 3],
  );
  assert.equal(report.truncated, 1);
  assert.equal(report.dropped, 1);
  assert.equal(report.records, 3);
});

test('longer than max_length: divided, cut, left out or refused, as it is set, and every token accounted for', () => {
  const records = [textRecord('a'.repeat(30)), pair('ab', 'c'.repeat(20)), textRecord('xyz')];
  const run = (excessLength?: 'auto' | 'truncate' | 'drop' | 'raise') =>
    tokeniseRecords(records, tokenizer, { ...plain, maxLength: 8, ...(excessLength ? { excessLength } : {}) });
  const facts = (outcome: ReturnType<typeof run>): unknown => {
    const { divided, truncated, leftOut, tooLong, longest, lostTokens, dropped } = outcome.report;
    return {
      lengths: outcome.examples.map(({ inputIds }) => inputIds.length),
      divided,
      truncated,
      leftOut,
      tooLong,
      longest,
      lostTokens,
      dropped,
    };
  };
  const always = { tooLong: 2, longest: 31, dropped: 0 };
  const auto = { lengths: [8, 8, 8, 8, 3, 8, 4], divided: 1, truncated: 1, leftOut: 0, lostTokens: 15 };
  assert.deepEqual(facts(run()), { ...always, ...auto });
  assert.deepEqual(facts(run('auto')), { ...always, ...auto });
  assert.deepEqual(facts(run('truncate')), {
    ...always,
    lengths: [8, 8, 4],
    divided: 0,
    truncated: 2,
    leftOut: 0,
    lostTokens: 38,
  });
  assert.deepEqual(facts(run('drop')), {
    ...always,
    lengths: [4],
    divided: 0,
    truncated: 0,
    leftOut: 2,
    lostTokens: 54,
  });
  assert.throws(() => run('raise'), {
    code: 'example-too-long',
    message: /^d\.jsonl:7: has 31 tokens and max_length is 8/,
  });
  assert.throws(
    () => tokeniseRecords(records.slice(0, 1), tokenizer, { ...plain, maxLength: 8, excessLength: 'drop' }),
    {
      code: 'dataset-no-targets',
    },
  );
});

test('a conversation given as prompt and completion: only the completion counts, unless told otherwise', () => {
  const turns = chat(['user', 'a'], ['assistant', 'One'], ['user', 'b'], ['assistant', 'Two']);
  const record = { ...turns, completionFrom: 3 } as DataRecord;
  assert.equal(counted(one(record, { ...plain, template: chatml })), 'Two<|im_end|>');
  assert.equal(counted(one(record, { ...plain, template: chatml, completionOnlyLoss: true })), 'Two<|im_end|>');
  const all = one(record, { ...plain, template: chatml, completionOnlyLoss: false });
  assert.equal(counted(all), counted(one(turns, { ...plain, template: chatml })));
  const silent = { ...chat(['user', 'a'], ['assistant', 'One'], ['user', 'b']), completionFrom: 2 } as DataRecord;
  assert.throws(() => one(silent, { ...plain, template: chatml }), {
    code: 'dataset-mismatch',
    message: /^d\.jsonl:7: /,
  });
});

test('a template that leaves a role out, or refuses one, is an error with file and line', () => {
  const silent = (role: string): DataTemplate => ({
    render: (messages, options) =>
      chatml.render(
        messages.filter((message) => message.role !== role),
        options,
      ),
  });
  const record = chat(['system', 'S'], ['user', 'a'], ['assistant', 'b']);
  for (const assistantOnlyLoss of [false, true]) {
    assert.throws(() => one(record, { ...plain, template: silent('system'), assistantOnlyLoss }), {
      code: 'template-role',
      kind: 'unsupported',
      message: /^d\.jsonl:7: .*does not show message 1, of role "system"/,
      details: { role: 'system', file: 'd.jsonl', line: 7 },
    });
  }
  assert.throws(() => one(pair('Hi', 'Yo'), { ...plain, template: silent('user') }), { code: 'template-role' });
  // A role may be shown at the beginning and not later on.
  const late = chat(['user', 'a'], ['system', 'S'], ['assistant', 'b']);
  const onlyFirst: DataTemplate = {
    render: (messages, options) =>
      chatml.render(
        messages.filter(({ role }, i) => role !== 'system' || i === 0),
        options,
      ),
  };
  const both = { ...plain, template: onlyFirst };
  assert.throws(() => tokeniseRecords([record, late], tokenizer, both), {
    code: 'template-role',
    message: /message 2/,
  });
  assert.equal(tokeniseRecords([record], tokenizer, both).examples.length, 1);
  const gemma = chatTemplate(
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
  );
  assert.throws(() => one(record, { ...plain, template: gemma }), {
    code: 'template-refused',
    message: /^d\.jsonl:7: .*no system role/,
  });
});

test('loss options that do not fit the data are errors with file and line, never ignored', () => {
  const cases: readonly (readonly [DataRecord, Partial<TokeniseOptions>])[] = [
    [textRecord('abc'), { completionOnlyLoss: true }],
    [textRecord('abc'), { assistantOnlyLoss: true }],
    [chat(['user', 'a']), {}],
    [chat(['user', 'a']), { template: chatml, applyChatTemplate: false }],
    [chat(['user', 'a']), { template: chatml, assistantOnlyLoss: true }],
    [chat(['user', 'a'], ['assistant', 'b']), { template: chatml, completionOnlyLoss: true }],
  ];
  for (const [record, options] of cases) {
    assert.throws(() => tokeniseRecords([record], tokenizer, { ...plain, ...options }), {
      code: 'dataset-mismatch',
      message: /^d\.jsonl:7: /,
    });
  }
  assert.throws(() => tokeniseRecords([pair('abcdefgh', 'x')], tokenizer, { ...plain, maxLength: 4 }), {
    code: 'dataset-no-targets',
  });
});
