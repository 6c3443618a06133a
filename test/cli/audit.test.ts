// distillock audit: a whole small audit through the command line, its JSON and page; wrong input is named before anything is attacked.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ATTACKS } from '../../src/audit/attacks/index.js';
import { PROBES } from '../../src/audit/probes/index.js';
import { type AuditReport, auditReportSchema } from '../../src/audit/report.js';
import { auditPage, auditText } from '../../src/cli/audit/present.js';
import { temporaryFolder } from '../owner/tiny-model.js';
import { cli, failure, json, lockStories, STORIES, start, until } from './command-line.js';

// A temporary folder of this file's own: what is left behind in it was left by these tests.
const temporary = await mkdtemp(join(tmpdir(), 'da-'));
process.env.TMPDIR = temporary;
after(() => rm(temporary, { recursive: true, force: true }));

async function leftBehind(): Promise<string[]> {
  return (await readdir(temporary)).filter((name) => /^distillock-(audit|model)-/.test(name));
}

const TINY = ['--attacks', 'recording', '--budget_tokens', '200,400', '--seeds', '2', '--steps', '3'];
const HELD = ['--held_out_tokens', '200'];

test('an audit of two placements: table, JSON by its schema, a page with every placement; nothing is left behind', async (t) => {
  const folder = await temporaryFolder(t);
  const out = join(folder, 'audit');
  const placements = ['--schemes', 'rotation', '--placements', 'accelerator', 'enclave'];
  const {
    code,
    out: text,
    err,
  } = await cli('audit', '--model', STORIES, ...placements, ...TINY, ...HELD, '--out', out);
  assert.equal(code, 0, err);
  assert.match(text, /recording +recorder +rotation +accelerator[^\n]* broken/);
  assert.match(text, /recording +recorder +rotation +enclave[^\n]* held/);
  assert.match(
    text,
    /• The recorder, .*accelerator \(rotation: recording reached .*no more than .*enclave \(rotation\)\./,
  );
  assert.match(text, /Nothing was run, and so nothing is said, about: copier/);
  assert.match(err, /SIMULATED/);
  const report = auditReportSchema.parse(JSON.parse(await readFile(join(out, 'audit.json'), 'utf8')));
  // Two bundles × two budgets × (two seeds and their mean).
  assert.equal(report.attacks.length, 12);
  const mean = report.attacks.find(
    (row) => row.seed === 'mean' && row.placement === 'accelerator' && row.budgetTokens === 400,
  )!;
  assert.ok(mean.advantage! > 0.9 && mean.half !== null && mean.worst! >= mean.advantage!);
  assert.equal(mean.verdict, 'broken');
  assert.ok(mean.recordedTokens > 200 && mean.recordedTokens <= 400 && mean.bytes > 0 && mean.queries > 0);
  const inside = report.attacks.find((row) => row.seed === 'mean' && row.placement === 'enclave')!;
  assert.deepEqual([inside.advantage, inside.verdict, inside.control.succeeded], [0, 'held', true]);
  assert.match(inside.idle!, /released answers/);
  assert.equal(report.lines.blackBox.length, 4);
  assert.match(
    report.command,
    /^distillock audit --model stories260k --schemes rotation --placements accelerator enclave/,
  );
  const page = await readFile(join(out, 'audit.html'), 'utf8');
  for (const name of ['rotation accelerator', 'rotation enclave']) assert.ok(page.includes(name), name);
  assert.match(page, /SIMULATED/);
  assert.match(page, /"logX":true,.*"levels":2,"data":\[\[200,400\]/);
  assert.deepEqual(await leftBehind(), []);
});

test('an audit of a bundle with its own keys; --quick is one seed and small', async (t) => {
  const folder = await temporaryFolder(t);
  const { bundle, keys } = await lockStories(folder, 'a', '--placement', 'shielded:2', '--scheme', 'permutation');
  const given = [
    bundle,
    '--model',
    STORIES,
    '--keys',
    keys,
    '--quick',
    '--attacks',
    'recording',
    '--steps',
    '3',
    ...HELD,
  ];
  const report: AuditReport = auditReportSchema.parse(await json('audit', ...given));
  assert.deepEqual(report.settings.seeds, [1]);
  assert.deepEqual(report.settings.budgetTokens, [1000]);
  assert.ok(report.settings.quick);
  const [row] = report.attacks;
  assert.deepEqual([row!.scheme, row!.placement], ['permutation', 'shielded:2']);
  // One block inside does not keep the other four.
  assert.notEqual(row!.verdict, 'held');
});

test('probes have a table and a place in the sentences of their own', async (t) => {
  const folder = await temporaryFolder(t);
  const { bundle, keys } = await lockStories(folder, 'a', '--placement', 'enclave');
  const out = join(folder, 'audit');
  const given = ['audit', bundle, '--model', STORIES, '--keys', keys, '--quick', '--steps', '1', ...HELD];
  const { code, out: text, err } = await cli(...given, '--attacks', 'rollback,rollback-leased', '--out', out);
  assert.equal(code, 0, err);
  assert.match(text, /rollback +tamperer +rotation +enclave +succeeded +broken/);
  assert.match(text, /rollback-leased +tamperer +rotation +enclave +succeeded +held/);
  assert.match(text, /• The tamperer, [^\n]*succeeds with rollback; fails with rollback-leased\./);
  const report = auditReportSchema.parse(JSON.parse(await readFile(join(out, 'audit.json'), 'utf8')));
  assert.deepEqual([report.attacks.length, report.probes.length], [0, 2]);
  assert.match(await readFile(join(out, 'audit.html'), 'utf8'), /Probes of enclave and protocol[\s\S]*rollback-leased/);
});

test('wrong input is refused, by name, before anything is attacked', async (t) => {
  const folder = await temporaryFolder(t);
  const a = await lockStories(folder, 'a', '--placement', 'accelerator');
  const b = await lockStories(folder, 'b', '--placement', 'accelerator');
  const given = ['audit', a.bundle, '--model', STORIES, '--keys', a.keys];
  const nearest = await failure(...given, '--attacks', 'recordin');
  assert.equal(nearest.code, 'audit-attack');
  assert.match(nearest.message, /did you mean recording\?/);
  assert.equal((await failure(...given, '--attacks', ',')).code, 'audit-attack');
  assert.equal((await failure('audit', a.bundle, '--model', STORIES, '--keys', b.keys)).code, 'bundle-signature');
  const mixed = join(folder, 'mixed.keys');
  const [own, other] = await Promise.all([a, b].map(async ({ keys }) => JSON.parse(await readFile(keys, 'utf8'))));
  await writeFile(mixed, JSON.stringify({ ...own, lockSeed: other.lockSeed }), { mode: 0o600 });
  assert.equal((await failure('audit', a.bundle, '--model', STORIES, '--keys', mixed)).code, 'lock-keys');
  for (const words of [
    ['audit', a.bundle, '--model', STORIES],
    ['audit', '--model', STORIES, '--keys', a.keys],
  ])
    assert.deepEqual([(await failure(...words)).code, (await failure(...words)).exitCode], ['audit-keys', 2]);
  assert.equal((await failure(...given, '--placements', 'enclave')).code, 'audit-bundle');
  const stranger = join(folder, 'stranger');
  await cp(STORIES, stranger, { recursive: true });
  for (const file of ['config.json', 'model.safetensors'])
    await cp(join('test/fixtures/families/llama', file), join(stranger, file));
  assert.equal((await failure(...given, '--ancestor', stranger)).code, 'audit-ancestor');
  const text = join(folder, 'mine.txt');
  await writeFile(text, 'Once upon a time there was a lock, and nobody could tell.');
  const small = await failure(...given, '--budget_tokens', '5', '--dataset', text, '--eval_dataset', text);
  assert.equal(small.code, 'audit-budget');
  assert.match(small.message, /does not cover one text: the shortest of .*mine\.txt takes \d+ tokens/);
  const enough = /takes (\d+) tokens/.exec(small.message)![1]!;
  const unheld = await failure(...given, '--budget_tokens', enough, '--dataset', text);
  assert.equal(unheld.code, 'text-empty');
  assert.match((await failure(...given, '--budget_tokens', '100_000_000')).message, /more than the \d+ tokens/);
  const nowhere = ['audit', '--model', STORIES, '--placements', 'enclave', 'shielded:9'];
  assert.equal((await failure(...nowhere)).code, 'plan-part');
  assert.equal((await failure('audit', '--model', STORIES, '--placements', 'inside')).code, 'placement');
});

test("a model that is not the bundle's original is refused: another shape, and other weights of the same shape", async (t) => {
  const folder = await temporaryFolder(t);
  const { bundle, keys } = await lockStories(folder, 'a', '--placement', 'accelerator');
  const model = join(folder, 'model');
  await mkdir(model);
  await cp(STORIES, model, { recursive: true });
  const weights = join(model, 'model.safetensors');
  const bytes = await readFile(weights);
  const offset = 8 + Number(bytes.readBigUInt64LE(0));
  // Another sign for the first numbers of the first tensor.
  for (let at = offset; at < offset + 40_000; at += 4) bytes[at + 3]! ^= 0x80;
  await writeFile(weights, bytes);
  const other = await failure('audit', bundle, '--model', model, '--keys', keys);
  assert.equal(other.code, 'model-differs');
  assert.match(other.message, /was not locked from .*differ by up to/);
  const config = JSON.parse(await readFile(join(model, 'config.json'), 'utf8'));
  await writeFile(join(model, 'config.json'), JSON.stringify({ ...config, rope_theta: 500 }));
  assert.match((await failure('audit', bundle, '--model', model, '--keys', keys)).message, /ropeTheta/);
});

test('Ctrl-C: the attempt under way ends, the enclave stops, nothing is left behind', async () => {
  const given = ['--attacks', 'recording', '--seeds', '50', '--budget_tokens', '200', '--steps', '3', ...HELD];
  const run = start(process.cwd(), 'audit', '--model', STORIES, '--placements', 'shielded:0', ...given);
  await until('the first attempt', () => run.output().includes('of 100 attempts'));
  run.child.kill('SIGINT');
  assert.equal(await run.ended, 130, run.output());
  assert.match(run.output(), /interrupted\n.*starts again from the beginning/);
  assert.deepEqual(await leftBehind(), []);
});

test('a bundle with integer matrices is refused with advice', async (t) => {
  const folder = await temporaryFolder(t);
  const { bundle, keys } = await lockStories(folder, 'a', '--placement', 'accelerator', '--quantize', 'int8');
  const refused = await failure('audit', bundle, '--model', STORIES, '--keys', keys);
  assert.equal(refused.code, 'audit-quantized');
  assert.match(refused.message, /locked without --quantize/);
});

test('the registry names every attack of its folder once, in kebab case', () => {
  const names = [...ATTACKS, ...PROBES].map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const name of names) assert.match(name, /^[a-z0-9]+(-[a-z0-9]+)*$/);
});

test('the documented report passes the schema and is shown; recorded ones pass as well', () => {
  const page = readFileSync('docs/results/SCHEMA.md', 'utf8');
  const example = JSON.parse(/```json audit\n([\s\S]*?)```/.exec(page)![1]!);
  assert.deepEqual(auditReportSchema.parse(example), example);
  assert.ok(!auditReportSchema.safeParse({ ...example, version: 2 }).success);
  assert.ok(
    !auditReportSchema.safeParse({ ...example, attacks: [{ ...example.attacks[0], verdict: 'fine' }] }).success,
  );
  assert.match(auditText(example, false), /weakened|held|broken|inconclusive/);
  assert.equal(auditPage(example).curves.length, 1);
  // One attack ran at two budgets, a stronger one at the larger alone: the curve is the first one's, the table has both.
  const [row] = example.attacks;
  const early = { ...row, budgetTokens: 100, advantage: 0.2 };
  const stronger = { ...row, attack: 'fine-tuning-all-100', advantage: 0.9, leak: { rank: 3, headShare: 0.1 } };
  const two = auditReportSchema.parse({ ...example, attacks: [early, row, stronger] });
  const page2 = auditPage(two);
  assert.deepEqual(
    page2.curves[0]!.series.map(({ points }) => points),
    [
      [
        [100, 0.2],
        [1000, row.advantage],
      ],
    ],
  );
  assert.match(page2.curves[0]!.title, /: recording$/);
  assert.equal(page2.tables[0]!.rows.length, 2);
  for (const name of readdirSync('docs/results').filter((file) => /^audit-.*\.json$/.test(file)))
    auditReportSchema.parse(JSON.parse(readFileSync(join('docs/results', name), 'utf8')));
});

test("advise: scheme, placement, reasons and a command to lock with, from audits of one's own", async (t) => {
  const file = join(await temporaryFolder(t), 'audit.json');
  const example = JSON.parse(/```json audit\n([\s\S]*?)```/.exec(readFileSync('docs/results/SCHEMA.md', 'utf8'))![1]!);
  const [row] = example.attacks;
  const outside = { ...row, placement: 'accelerator', worst: 1 };
  const inside = { ...row, placement: 'enclave', advantage: 0, worst: 0, verdict: 'held', idle: 'nothing is seen' };
  await writeFile(file, JSON.stringify({ ...example, attacks: [row, outside, inside] }));
  const speeds = ['--tee_gflops', '90', '--accelerator_gflops', '100'];
  const needed = ['advise', '--model', STORIES, '--budget-tokens', '4000', '--audits', file, ...speeds];
  const given = [...needed, '--ancestor', 'no'];
  const advice = await json(...given, '--tee-memory', '512');
  assert.deepEqual([advice.placement, advice.verdict], ['enclave', 'held']);
  assert.match(advice.command, /^distillock lock --model .* --scheme rotation --placement enclave/);
  assert.ok(advice.reasons.some((reason: string) => /^not accelerator: broken by recording/.test(reason)));
  const { out } = await cli(...given, '--tee-memory', '1');
  assert.match(out, /placement +accelerator/);
  assert.match(out, /this does not hold/);
  assert.equal((await cli(...needed, '--tee-memory', '512')).code, 2);
  assert.equal((await cli(...needed, '--ancestor', 'perhaps', '--tee-memory', '512')).code, 2);
  await writeFile(file, JSON.stringify({ ...example, version: 2 }));
  assert.equal((await failure(...given, '--tee-memory', '512')).code, 'audit-report');
  await writeFile(file, 'no');
  assert.equal((await failure(...given, '--tee-memory', '512')).code, 'audit-report');
});
