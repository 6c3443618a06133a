// Chat templates: where they are found, what they may use, how they refuse.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chatTemplate, openChatTemplate } from '../../src/model/chat-template.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import type { TokenizerFiles } from '../../src/model/checkpoint/tokenizer-files.js';
import { failsWith, smollm2File, storiesFolder, tinyQwen2 } from './fixtures.js';

const json = Buffer.from('{}');

function files(config: object, jinja?: string): TokenizerFiles {
  const base = { 'tokenizer.json': json, 'tokenizer_config.json': Buffer.from(JSON.stringify(config)) };
  return jinja === undefined ? base : { ...base, 'chat_template.jinja': Buffer.from(jinja) };
}

const messages = [{ role: 'user', content: 'hi' }];

test('found in chat_template.jinja, inline, or in a named list', () => {
  assert.equal(openChatTemplate(files({ chat_template: 'inline' }, 'file'))?.render(messages), 'file');
  assert.equal(openChatTemplate(files({ chat_template: 'inline' }))?.render(messages), 'inline');
  const named = {
    chat_template: [
      { name: 'default', template: 'one' },
      { name: 'tool_use', template: 'two' },
    ],
  };
  assert.equal(openChatTemplate(files(named))?.render(messages), 'one');
  assert.equal(openChatTemplate(files(named), 'tool_use')?.render(messages), 'two');
  assert.throws(() => openChatTemplate(files(named), 'rag'), failsWith('template-missing', 'rag', 'default, tool_use'));
  assert.equal(openChatTemplate(files({})), null);
  assert.equal(openChatTemplate({ 'tokenizer.json': json }), null);
});

test('the variables and functions templates count on', () => {
  const config = {
    bos_token: '<s>',
    eos_token: { content: '</s>' },
    chat_template:
      "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m['content'] | trim }}{{ eos_token }}{% endfor %}" +
      "{% if add_generation_prompt %}>{% endif %}{{ tools | tojson }}{{ strftime_now('%Y') | length }}",
  };
  const template = openChatTemplate(files(config))!;
  assert.equal(template.render(messages, { variables: { tools: [1] } }), '<s>[user] hi</s>[1]4');
  assert.equal(
    template.render(messages, { addGenerationPrompt: true, variables: { tools: [] } }),
    '<s>[user] hi</s>>[]4',
  );
});

test('a refusal carries the reason of the template', () => {
  const template = chatTemplate(
    "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}",
  );
  assert.throws(() => template.render(messages), failsWith('template-refused', 'system first'));
  assert.throws(() => chatTemplate('{% for %}'), failsWith('template-invalid'));
});

test('templates come out of GGUF metadata', async () => {
  const checkpoint = await openCheckpoint(tinyQwen2);
  assert.equal(openChatTemplate(checkpoint.tokenizer)?.render(messages), '<|im_start|>user\nhi<|im_end|>\n');
  await checkpoint.tensors.close();
  const stories = await openCheckpoint(storiesFolder);
  assert.equal(openChatTemplate(stories.tokenizer), null);
  await stories.tensors.close();
});

test('SmolLM2: the default system turn', {
  skip: smollm2File() === undefined && 'run tools/fetch-smollm2.sh first',
}, async () => {
  const checkpoint = await openCheckpoint(smollm2File()!);
  assert.equal(
    openChatTemplate(checkpoint.tokenizer)?.render(messages, { addGenerationPrompt: true }),
    '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' +
      '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n',
  );
  await checkpoint.tensors.close();
});
