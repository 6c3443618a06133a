// Training with adapters: the loss falls, frozen weights keep every bit and have no optimiser state, a stopped run goes on as if it had not
// stopped, the folder is PEFT's, and merged weights compute what base and adapters compute.
import assert from 'node:assert/strict';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { continuedAdapters, loraFor } from '../../src/edge/lora-settings.js';
import { mergeAdapters, trainedCount, withAdapters } from '../../src/edge/train/adapters.js';
import { Evaluator } from '../../src/edge/train/evaluate.js';
import { openStudent, parameterCount, randomStudent, type Student, saveStudent } from '../../src/edge/train/student.js';
import { saveCheckpoint } from '../../src/model/checkpoint/hf-directory.js';
import { openAdapted, openCheckpoint } from '../../src/model/checkpoint/open.js';
import { readTokenizerFiles } from '../../src/model/checkpoint/tokenizer-files.js';
import { adapterTensors, type LoraConfig, loraScale } from '../../src/model/lora.js';
import { failsWith } from '../model/fixtures.js';
import { temporaryFolder, tinyConfig } from '../owner/tiny-model.js';
import { metricsOf, tensorsOf, tinyData, tinyRun, tinyRunConfig } from './tiny-run.js';

const lora: LoraConfig = { r: 4, lora_alpha: 8, target_modules: ['q_proj', 'v_proj', 'down_proj'], use_rslora: true };
const settings = { max_steps: 20, learning_rate: 2e-2, seed: 7 };

async function savedBase(t: TestContext, config = tinyConfig): Promise<{ folder: string; base: string }> {
  const folder = await temporaryFolder(t);
  const base = join(folder, 'base');
  await saveStudent(base, randomStudent(config, 7), await readTokenizerFiles('assets/stories260k'));
  return { folder, base };
}

async function measure(student: Student): Promise<{ kl: number; nll: number }> {
  const data = tinyData(tinyRunConfig('unused'), 'evaluation', 5);
  const { rows, columns } = data.batches;
  const evaluator = await Evaluator.open(student, data, { temperature: 1, chunkRows: rows * columns });
  const result = await evaluator.evaluate(student);
  await evaluator.close();
  return result;
}

test('the loss falls, the base keeps every bit, and only adapters have optimiser state and checkpoints', async (t) => {
  // Weights large enough for the frozen head to tell tokens apart.
  const lively = { ...tinyConfig, initializerRange: 0.2 };
  const { folder, base } = await savedBase(t, lively);
  const adapt = (): Student => ({ ...withAdapters(randomStudent(lively, 7), lora, 1), base });
  const out = join(folder, 'out');
  const { student, outcome } = await tinyRun(out, { ...settings, save_steps: 10 }, { adapt });
  assert.equal(outcome.steps, 20);
  const losses = (await metricsOf(out)).flatMap(({ loss }) => (loss === undefined ? [] : [loss]));
  assert.ok(losses.at(-1)! < losses[0]! - 0.05, `loss went ${losses.join(' → ')}`);
  for (const [name, { data }] of randomStudent(lively, 7).parameters)
    assert.deepEqual(student.parameters.get(name)!.data, data, name);

  const names = adapterTensors(tinyConfig, lora).map(({ name }) => name);
  const adapterSize = trainedCount(student);
  assert.ok(adapterSize < parameterCount(student) / 2);
  const saved = join(out, 'checkpoint-10');
  const moments = await tensorsOf(join(saved, 'optimizer.safetensors'));
  assert.deepEqual([...moments.keys()].sort(), names.flatMap((name) => [`m:${name}`, `v:${name}`]).sort());
  const floats = [...moments.values()].reduce((sum, data) => sum + data.length, 0);
  assert.equal(floats, 2 * adapterSize);
  for (const place of [saved, out]) {
    const files = await readdir(place);
    assert.ok(files.includes('adapter_config.json') && !files.includes('model.safetensors'), files.join());
    assert.deepEqual([...(await tensorsOf(join(place, 'adapter_model.safetensors'))).keys()], names);
  }
  const written = JSON.parse(await readFile(join(out, 'adapter_config.json'), 'utf8'));
  assert.deepEqual(
    [written.peft_type, written.r, written.lora_alpha, written.use_rslora, written.base_model_name_or_path],
    ['LORA', 4, 8, true, base],
  );

  // What is opened from the folder is what was trained; merged it computes the same.
  const reopened = await openStudent(out, 0);
  assert.deepEqual(reopened.parameters, student.parameters);
  const adapted = await measure(student);
  assert.deepEqual(await measure(await openStudent(base, 0, out)), adapted);
  const bare = await measure(randomStudent(lively, 7));
  assert.ok(Math.abs(bare.kl - adapted.kl) > 0.01, 'the adapters do nothing');
  const { config, tensors, tokenizer } = await openCheckpoint(out);
  await saveCheckpoint(join(folder, 'fused'), config, tensors, tokenizer);
  const rows = await tensors.readRows!('model.layers.1.mlp.down_proj.weight', 3, 2);
  const whole = await tensors.read('model.layers.1.mlp.down_proj.weight');
  assert.deepEqual(rows, whole.subarray(3 * (whole.length / 16), 5 * (whole.length / 16)));
  await tensors.close();
  const fused = await openStudent(join(folder, 'fused'), 0);
  const merged = await measure(fused);
  assert.ok(Math.abs(merged.kl - adapted.kl) < 1e-5 && Math.abs(merged.nll - adapted.nll) < 1e-5);
  assert.deepEqual(mergeAdapters(reopened, lora).parameters, fused.parameters);
});

for (const accumulation of [1, 2])
  test(`stopped and resumed equals unbroken, and another base is refused: accumulation ${accumulation}`, async (t) => {
    const folder = await temporaryFolder(t);
    const untied = { ...tinyConfig, tieWordEmbeddings: false };
    const full: LoraConfig = { ...lora, modules_to_save: ['lm_head'] };
    const adapt = (seed: number) => (): Student => withAdapters(randomStudent(untied, seed), full, 1);
    const changes = { gradient_accumulation_steps: accumulation };
    const [whole, broken] = [join(folder, 'whole'), join(folder, 'broken')];
    const unbroken = await tinyRun(whole, changes, { adapt: adapt(7) });
    await tinyRun(broken, changes, { adapt: adapt(7), stopAfter: 5 });
    const resume = { ...changes, resume_from_checkpoint: true };
    await assert.rejects(tinyRun(broken, resume, { adapt: adapt(8) }), failsWith('resume-mismatch', 'frozen_sha256'));
    await assert.rejects(
      tinyRun(broken, resume, { adapt: () => randomStudent(untied, 7) }),
      failsWith('resume-mismatch', 'lora'),
    );
    const resumed = await tinyRun(broken, resume, { adapt: adapt(7) });
    assert.deepEqual(resumed.student.parameters, unbroken.student.parameters);
    const file = 'adapter_model.safetensors';
    assert.deepEqual(await readFile(join(broken, file)), await readFile(join(whole, file)));
    assert.ok((await tensorsOf(join(whole, file))).has('base_model.model.lm_head.weight'));
    const start = randomStudent(untied, 7).parameters.get('lm_head.weight')!;
    assert.notDeepEqual(resumed.student.parameters.get('lm_head.weight'), start);
  });

test('scales, targets and settings', () => {
  assert.equal(loraScale({ r: 4, lora_alpha: 8, target_modules: [] }), 2);
  assert.equal(loraScale(lora), 4);
  const config = tinyRunConfig('x', { use_peft: true });
  const all = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
  assert.deepEqual(loraFor(config, tinyConfig).target_modules, all);
  assert.deepEqual([loraFor(config, tinyConfig).r, loraFor(config, tinyConfig).lora_alpha], [16, 32]);
  const wrong = (changes: object, code: string, ...words: string[]): void =>
    assert.throws(() => loraFor({ ...config, ...changes }, tinyConfig), failsWith(code, ...words));
  wrong({ lora_target_modules: ['query'] }, 'lora-target', '"query"', 'q_proj, k_proj');
  wrong({ modules_to_save: ['head'] }, 'lora-saved', '"head"', 'embed_tokens');
  wrong({ modules_to_save: ['embed_tokens'] }, 'lora-tied', 'tie_word_embeddings');
  wrong({ lora_target_modules: ['q_proj'], modules_to_save: ['self_attn'] }, 'lora-target', 'modules_to_save');
  const adapted = withAdapters(randomStudent(tinyConfig, 1), lora, 1);
  assert.equal(continuedAdapters({ ...config, lora_r: 4 }, adapted, lora), adapted);
  assert.throws(
    () => continuedAdapters({ ...config, lora_r: 8 }, adapted, lora),
    failsWith('lora-mismatch', 'lora_r is 8', 'have 4'),
  );
});

test('adapters that do not fit are refused by name', async (t) => {
  const { folder, base } = await savedBase(t);
  const adapter = join(folder, 'adapter');
  const student = { ...withAdapters(randomStudent(tinyConfig, 7), lora, 1), base };
  const tokenizer = await readTokenizerFiles('assets/stories260k');
  await saveStudent(adapter, student, tokenizer);
  const file = join(adapter, 'adapter_config.json');
  const good = JSON.parse(await readFile(file, 'utf8'));
  const cases: readonly (readonly [object, string, ...string[]])[] = [
    [{ lora_alpha: undefined }, 'config-key', 'adapter_config.json', '"lora_alpha" is missing'],
    [{ r: 0 }, 'config-key', '"r" is 0'],
    [{ r: 8 }, 'adapter-mismatch', 'lora_A.weight', 'has shape [4, 16]', '[8, 16]'],
    [{ use_dora: true }, 'adapter-unsupported', 'use_dora'],
    [{ rank_pattern: { q_proj: 2 } }, 'adapter-unsupported', 'rank_pattern'],
    [{ peft_type: 'IA3' }, 'adapter-unsupported', 'IA3'],
    [{ base_model_name_or_path: 'owner/other' }, 'adapter-base', 'owner/other', base],
    [{ modules_to_save: ['norm'] }, 'adapter-mismatch', 'norm.weight', 'is missing'],
  ];
  for (const [change, code, ...words] of cases) {
    await writeFile(file, JSON.stringify({ ...good, ...change }));
    await assert.rejects(openStudent(base, 0, adapter), failsWith(code, ...words));
    await assert.rejects(openAdapted(adapter, base), failsWith(code, ...words));
  }
  // A pattern is what PEFT may have been given: the tensors tell the modules.
  await writeFile(file, JSON.stringify({ ...good, target_modules: '.*(q|v|down)_proj' }));
  assert.deepEqual((await openStudent(base, 0, adapter)).parameters, student.parameters);
  await writeFile(file, JSON.stringify({ ...good, base_model_name_or_path: '' }));
  await assert.rejects(openCheckpoint(adapter), failsWith('adapter-base', 'names no base_model_name_or_path'));
  await writeFile(file, JSON.stringify(good));

  const wider = join(folder, 'wider', 'base');
  await saveStudent(wider, randomStudent({ ...tinyConfig, intermediateSize: 32 }, 1), tokenizer);
  await assert.rejects(
    openStudent(wider, 0, adapter),
    failsWith('adapter-mismatch', 'down_proj', '[4, 24]', '[4, 32]'),
  );
  const shape = join(base, 'config.json');
  await assert.rejects(openStudent(shape, 0, adapter), failsWith('lora-base', 'config.json', 'has no weights'));
  await rm(join(adapter, 'adapter_model.safetensors'));
  await writeFile(join(adapter, 'adapter_model.bin'), 'x');
  await assert.rejects(openStudent(base, 0, adapter), failsWith('format-unsupported', 'adapter_model.bin'));
});
