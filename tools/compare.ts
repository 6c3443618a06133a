// The comparison of the demo, for any teacher and data: node dist/tools/compare.js --model CHECKPOINT --work FOLDER --json FILE config.yaml
// Locks the checkpoint, licenses an enclave, distils the same student from the licensed teacher, from the text alone, and from
// the locked teacher without its enclave. FOLDER must be new.
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, isAbsolute, join } from 'node:path';
import { parseArgs } from 'node:util';
import { describeMachine } from '../bench/machine.js';
import { type Arm, compareStudents, frequencyOnlyKl } from '../src/cli/experiment/compare.js';
import { licenseHere, lockHere, startUnlicensed } from '../src/cli/experiment/on-one-machine.js';
import { loadConfig } from '../src/edge/config.js';
import { prepareData } from '../src/edge/prepare.js';
import { openCheckpoint } from '../src/model/checkpoint/open.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string' },
    work: { type: 'string' },
    json: { type: 'string' },
    dataset: { type: 'string' },
    samples: { type: 'string' },
    arms: { type: 'string', default: 'authorised,text,unauthorised' },
  },
});
if (!values.model || !values.work || !values.json || !positionals[0])
  throw new Error(
    'usage: compare.js --model CHECKPOINT --work FOLDER --json FILE [--dataset FILE] [--samples N] config.yaml',
  );

/** Paths say nothing to a reader of the record; names do. */
function withoutFolder(value: unknown): unknown {
  return typeof value === 'string' && isAbsolute(value) ? basename(value) : value;
}

const work = values.work;
await mkdir(work, { recursive: true });
const log = (line: string): void => void process.stderr.write(`${new Date().toISOString()} ${line}\n`);
const started = performance.now();
const checkpoint = await openCheckpoint(values.model);
const name = 'teacher';
const locked = await lockHere(checkpoint, work, name);
await checkpoint.tensors.close();
log(`locked in ${locked.seconds.toFixed(1)} s: ${locked.bundleId}`);

const config = await loadConfig(positionals[0], {
  teacher_model_name_or_path: locked.bundleDir,
  output_dir: join(work, 'out'),
  cache_dir: join(work, 'cache'),
  ...(values.dataset ? { dataset: values.dataset } : {}),
  ...(values.samples ? { max_samples: values.samples } : {}),
});
const data = await prepareData(config, locked.bundleDir);
log(`data: ${JSON.stringify(data.train.report)}; held out: ${JSON.stringify(data.evaluation?.report)}`);
const licensed = await startUnlicensed(locked, join(work, `${name}.state`), log);
const refused = await startUnlicensed(locked, join(work, `${name}.state-unlicensed`), log);
try {
  const now = Math.floor(Date.now() / 1000);
  const budgetTokens = data.train.report.targets + (data.evaluation?.report.targets ?? 0);
  const terms = {
    budgetTokens,
    topK: config.loss_top_k,
    precision: 'float16',
    temperature: { min: 1, max: 1 },
    notBefore: now - 60,
    expires: now + 86_400,
  } as const;
  const grant = await licenseHere(locked, licensed, terms);
  let arm = 'capture';
  let logged = 0;
  const every = (line: () => string): void => {
    if (performance.now() - logged < 15_000) return;
    logged = performance.now();
    log(`${arm}: ${line()}`);
  };
  const result = await compareStudents(
    config,
    data,
    { licensed, refused },
    {
      arms: values.arms.split(',') as Arm[],
      onArm: (next) => {
        arm = next;
        log(next);
      },
      events: {
        onCapture: (purpose, p) =>
          every(() => `${purpose} rows ${p.rows} of ${p.totalRows}, ${p.tokensPerSecond.toFixed(0)} tokens/s`),
        onStep: (s) =>
          every(
            () =>
              `step ${s.step} of ${s.maxSteps}, loss ${s.loss.toFixed(4)}, ${s.tokensPerSecond.toFixed(0)} tokens/s`,
          ),
        onEvaluation: (step, e) =>
          log(
            `${arm}: step ${step}, held-out KL ${e.kl.toFixed(4)}, NLL ${e.nll.toFixed(4)}, agreement ${e.agreement.toFixed(4)}`,
          ),
      },
    },
  );
  const status = await licensed.client.status();
  const { receipt } = await grant.destroy();
  const record = {
    date: new Date().toISOString(),
    machine: describeMachine(),
    config: Object.fromEntries(Object.entries(config).map(([key, value]) => [key, withoutFolder(value)])),
    lockSeconds: locked.seconds,
    data: { train: data.train.report, evaluation: data.evaluation?.report },
    student: { parameters: result.studentParameters, start: result.start },
    arms: result.arms,
    frequencyOnly: { kl: frequencyOnlyKl(data.train, result.evaluation, licensed.bundle.config.vocabSize) },
    teacher: {
      capture: result.teacherCapture,
      tokensPerSecond: result.teacherCapture.tokens / result.teacherCapture.seconds,
    },
    refusal: result.refusal,
    budget: { granted: budgetTokens, charged: status.licence?.chargedTokens },
    egressBytesAfterUnlock: licensed.client.egressBytesAfterUnlock,
    receipt,
    seconds: (performance.now() - started) / 1000,
    peakRssMb: process.resourceUsage().maxRSS / 1024,
  };
  await writeFile(values.json, `${JSON.stringify(record, null, 2)}\n`);
  log(`written ${values.json}`);
} finally {
  await licensed.close();
  await refused.close();
}
