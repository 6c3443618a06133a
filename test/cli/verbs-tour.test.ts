// The tour of the README, verb by verb, with the bundled teacher: every step works with what the step before has left.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { decodeEvidence } from '../../src/attest/evidence/decode-evidence.js';
import { verifyReceipt } from '../../src/attest/receipt.js';
import { readEvidenceFile } from '../../src/cli/exchange-files.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { cli, failure, json, license, lockStories, STORIES, writeRun } from './command-line.js';

const PROMPT = ['--prompt', 'Once upon a time', '--max_new_tokens', '40'];

test('lock, inspect, enclave and grant, generate, distill, eval, destroy', async (t) => {
  const folder = await temporaryFolder(t);
  const owned = await lockStories(folder, 'teacher');
  const { bundle, publicKey, state } = owned;

  const seen = await json('inspect', bundle, '--owner_key', publicKey);
  assert.equal(seen.signature, 'verified');
  assert.equal(seen.parameters, 260_032);
  assert.ok(seen.acceleratorBytes === 0 && seen.enclaveBytes > 1_000_000, 'auto keeps everything inside');
  assert.deepEqual(seen.crossings, []);
  const shown = await cli('inspect', bundle);
  assert.match(shown.out, /signature +UNVERIFIED: give the owner's key/);
  assert.match(shown.out, /segments\/00\.sealed +\d+ KiB/);

  const { granted, status } = await license(owned, folder);
  assert.deepEqual([granted.fresh, granted.simulated], [false, true]);
  assert.deepEqual([status.state, status.licence.remainingTokens, status.simulated], ['unlocked', 100_000, true]);
  assert.equal(status.bundleId, seen.bundleId);
  assert.equal(status.licence.licenceId, granted.licence.licenceId);

  const text = await cli('enclave', '--bundle', bundle, ...state);
  assert.match(
    text.out,
    /state +unlocked[\s\S]*budget +100,000 tokens, 100,000 left[\s\S]*top-k +64\nprecision +float32/,
  );
  assert.match(text.out + text.err, /SIMULATED/);

  const locked = await json('generate', '--model', bundle, ...state, ...PROMPT);
  const plain = await json('generate', '--model', STORIES, ...PROMPT);
  assert.match(locked.text, /^, there was a little girl named Lily\./);
  assert.equal(locked.text, plain.text);
  assert.deepEqual([locked.tokens, locked.budgetLeft, plain.budgetLeft], [40, 99_960, null]);
  assert.equal((await cli('generate', '--model', STORIES, ...PROMPT)).out, `${plain.text}\n`);

  const config = await writeRun(folder, bundle);
  const run = await json('distill', config);
  assert.equal(run.egressBytesAfterUnlock, 0);
  assert.match(run.loss, /^(0\.\d+ × cross-entropy \+ )?(0\.\d+ × )?forward_kl$/);
  assert.ok(existsSync(join(folder, 'out', 'report.html')));
  const afterRun = (await json('enclave', '--bundle', bundle, ...state)).licence.remainingTokens;

  const measured = await json('eval', config);
  assert.equal(measured.student, join(folder, 'out'));
  assert.ok(Math.abs(measured.kl - run.evaluation.kl) < 1e-5 && Math.abs(measured.nll - run.evaluation.nll) < 1e-5);
  assert.deepEqual([measured.charged, measured.budgetLeft], [0, afterRun]);
  assert.ok(measured.frequencyOnly.kl > 0);
  const teacherItself = await json('eval', config, '--model_name_or_path', STORIES);
  assert.ok(teacherItself.kl < 1e-3 && teacherItself.agreement > 0.999, 'the teacher agrees with itself');
  assert.match((await cli('eval', config)).out, /KL to teacher[\s\S]*token frequencies only/);

  const student = await json('generate', '--model', join(folder, 'out'), '--prompt', 'Once', '--max_new_tokens', '5');
  assert.ok(student.tokens <= 5);

  const receipt = join(folder, 'receipt');
  const destroyed = await json('destroy', '--bundle', bundle, ...state, '--receipt', receipt, '--yes');
  const { evidence } = await readEvidenceFile(join(folder, 'edge.evidence'));
  const signed = (await readFile(receipt, 'utf8')).trim();
  const key = decodeEvidence(evidence).claims.signingKey;
  assert.deepEqual(verifyReceipt(new TextEncoder().encode(signed), key), destroyed.receipt);
  assert.equal(destroyed.receipt.licences[0].chargedTokens, 100_000 - afterRun);

  assert.ok(!existsSync(join(bundle, 'enclave.sealed')) && !existsSync(join(bundle, 'segments', '00.sealed')));
  const verified = await json('receipt', 'verify', receipt, '--evidence', join(folder, 'edge.evidence'));
  assert.deepEqual([verified.signature, verified.receipt], ['verified', destroyed.receipt]);
  const [ledger] = await json('ledger', 'show', '--bundle', bundle, ...state);
  assert.deepEqual(
    ledger.entries.map((entry: { purpose: string; host: string }) => `${entry.purpose} ${entry.host}`),
    ['evidence file', 'grant file'],
  );
  assert.equal(ledger.entries[0].bytes, (await readFile(join(folder, 'edge.evidence'))).length);

  assert.equal((await json('enclave', '--bundle', bundle, ...state)).state, 'destroyed');
  assert.equal((await failure('generate', '--model', bundle, ...state, ...PROMPT)).code, 'enclave-destroyed');
  await writeFile(join(bundle, 'notes.txt'), 'mine');
  const again = ['destroy', '--bundle', bundle, ...state, '--receipt', `${receipt}2`, '--yes', '--delete-bundle'];
  assert.deepEqual((await json(...again)).receipt, destroyed.receipt);
  assert.equal((await readFile(`${receipt}2`, 'utf8')).trim(), signed);
  assert.ok(existsSync(join(bundle, 'notes.txt')) && !existsSync(join(bundle, 'segments')), 'only its own files go');
});

test('a lock can be repeated with its keys; a bundle and keys are never overwritten', async (t) => {
  const folder = await temporaryFolder(t);
  const { bundle, keys, publicKey } = await lockStories(folder, 'a');
  const again = ['lock', '--model', STORIES, '--out', join(folder, 'b.lock'), '--keys', keys];
  const { bundleId } = await json(...again);
  assert.equal((await json('inspect', bundle)).bundleId, bundleId);
  assert.equal((await failure(...again)).code, 'bundle-exists');
  const before = await readFile(publicKey, 'utf8');
  const other = ['lock', '--model', STORIES, '--out', join(folder, 'c.lock'), '--keys', join(folder, 'c.keys')];
  assert.equal((await failure(...other, '--public-key', publicKey)).code, 'key-file');
  assert.equal(await readFile(publicKey, 'utf8'), before);
  assert.ok(!existsSync(join(folder, 'c.lock')) && !existsSync(join(folder, 'c.keys')));
  assert.equal(
    (await failure('lock', '--model', 'no-such-model', '--out', 'x', '--keys', join(folder, 'x'))).code,
    'file-missing',
  );
  assert.ok(!existsSync(join(folder, 'x')), 'no keys for a model that is not there');
});

test('sampling: a share near 0 is greedy, the seed decides, top-k stays within the licence', async (t) => {
  const sampled = (...more: string[]) =>
    json('generate', '--model', STORIES, ...PROMPT, '--temperature', '1.5', ...more);
  const greedy = await json('generate', '--model', STORIES, ...PROMPT);
  assert.equal((await sampled('--top_p', '1e-9')).text, greedy.text);
  assert.equal((await sampled('--top_k', '1')).text, greedy.text);
  const one = await sampled('--top_p', '0.9');
  assert.equal((await sampled('--top_p', '0.9')).text, one.text);
  assert.notEqual((await sampled('--top_p', '0.9', '--seed', '1')).text, one.text);
  assert.notEqual(one.text, greedy.text);
  assert.equal((await sampled('--top_k', '100000')).tokens > 0, true, 'no more than the vocabulary');

  const folder = await temporaryFolder(t);
  const owned = await lockStories(folder, 'teacher');
  await license(owned, folder, ['--budget', '10', '--top-k', '8']);
  const teacher = ['generate', '--model', owned.bundle, ...owned.state, '--prompt', 'Once', '--temperature', '1'];
  assert.equal((await json(...teacher, '--max_new_tokens', '3')).budgetLeft, 7);
  assert.equal((await failure(...teacher, '--top_k', '9')).code, 'top-k-too-large');
  assert.equal((await failure(...teacher, '--temperature', '9')).code, 'temperature-not-licensed');
  assert.equal((await failure(...teacher, '--max_new_tokens', '20')).code, 'budget-exhausted');
  assert.equal((await failure(...teacher)).code, 'enclave-exhausted');
});
