// argv → verb → exit code: help, errors as text and JSON, flag spellings, Ctrl-C.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { runProgram } from '../../src/cli/program.js';
import { anyVerb, type Context, type Verb, type VerbEntry } from '../../src/cli/verb.js';
import { EnvironmentError, MalformedError, PolicyError } from '../../src/trusted/wire/errors.js';
import { captured } from './captured.js';

interface EchoOptions {
  readonly top_k: string | undefined;
  readonly outDir: string | undefined;
}

let loads = 0;
function program(run: (options: EchoOptions, context: Context) => Promise<unknown>): readonly VerbEntry[] {
  const verb: Verb<EchoOptions> = {
    name: 'echo',
    summary: 'say it again',
    examples: [['distillock echo --top_k 3', 'three times']],
    define: (command) => command.option('--top_k <n>', 'how often').option('--out-dir <path>', 'where'),
    parse: (command) => command.opts<EchoOptions>(),
    run,
  };
  const load = async () => {
    loads++;
    return anyVerb(verb);
  };
  const twice: Verb<EchoOptions> = { ...verb, name: 'say twice', summary: 'say it two times' };
  return [
    { name: 'echo', summary: verb.summary, load },
    { name: 'say twice', summary: twice.summary, load: async () => anyVerb(twice) },
    { name: 'say never', summary: 'be silent', load: () => assert.fail('never asked for') },
  ];
}

async function call(
  argv: readonly string[],
  run: (o: EchoOptions, c: Context) => Promise<unknown> = async (o) => o,
  env: NodeJS.ProcessEnv = {},
) {
  const stdout = captured();
  const stderr = captured();
  const exits: number[] = [];
  const exit = (code: number): void => void exits.push(code);
  const table = { verbs: program(run), groups: [{ name: 'say', summary: 'speak' }] };
  const code = await runProgram(argv, { version: '9.9.9', ...table, stdout, stderr, env, exit });
  return { code, out: stdout.text, err: stderr.text, exits };
}

test('help lists verbs without loading any; a verb shows its options and examples', async () => {
  loads = 0;
  for (const argv of [[], ['--help']]) {
    const { code, out } = await call(argv);
    assert.equal(code, 0);
    assert.match(out, /echo\s+say it again/);
  }
  assert.equal(loads, 0);
  for (const argv of [
    ['echo', '--help'],
    ['help', 'echo'],
  ]) {
    const { code, out } = await call(argv);
    assert.equal(code, 0);
    assert.match(out, /--top_k <n>\s+how often/);
    assert.match(out, /--json/);
    assert.match(out, /# three times\n {2}distillock echo --top_k 3/);
  }
  assert.equal((await call(['--version'])).out, '9.9.9\n');
});

test('verbs in groups: help of program, group and verb; flags, results and wrong words', async () => {
  const main = (await call(['--help'])).out;
  assert.match(main, /say\s+speak/);
  assert.doesNotMatch(main, /two times/);
  for (const argv of [['say'], ['say', '--help'], ['help', 'say']]) {
    const { code, out } = await call(argv);
    assert.equal(code, 0, argv.join(' '));
    assert.match(out, /distillock say VERB[\s\S]*twice\s+say it two times\n\s+never\s+be silent/);
  }
  for (const argv of [
    ['say', 'twice', '--help'],
    ['help', 'say', 'twice'],
  ]) {
    const { code, out } = await call(argv);
    assert.equal(code, 0, argv.join(' '));
    assert.match(out, /distillock say twice[\s\S]*--top_k <n>[\s\S]*# three times/);
  }
  const done = await call(['say', 'twice', '--top-k', '3', '--json']);
  assert.deepEqual(JSON.parse(done.out), { top_k: '3', json: true });
  for (const [argv, message] of [
    [['say', 'twise'], /unknown command 'twise'[\s\S]*twice/],
    [['say', 'twice', 'more'], /too many arguments/],
    [['say', '--nope'], /unknown option '--nope'/],
    [['twice'], /unknown command 'twice'/],
  ] as const) {
    const { code, err } = await call(argv);
    assert.equal(code, 2, argv.join(' '));
    assert.match(err, message);
  }
});

test('flags are understood with dashes and with underscores', async () => {
  for (const argv of [
    ['--top_k', '3', '--out-dir=x'],
    ['--top-k=3', '--out_dir', 'x'],
  ]) {
    const { code, out, err } = await call(['echo', '--json', ...argv]);
    assert.equal(code, 0, err);
    assert.deepEqual(JSON.parse(out), { top_k: '3', outDir: 'x', json: true });
  }
});

test('wrong usage exits with 2, says what is wrong once, and suggests', async () => {
  const cases: readonly (readonly [string[], RegExp])[] = [
    [['ecko'], /unknown command 'ecko'[\s\S]*echo/],
    [['echo', '--top_q', '1'], /unknown option '--top_q'[\s\S]*--top_k/],
    [['echo', '--top_k'], /argument missing/],
    [['echo', 'more'], /too many arguments/],
    [['--nonsense'], /unknown option/],
  ];
  for (const [argv, message] of cases) {
    const { code, err, out } = await call(argv);
    assert.equal(code, 2, argv.join(' '));
    assert.match(err, message);
    assert.match(err, /^error \[usage\]: /);
    assert.equal(err.match(/error/g)?.length, 1);
    assert.equal(out, '');
  }
});

test('failures show code, message and what to do; stacks only on demand', async () => {
  const fail = (error: unknown) => call(['echo'], () => Promise.reject(error));
  const policy = await fail(new PolicyError('budget-exhausted', 'no tokens left'));
  assert.equal(policy.code, 1);
  assert.equal(
    policy.err,
    'error [budget-exhausted]: no tokens left\nAsk the owner of the teacher for a licence that allows this.\n',
  );
  assert.equal((await fail(new MalformedError('setting-unknown', 'x'))).code, 2);
  assert.equal((await fail(new EnvironmentError('disk-full', 'x'))).code, 1);
  const bug = await fail(new TypeError('undefined is not a function'));
  assert.equal(bug.code, 1);
  assert.match(bug.err, /error \[internal\][\s\S]*report it/);
  assert.doesNotMatch(bug.err, /at .*program\.test/);
  const cause = new Error('inner', { cause: new Error('innermost') });
  const shown = await call(['echo'], () => Promise.reject(cause), { DISTILLOCK_DEBUG: '1' });
  assert.match(shown.err, /at .*program\.test[\s\S]*caused by Error: innermost/);
});

test('--json: errors are one line of JSON on stderr, results JSON on stdout and nothing else', async () => {
  const details = { file: 'x.jsonl', line: 3 };
  const failed = await call(['echo', '--json'], () =>
    Promise.reject(new MalformedError('dataset-json', 'bad', details)),
  );
  assert.deepEqual(JSON.parse(failed.err).error, {
    code: 'dataset-json',
    kind: 'malformed',
    message: 'bad',
    hint: null,
    details,
    exitCode: 1,
  });
  assert.equal(JSON.parse((await call(['echo', '--json', '--nope'])).err).error.code, 'usage');
  const done = await call(['echo', '--json'], async (_, context) => {
    context.print('for people');
    context.write('for people');
    context.note('aside');
    return { n: 1 };
  });
  assert.equal(done.out, '{"n":1}\n');
  assert.equal(done.err, 'aside\n');
  assert.equal((await call(['echo'], async (_, { print }) => print('for people'))).out, 'for people\n');
});

test('an answer that is "no" is printed like any other and exits with 1', async () => {
  for (const argv of [['echo'], ['echo', '--json']]) {
    const { code, out, err } = await call(argv, async (_, context) => {
      context.print('refused');
      context.refuse();
      return { verdict: 'refused' };
    });
    assert.deepEqual([code, out, err], [1, argv.length === 1 ? 'refused\n' : '{"verdict":"refused"}\n', '']);
  }
});

test('Ctrl-C aborts the signal, says how to go on and exits with 130; the second stops at once', async () => {
  const { code, err, exits } = await call(['echo'], async (_, { signal }) => {
    process.kill(process.pid, 'SIGINT');
    while (!signal.aborted) await delay(1);
    process.kill(process.pid, 'SIGINT');
    await delay(20);
    signal.throwIfAborted();
  });
  assert.equal(code, 130);
  assert.deepEqual(exits, [130]);
  assert.match(err, /Ctrl-C again stops at once[\s\S]*--resume_from_checkpoint true/);
  assert.equal(process.listenerCount('SIGINT'), 0);
});

test('progress that an action left open is ended', async () => {
  const { err } = await call(['echo'], async (_, { progress }) => {
    progress('work').update({ tokens: 1, totalTokens: 2 });
    progress('more').update({ tokens: 3, totalTokens: 4 });
  });
  assert.equal(err, 'work: 1 of 2 tokens\nmore: 3 of 4 tokens\n');
});
