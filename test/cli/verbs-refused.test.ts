// What the verbs refuse, and how they say it: foreign keys, licences, evidence, damaged files, wrong spelling.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { copyFile, readFile, rename, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { temporaryFolder } from '../owner/tiny-model.js';
import { cli, failure, json, license, lockStories, start, until, writeRun } from './command-line.js';

const NONCE = '5a'.repeat(32);

test("the owner's key: needed once, kept, and no other accepted after that", async (t) => {
  const folder = await temporaryFolder(t);
  const a = await lockStories(folder, 'a');
  const b = await lockStories(folder, 'b');
  const enclave = ['enclave', '--bundle', a.bundle, ...a.state];
  const missing = await failure(...enclave);
  assert.deepEqual([missing.code, missing.exitCode], ['owner-key-missing', 1]);
  assert.match(missing.message, /--owner_key/);
  assert.equal((await failure(...enclave, '--owner_key', b.publicKey)).code, 'bundle-signature');
  assert.equal((await failure(...enclave)).code, 'owner-key-missing', 'a key that was refused is not kept');
  assert.equal((await json(...enclave, '--owner_key', a.publicKey)).state, 'fresh');
  assert.equal((await json(...enclave)).state, 'fresh');
  const changed = await failure(...enclave, '--owner_key', b.publicKey);
  assert.equal(changed.code, 'owner-key-changed');
  assert.match(changed.hint ?? '', /somebody else/);
  assert.equal((await failure(...enclave, '--owner_key', a.keys)).code, 'owner-key', 'secrets are no public key');
  assert.equal((await failure('inspect', a.bundle, '--owner_key', b.publicKey)).code, 'bundle-signature');
});

test('without a licence nothing is generated, captured or trained', async (t) => {
  const folder = await temporaryFolder(t);
  const { bundle, publicKey, state } = await lockStories(folder, 'a');
  const key = ['--owner_key', publicKey];
  const refused = await failure('generate', '--model', bundle, ...key, ...state, '--prompt', 'Once');
  assert.equal(refused.code, 'enclave-fresh');
  assert.match(refused.message, /distillock enclave/);
  const config = await writeRun(folder, bundle);
  assert.equal((await failure('distill', config, ...key)).code, 'enclave-fresh');
  assert.equal((await failure('eval', config, ...key)).code, 'enclave-fresh');
  assert.ok(!existsSync(join(folder, 'out', 'model.safetensors')));
});

test('evidence: of another bundle, for another owner, over another nonce, altered, or garbage', async (t) => {
  const folder = await temporaryFolder(t);
  const a = await lockStories(folder, 'a');
  const b = await lockStories(folder, 'b');
  const evidence = join(folder, 'a.evidence');
  const licence = join(folder, 'a.licence');
  const running = json(
    'enclave',
    '--bundle',
    a.bundle,
    '--owner_key',
    a.publicKey,
    ...a.state,
    '--evidence',
    evidence,
    '--nonce',
    NONCE,
  );
  await until('evidence', () => existsSync(evidence));
  const file = join(folder, 'given.evidence');
  const grant = (owned: typeof a, ...more: string[]) => [
    'grant',
    '--bundle',
    owned.bundle,
    '--keys',
    owned.keys,
    '--evidence',
    file,
    '--out',
    licence,
    '--budget',
    '9',
    ...more,
  ];
  const original = await readFile(evidence, 'utf8');
  const given = JSON.parse(original);
  const cases: readonly (readonly [string, string | object, readonly string[]])[] = [
    ['evidence-bundle', original, grant(b)],
    ['bundle-signature', original, grant({ ...b, keys: a.keys })],
    ['evidence-nonce', original, grant(a, '--nonce', '00'.repeat(32))],
    ['report-data', { ...given, nonce: 'A'.repeat(43) }, grant(a)],
    ['signature', { ...given, simulatedRoot: given.nonce }, grant(a)],
    ['evidence-file', { ...given, evidence: given.evidence.slice(0, 100) }, grant(a)],
    ['evidence-file', { ...given, evidence: 'not base64url!' }, grant(a)],
    ['evidence-file', { ...given, simulated: false }, grant(a)],
    ['evidence-file', { ...given, more: 1 }, grant(a)],
    ['evidence-file', original.slice(0, -20), grant(a)],
    ['evidence-file', '\u0000\u0001', grant(a)],
    ['usage', original, grant(a, '--nonce', '00')],
    ['usage', original, grant(a, '--expires', '2020-01-31')],
    ['key-file', original, grant({ ...a, keys: a.publicKey })],
  ];
  for (const [code, content, argv] of cases) {
    await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content));
    const error = await failure(...argv);
    assert.equal(error.code, code, error.message);
    if (code === 'evidence-file') assert.ok(error.message.includes(file), error.message);
  }
  assert.equal(
    (await failure(...grant(a).map((word) => (word === file ? `${file}.none` : word)))).code,
    'file-missing',
  );
  assert.ok(!existsSync(licence), 'no licence came of any of them');
  await writeFile(file, original);
  assert.equal((await json(...grant(a, '--nonce', NONCE))).fresh, true);
  assert.equal((await running).state, 'unlocked');
});

test('a licence for another enclave, or garbage, unlocks nothing; one that was there before is not taken', async (t) => {
  const folder = await temporaryFolder(t);
  const a = await lockStories(folder, 'a');
  const b = await lockStories(folder, 'b');
  await license(b, folder);
  const foreign = join(folder, 'edge.licence');
  const enclave = (name: string) => [
    'enclave',
    '--bundle',
    a.bundle,
    '--owner_key',
    a.publicKey,
    ...a.state,
    '--evidence',
    join(folder, name),
  ];
  const before = await failure(...enclave('x.evidence'), '--licence', foreign);
  assert.equal(before.code, 'licence-exists');
  const unlockWith = async (name: string, put: (licence: string) => Promise<void>) => {
    const failed = failure(...enclave(`${name}.evidence`));
    await until('evidence', () => existsSync(join(folder, `${name}.evidence`)));
    await put(join(folder, `${name}.licence`));
    return failed;
  };
  const other = await unlockWith('other', (licence) => copyFile(foreign, licence));
  assert.equal(other.code, 'grant-unreadable');
  assert.match(other.hint ?? '', /start again/);
  const terms = JSON.parse(await readFile(foreign, 'utf8'));
  const edited = { ...terms, licence: { ...terms.licence, budgetTokens: 'many' } };
  const garbage = await unlockWith('garbage', (licence) => writeFile(licence, JSON.stringify(edited)));
  assert.equal(garbage.code, 'licence-file');
  assert.match(garbage.message, /budgetTokens/);
  assert.equal((await json('enclave', '--bundle', a.bundle, ...a.state)).state, 'fresh');
  assert.equal((await failure('enclave', '--bundle', a.bundle, ...a.state, '--licence', foreign)).code, 'usage');
});

test('an expired licence stops everything, and says so', async (t) => {
  const folder = await temporaryFolder(t);
  const owned = await lockStories(folder, 'a');
  const expires = new Date(Math.ceil(Date.now() / 1000) * 1000 + 6000);
  const { status } = await license(owned, folder, ['--budget', '100', '--expires', expires.toISOString()]);
  assert.equal(status.licence.expires, expires.getTime() / 1000);
  await delay(expires.getTime() + 1100 - Date.now());
  assert.equal((await json('enclave', '--bundle', owned.bundle, ...owned.state)).state, 'expired');
  const refused = await failure('generate', '--model', owned.bundle, ...owned.state, '--prompt', 'Once');
  assert.equal(refused.code, 'enclave-expired');
});

for (const [place, file] of [
  ['accelerator', '00.data'],
  ['enclave', '00.sealed'],
] as const)
  test(`a damaged bundle is refused by every verb, naming the file: ${file}`, async (t) => {
    const folder = await temporaryFolder(t);
    const { bundle, publicKey, state } = await lockStories(folder, 'a', '--placement', place);
    const weights = join(bundle, 'segments', file);
    const whole = await readFile(weights);
    const verbs = [
      ['inspect', bundle],
      ['inspect', bundle, '--owner_key', publicKey],
      ['enclave', '--bundle', bundle, '--owner_key', publicKey, ...state],
      ['generate', '--model', bundle, '--owner_key', publicKey, ...state, '--prompt', 'Once'],
      ['destroy', '--bundle', bundle, '--owner_key', publicKey, ...state, '--receipt', join(folder, 'r'), '--yes'],
    ];
    const refused = async (code: string, file: string): Promise<void> => {
      for (const argv of verbs) {
        const error = await failure(...argv);
        assert.equal(error.code, code, argv.join(' '));
        assert.ok(error.message.includes(file), error.message);
      }
    };
    await truncate(weights, whole.length - 1);
    await refused('bundle-file-size', weights);
    const flipped = Buffer.from(whole);
    flipped[5000]! ^= 1;
    await writeFile(weights, flipped);
    await refused('bundle-file-hash', weights);
    await rename(weights, `${weights}.away`);
    await refused('bundle-file-missing', weights);
    await writeFile(weights, whole);
    assert.equal((await json('inspect', bundle)).signature, 'unverified');
    await rename(join(bundle, 'manifest.json'), join(bundle, 'manifest.away'));
    assert.equal((await failure('inspect', bundle)).code, 'manifest-missing');
    assert.equal(
      (await failure('enclave', '--bundle', bundle, '--owner_key', publicKey, ...state)).code,
      'manifest-missing',
    );
    assert.ok(!existsSync(join(folder, 'r')));
  });

test('verbs and settings that are misspelt: the nearest, and exit code 2', async (t) => {
  const folder = await temporaryFolder(t);
  const unknown = await cli('distil', 'config.yaml');
  assert.equal(unknown.code, 2);
  assert.match(unknown.err, /unknown command 'distil'[\s\S]*distill/);
  assert.match((await failure('distill', join(folder, 'none.yaml'))).message, /none\.yaml/);
  const config = await writeRun(folder, join(folder, 'a.lock'), { kd_alpha: 1 });
  const misspelt = await failure('eval', config);
  assert.deepEqual([misspelt.code, misspelt.exitCode], ['setting-unknown', 2]);
  assert.match(misspelt.message, /config\.yaml:\d+: .*"kd_ratio"/);
  assert.match((await failure('generate', '--model', 'assets/stories260k', '--promt', 'x')).message, /--prompt/);
});

test('a prompt comes from stdin, too; one that is too long is refused', async (t) => {
  const folder = await temporaryFolder(t);
  const model = join(process.cwd(), 'assets/stories260k');
  const { child, output, ended } = start(folder, 'generate', '--model', model, '--max_new_tokens', '3');
  child.stdin.end('Once upon a time\n');
  assert.equal(await ended, 0);
  assert.equal(output(), ', there was\n');
  const long = 'time '.repeat(600);
  assert.equal((await failure('generate', '--model', model, '--prompt', long)).code, 'prompt-too-long');
});
