// A whole job on the bundled teacher and text, with a student of a few thousand weights. Not a test itself.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Config, createConfig } from '../../src/edge/config.js';
import { countTargets } from '../../src/edge/data/example.js';
import { type Prepared, type PreparedData, prepareData } from '../../src/edge/prepare.js';
import { storiesFolder } from '../teacher/stories-teacher.js';

/** Writes a student's config.json: stories260K's, narrower. */
export async function writeStudentShape(
  folder: string,
  changes: Readonly<Record<string, number>> = {},
): Promise<string> {
  const shape = JSON.parse(await readFile(join(storiesFolder, 'config.json'), 'utf8')) as object;
  const small = {
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 8,
  };
  await mkdir(folder, { recursive: true });
  const file = join(folder, 'config.json');
  await writeFile(file, JSON.stringify({ ...shape, ...small, initializer_range: 0.05, ...changes }));
  return file;
}

/** `folder` holds everything: student shape, output, cache. */
export async function tinyJob(folder: string, bundleDir: string, changes: Partial<Config> = {}): Promise<Config> {
  return createConfig({
    model_name_or_path: await writeStudentShape(join(folder, 'student')),
    teacher_model_name_or_path: bundleDir,
    dataset: 'assets/text/train.txt',
    output_dir: join(folder, 'out'),
    cache_dir: join(folder, 'cache'),
    enclave_state_dir: join(folder, 'state'),
    max_samples: 12,
    validation_split: 0.2,
    max_length: 128,
    loss_top_k: 8,
    max_steps: 8,
    per_device_train_batch_size: 2,
    logging_steps: 2,
    eval_steps: 4,
    ...changes,
  });
}

export function targetsIn({ examples }: Prepared): number {
  return examples.reduce((sum, example) => sum + countTargets(example), 0);
}

/** Rows that a job needs from the teacher: those of training text, of held-out text, of both. */
export async function rowsNeeded(
  config: Config,
  bundleDir: string,
): Promise<{ data: PreparedData; train: number; evaluation: number; all: number }> {
  const data = await prepareData(config, bundleDir);
  const train = targetsIn(data.train);
  const evaluation = targetsIn(data.evaluation!);
  return { data, train, evaluation, all: train + evaluation };
}
