// The egress ledger on disk: what it records, that alterations show, what a crash leaves, that processes may share it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFile, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { EgressLedger } from '../../src/edge/licence/ledger.js';
import { readLedger } from '../../src/edge/licence/ledger-file.js';
import { cli, failure, json } from '../cli/command-line.js';
import { temporaryFolder } from '../owner/tiny-model.js';

const quiet = (): void => undefined;
const out = (text: string) =>
  ({ direction: 'out', purpose: 'evidence', host: 'licence.example:443', message: Buffer.from(text) }) as const;

test('entries survive the process, in order, with their hashes, chained, for the owner of the machine only', async (t) => {
  const file = join(await temporaryFolder(t), 'state', 'abc.egress.jsonl');
  const first = await EgressLedger.open(file, quiet);
  await first.record(out('one'));
  await first.record({ direction: 'in', purpose: 'grant', host: 'licence.example:443', message: Buffer.from('two!') });
  first.markUnlocked();
  assert.equal(first.egressBytesAfterUnlock, 0);
  const second = await EgressLedger.open(file, quiet);
  second.markUnlocked();
  await second.record({ ...out('three'), purpose: 'receipt' });
  assert.equal(second.egressBytesAfterUnlock, 5);
  assert.equal(second.entries.length, 1, 'what this process relayed');

  const { entries, broken, tornBytes } = await readLedger(file);
  assert.deepEqual([broken, tornBytes], [null, 0]);
  assert.deepEqual(
    entries.map(({ direction, purpose, bytes, afterUnlock }) => [direction, purpose, bytes, afterUnlock]),
    [
      ['out', 'evidence', 3, false],
      ['in', 'grant', 4, false],
      ['out', 'receipt', 5, true],
    ],
  );
  assert.equal(entries[0]!.sha256, createHash('sha256').update('one').digest('hex'));
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
  assert.equal(JSON.parse(lines[0]!).prev, '0'.repeat(64));
  assert.equal(JSON.parse(lines[2]!).prev, createHash('sha256').update(lines[1]!).digest('hex'));
});

test('a line that was altered, taken out, moved or added is found; what cannot be found is the end cut off', async (t) => {
  const file = join(await temporaryFolder(t), 'a.egress.jsonl');
  const ledger = await EgressLedger.open(file, quiet);
  for (const text of ['a', 'b', 'c', 'd']) await ledger.record(out(text));
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
  const check = async (changed: readonly string[]): Promise<number | null> => {
    await writeFile(file, changed.map((line) => `${line}\n`).join(''));
    return (await readLedger(file)).broken?.line ?? null;
  };
  const [a, b, c, d] = lines as [string, string, string, string];
  assert.equal(await check(lines), null, 'control');
  assert.equal(await check([a, b.replace('"bytes":1', '"bytes":0'), c, d]), 3);
  assert.equal(await check([a, c, d]), 2);
  assert.equal(await check([b, c, d]), 1);
  assert.equal(await check([a, c, b, d]), 2);
  assert.equal(await check([a, b, 'nonsense', c, d]), 3);
  assert.equal(await check([a, b, b, c, d]), 3);
  assert.equal(await check([a, b]), null, 'a chain does not say where it should end');

  await check([a, c, d]);
  const notices: string[] = [];
  const later = await EgressLedger.open(file, (line) => notices.push(line));
  assert.match(notices.join(), /was altered: line 2/);
  await later.record(out('e'));
  assert.deepEqual([(await readLedger(file)).broken?.line, (await readLedger(file)).entries.length], [2, 4]);
  const shown = await failure('ledger', 'show', '--enclave_state_dir', join(file, '..'));
  assert.equal(shown.code, 'ledger-chain');
});

test('a line cut short by a crash is set aside with a notice, and the chain goes on', async (t) => {
  const folder = await temporaryFolder(t);
  const file = join(folder, 'a.egress.jsonl');
  await (await EgressLedger.open(file, quiet)).record(out('a'));
  await appendFile(file, '{"time":"2026-');
  assert.equal((await readLedger(file)).tornBytes, 14);
  const notices: string[] = [];
  const ledger = await EgressLedger.open(file, (line) => notices.push(line));
  assert.match(notices.join(), /cut short by a crash/);
  await ledger.record(out('b'));
  const { entries, broken, tornBytes } = await readLedger(file);
  assert.deepEqual([entries.length, broken, tornBytes], [2, null, 0]);
  const aside = (await readdir(folder)).find((name) => name.includes('.torn-'));
  assert.equal(await readFile(join(folder, aside!), 'utf8'), '{"time":"2026-');
});

test('two processes write into one chain', async (t) => {
  const file = join(await temporaryFolder(t), 'a.egress.jsonl');
  const module = pathToFileURL(join(process.cwd(), 'dist', 'src', 'edge', 'licence', 'ledger.js')).href;
  const program = `
    const { EgressLedger } = await import(${JSON.stringify(module)});
    const ledger = await EgressLedger.open(${JSON.stringify(file)}, () => {});
    for (let i = 0; i < 20; i++) await ledger.record({ direction: 'out', purpose: 'lease-request', host: 'h:1', message: Buffer.from('x' + i) });`;
  const run = (): Promise<unknown> => promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
  await Promise.all([run(), run()]);
  const { entries, broken } = await readLedger(file);
  assert.deepEqual([entries.length, broken], [40, null]);
});

test('ledger show: totals before and after unlock, one ledger per enclave, nothing where nothing was relayed', async (t) => {
  const folder = await temporaryFolder(t);
  assert.deepEqual(await json('ledger', 'show', '--enclave_state_dir', join(folder, 'none')), []);
  const ledger = await EgressLedger.open(join(folder, 'abc.egress.jsonl'), quiet);
  await ledger.record(out('12345'));
  ledger.markUnlocked();
  await ledger.record({ ...out('123'), purpose: 'lease-request' });
  await ledger.record({ direction: 'in', purpose: 'lease', host: 'licence.example:443', message: Buffer.from('1') });
  const [shown] = await json('ledger', 'show', '--enclave_state_dir', folder);
  assert.deepEqual(shown.beforeUnlock, { bytesOut: 5, bytesIn: 0, messages: 1 });
  assert.deepEqual(shown.afterUnlock, { bytesOut: 3, bytesIn: 1, messages: 2 });
  assert.deepEqual([shown.chain, shown.entries.length], ['verified', 3]);
  const { out: text } = await cli('ledger', 'show', '--enclave_state_dir', folder);
  assert.match(text, /lease-request +licence\.example:443 +3/);
  assert.match(text, /after unlock +3 bytes out, 1 bytes in, 2 messages\nchain +verified/);
});
