// The command line as a test uses it: verbs of the real table in this process, or the program as a child. Not a test itself.
import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { runProgram } from '../../src/cli/program.js';
import { GROUPS, VERBS } from '../../src/cli/verbs/table.js';
import { captured } from './captured.js';

export const STORIES = 'assets/stories260k';

export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs one command line in this process. */
export async function cli(...argv: readonly string[]): Promise<Outcome> {
  const stdout = captured();
  const stderr = captured();
  const table = { verbs: VERBS, groups: GROUPS };
  const code = await runProgram(argv, { version: '0', ...table, stdout, stderr, env: {}, exit: () => {} });
  return { code, out: stdout.text, err: stderr.text };
}

/** The same with --json; the command must succeed. */
// biome-ignore lint/suspicious/noExplicitAny: each test knows what it asked for.
export async function json(...argv: readonly string[]): Promise<any> {
  const { code, out, err } = await cli(...argv, '--json');
  assert.equal(code, 0, `${argv.join(' ')}\n${err}`);
  assert.equal(out.match(/\n/g)?.length, 1, 'one line of JSON and nothing else');
  return JSON.parse(out);
}

/** The command must fail; its code, message and exit status as --json reports them. */
export async function failure(
  ...argv: readonly string[]
): Promise<{ code: string; message: string; hint: string | null; exitCode: number }> {
  const { code, out, err } = await cli(...argv, '--json');
  assert.notEqual(code, 0, `${argv.join(' ')} should fail, but printed ${out}`);
  assert.equal(out, '');
  const { error } = JSON.parse(err.trimEnd().split('\n').at(-1)!);
  assert.equal(error.exitCode, code);
  return error;
}

/** `distillock` as a process of its own, with output collected. */
export function start(
  cwd: string,
  ...argv: readonly string[]
): { child: ChildProcessWithoutNullStreams; output: () => string; ended: Promise<number | null> } {
  const main = join(process.cwd(), 'dist', 'src', 'cli', 'main.js');
  const child = spawn(process.execPath, [main, ...argv], { cwd });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  return { child, output: () => text, ended };
}

/** Waits until `condition` gives something, for 30 s at most. */
export async function until<T>(what: string, condition: () => T | null | undefined | false): Promise<T> {
  for (let tries = 0; tries < 1200; tries++) {
    const found = condition();
    if (found) return found;
    await delay(25);
  }
  return assert.fail(`waited in vain for ${what}`);
}

export interface Owned {
  readonly bundle: string;
  readonly keys: string;
  readonly publicKey: string;
  readonly state: readonly string[];
}

/** stories260K locked as `<folder>/<name>.lock`, with an owner of its own. */
export async function lockStories(folder: string, name: string, ...more: readonly string[]): Promise<Owned> {
  const bundle = join(folder, `${name}.lock`);
  const keys = join(folder, `${name}.keys`);
  await json('lock', '--model', STORIES, '--out', bundle, '--keys', keys, ...more);
  return { bundle, keys, publicKey: `${keys}.pub`, state: ['--enclave_state_dir', join(folder, 'state')] };
}

/** The whole conversation: `enclave` writes evidence and waits while `grant` answers. Gives both results. */
export async function license(
  { bundle, keys, publicKey, state }: Owned,
  folder: string,
  terms: readonly string[] = ['--budget', '100_000'],
  // biome-ignore lint/suspicious/noExplicitAny: as above.
): Promise<{ granted: any; status: any }> {
  const evidence = join(folder, 'edge.evidence');
  const licence = join(folder, 'edge.licence');
  const enclave = json('enclave', '--bundle', bundle, '--owner_key', publicKey, ...state, '--evidence', evidence);
  const first = await Promise.race([enclave, until('evidence', () => existsSync(evidence))]);
  assert.equal(first, true, 'the enclave waits for its licence');
  const granted = await json(
    'grant',
    '--bundle',
    bundle,
    '--keys',
    keys,
    '--evidence',
    evidence,
    '--out',
    licence,
    ...terms,
  );
  return { granted, status: await enclave };
}

/** A student of one narrow block and a config that trains it in a second or two. */
export async function writeRun(
  folder: string,
  bundle: string,
  settings: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  const shape = JSON.parse(await readFile(join(STORIES, 'config.json'), 'utf8'));
  const small = {
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
  };
  await writeFile(join(folder, 'student.json'), JSON.stringify({ ...shape, ...small }));
  await writeFile(join(folder, 'text.txt'), (await readFile('assets/text/train.txt', 'utf8')).slice(0, 6000));
  const config = {
    model_name_or_path: 'student.json',
    teacher_model_name_or_path: bundle,
    dataset: 'text.txt',
    output_dir: 'out',
    enclave_state_dir: 'state',
    cache_dir: 'cache',
    max_length: 64,
    max_steps: 8,
    loss_top_k: 16,
    validation_split: 0.2,
    threads: 1,
    ...settings,
  };
  const file = join(folder, 'config.yaml');
  // JSON is YAML.
  await writeFile(
    file,
    Object.entries(config)
      .map(([name, value]) => `${name}: ${JSON.stringify(value)}\n`)
      .join(''),
  );
  return file;
}
