// The whole way with adapters: settings → teacher's answers → PEFT folder → trained on from there, fused and generated from by the command line.
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { runProgram } from '../../src/cli/program.js';
import { VERBS } from '../../src/cli/verbs/table.js';
import { type Config, createConfig } from '../../src/edge/config.js';
import { distillFrom, openStudentFor, openTrainee, type TeacherSource } from '../../src/edge/distill.js';
import { readMetrics } from '../../src/edge/metrics.js';
import { prepareData } from '../../src/edge/prepare.js';
import { openGate } from '../../src/edge/teacher/gate.js';
import { openUnlockedModel } from '../../src/edge/teacher/unlocked-model.js';
import { openStudent, saveStudent } from '../../src/edge/train/student.js';
import { readTokenizerFiles } from '../../src/model/checkpoint/tokenizer-files.js';
import { captured } from '../cli/captured.js';
import { failsWith } from '../model/fixtures.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { storiesFolder } from '../teacher/stories-teacher.js';
import { writeStudentShape } from './tiny-job.js';

async function setUp(t: TestContext): Promise<{ folder: string; base: string; config: Config; shape: string }> {
  const folder = await temporaryFolder(t);
  const shape = await writeStudentShape(join(folder, 'shape'), { initializer_range: 0.15 });
  const base = join(folder, 'base');
  await saveStudent(base, await openStudent(shape, 3), await readTokenizerFiles(storiesFolder));
  const config = createConfig({
    model_name_or_path: base,
    teacher_model_name_or_path: storiesFolder,
    dataset: 'assets/text/train.txt',
    output_dir: join(folder, 'out'),
    cache_dir: join(folder, 'cache'),
    max_samples: 8,
    validation_split: 0.2,
    max_length: 64,
    loss_top_k: 8,
    max_steps: 10,
    learning_rate: 1e-2,
    per_device_train_batch_size: 2,
    logging_steps: 1,
    use_peft: true,
    lora_r: 4,
    lora_alpha: 8,
  });
  return { folder, base, config, shape };
}

async function source(t: TestContext): Promise<TeacherSource> {
  const teacher = await openUnlockedModel(storiesFolder);
  t.after(() => teacher.close());
  return {
    accelerator: async () => teacher.accelerator,
    unload: async () => undefined,
    gate: openGate,
    cacheId: 'stories',
    vocabSize: teacher.config.vocabSize,
    batchTokens: 512,
  };
}

async function run(line: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const stdout = captured();
  const stderr = captured();
  const code = await runProgram(line, { version: '0', verbs: VERBS, stdout, stderr, env: {}, exit: () => {} });
  return { code, out: stdout.text, err: stderr.text };
}

test('adapters learn from the teacher, are trained on, fused and generated from', async (t) => {
  const { folder, base, config } = await setUp(t);
  const data = await prepareData(config, storiesFolder);
  const weights = await readFile(join(base, 'model.safetensors'));
  const { training, student } = await distillFrom(config, await source(t), data, await openTrainee(config, data));
  assert.equal(training!.steps, 10);
  assert.ok(student.trained < student.parameters / 2, `${student.trained} of ${student.parameters}`);
  const losses = (await readMetrics(join(config.output_dir, 'metrics.jsonl'))).flatMap(({ loss }) => loss ?? []);
  assert.ok(losses.at(-1)! < losses[0]! - 0.05, losses.join(' → '));
  assert.deepEqual(await readFile(join(base, 'model.safetensors')), weights);
  const written = JSON.parse(await readFile(join(config.output_dir, 'adapter_config.json'), 'utf8'));
  assert.equal(written.base_model_name_or_path, base);

  // Trained on from the folder: starts where the first run ended, with its rank, and the held-out KL falls further.
  const { use_peft: _, lora_r: __, lora_alpha: ___, ...rest } = config;
  const next = createConfig({ ...rest, adapter_name_or_path: config.output_dir, output_dir: join(folder, 'next') });
  const trainee = await openTrainee(next, data);
  assert.deepEqual(trainee.parameters, (await openStudent(config.output_dir, 0)).parameters);
  const second = await distillFrom(next, await source(t), data, trainee);
  assert.ok(second.training!.final!.kl < training!.final!.kl);
  const evaluated = await openStudentFor(next, data);
  assert.equal(evaluated.lora!.r, 4);

  const fused = join(folder, 'fused');
  const made = await run(['fuse', '--adapter', config.output_dir, '--out', fused, '--json']);
  assert.equal(made.code, 0, made.err);
  assert.equal(JSON.parse(made.out).student, fused);
  const again = await run(['fuse', '--adapter', config.output_dir, '--out', fused]);
  assert.ok(again.code !== 0 && again.err.includes('already holds a model'), again.err);
  const text: string[] = [];
  const models = [
    ['--model', fused],
    ['--model', config.output_dir],
    ['--model', base, '--adapter', config.output_dir],
  ];
  for (const model of models) {
    const said = await run(['generate', ...model, '--prompt', 'Once upon a time', '--max_new_tokens', '8', '--json']);
    assert.equal(said.code, 0, said.err);
    text.push(JSON.parse(said.out).text);
  }
  assert.equal(new Set(text).size, 1, text.join(' | '));
  const missing = await run(['generate', '--model', base, '--adapter', base, '--prompt', 'x']);
  assert.ok(missing.code !== 0 && missing.err.includes('holds no adapter_config.json'), missing.err);
});

test('what cannot be adapted is refused before anything is captured', async (t) => {
  const { folder, config, shape } = await setUp(t);
  const data = await prepareData(config, storiesFolder);
  const refused = (changes: Partial<Config>, code: string, ...words: string[]): Promise<void> =>
    assert.rejects(openTrainee({ ...config, ...changes }, data), failsWith(code, ...words));
  await refused({ model_name_or_path: shape }, 'lora-base', 'has no weights');
  await refused({ lora_target_modules: ['c_attn'] }, 'lora-target', 'c_attn', 'q_proj');
  await mkdir(join(folder, 'empty'));
  await writeFile(join(folder, 'empty', 'note'), '');
  await refused({ adapter_name_or_path: join(folder, 'empty') }, 'file-missing', 'adapter_config.json');
});
