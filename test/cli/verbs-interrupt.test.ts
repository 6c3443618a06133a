// Ctrl-C in the middle: the program stops where it can go on, ends its enclave, and the next run finishes the work.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../owner/tiny-model.js';
import { json, license, lockStories, start, until, writeRun } from './command-line.js';

/** Processes whose command line names `folder`, bubblewrap and its children among them. */
function processesOn(folder: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
        return words.includes(folder) ? [`${pid} ${words}`] : [];
      } catch {
        return [];
      }
    });
}
const options = { skip: existsSync('/proc/self/cmdline') ? false : 'needs /proc' };

test('distill: interrupted while training, no orphans, resumed to the end', options, async (t) => {
  const folder = await temporaryFolder(t);
  const owned = await lockStories(folder, 'teacher');
  await license(owned, folder);
  const config = await writeRun(folder, owned.bundle, {
    max_steps: 300,
    logging_steps: 1,
    eval_steps: 1000,
    save_steps: 1000,
  });
  const run = start(folder, 'distill', config);
  const metrics = join(folder, 'out', 'metrics.jsonl');
  await until('training', () => existsSync(metrics) && readFileSync(metrics, 'utf8').includes('"step":5,'));
  assert.ok(processesOn(owned.bundle).length > 0, 'the enclave runs');
  run.child.kill('SIGINT');
  assert.equal(await run.ended, 130, run.output());
  assert.match(run.output(), /stopping; Ctrl-C again stops at once[\s\S]*interrupted\n.*--resume_from_checkpoint true/);
  assert.deepEqual(processesOn(owned.bundle), []);
  assert.ok(readdirSync(join(folder, 'out')).some((name) => name.startsWith('checkpoint-')));
  assert.ok(!existsSync(join(folder, 'out', 'model.safetensors')));
  const { licence } = await json('enclave', '--bundle', owned.bundle, ...owned.state);
  const result = await json('distill', config, '--resume_from_checkpoint', 'true');
  assert.equal(result.steps, 300);
  assert.equal(result.captured.rows, 0, 'nothing is captured twice');
  assert.equal(result.budget.charged, licence.chargedTokens, 'nothing is charged twice');
  assert.ok(existsSync(join(folder, 'out', 'model.safetensors')));
});

test('enclave: interrupted while it waits for a licence, no orphans, nothing unlocked', options, async (t) => {
  const folder = await temporaryFolder(t);
  const { bundle, publicKey, state } = await lockStories(folder, 'teacher');
  const run = start(folder, 'enclave', '--bundle', bundle, '--owner_key', publicKey, ...state, '--evidence', 'e');
  await until('evidence', () => existsSync(join(folder, 'e')) && run.output().includes('waiting for e.licence'));
  run.child.kill('SIGINT');
  assert.equal(await run.ended, 130, run.output());
  assert.match(run.output(), /interrupted\nThe enclave was not unlocked/);
  assert.deepEqual(processesOn(bundle), []);
  assert.equal((await json('enclave', '--bundle', bundle, ...state)).state, 'fresh');
});

test('the enclave has a process group of its own: the terminal sends it no Ctrl-C', options, async (t) => {
  const folder = await temporaryFolder(t);
  const { bundle, publicKey, state } = await lockStories(folder, 'teacher');
  const run = start(folder, 'enclave', '--bundle', bundle, '--owner_key', publicKey, ...state, '--evidence', 'e');
  await until('evidence', () => existsSync(join(folder, 'e')));
  const group = (pid: string): string => readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/.*\) /, '').split(' ')[2]!;
  const groups = processesOn(bundle).map((line) => [line, group(line.split(' ')[0]!)] as const);
  const own = group(String(run.child.pid));
  const inOwnGroup = groups.filter(([, id]) => id === own).map(([line]) => line);
  assert.ok(groups.length >= 2 && inOwnGroup.length === 1, `only the program itself: ${inOwnGroup.join('\n')}`);
  // Killed outright, it still leaves no enclave behind.
  run.child.kill('SIGKILL');
  await run.ended;
  await until('the enclave to end', () => processesOn(bundle).length === 0);
});
