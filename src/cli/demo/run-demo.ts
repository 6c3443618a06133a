// `distillock demo`: owner and data owner on one machine with the bundled teacher, start to finish, both with and without a
// licence. Zone: owner and edge. Everything it says was measured in this run.
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Config, createConfig } from '../../edge/config.js';
import { EgressLedger } from '../../edge/licence/ledger.js';
import { ledgerFileOf } from '../../edge/licence/ledger-file.js';
import { readMetrics } from '../../edge/metrics.js';
import { type PreparedData, prepareData } from '../../edge/prepare.js';
import type { LockedTeacher } from '../../edge/teacher/locked-teacher.js';
import { openStudent } from '../../edge/train/student.js';
import { measureGflops } from '../../graph/speed.js';
import { toHfConfig } from '../../model/checkpoint/hf-config.js';
import type { Checkpoint } from '../../model/checkpoint/hf-directory.js';
import { openCheckpoint } from '../../model/checkpoint/open.js';
import type { DecoderConfig } from '../../model/config.js';
import { writeFileAtomic } from '../../model/files.js';
import { choosePlacement, type Placement, TEE_SPEED, TEE_SPEED_SOURCE } from '../../owner/placement.js';
import { EnvironmentError } from '../../trusted/wire/errors.js';
import type { Receipt } from '../../trusted/wire/receipt.js';
import { type Comparison, compareStudents, evaluateStudent, frequencyOnlyKl } from '../experiment/compare.js';
import { type LockedHere, lockHere, startUnlicensed } from '../experiment/on-one-machine.js';
import type { DemoReport } from '../report/demo-schema.js';
import { renderReport } from '../report/page.js';
import { curvesOf } from '../report/report-data.js';
import { formatNumber } from '../terminal.js';
import type { Context } from '../verb.js';
import { type LicenceDesk, openLicenceDesk } from './licence-desk.js';
import { licenseByService } from './license-by-service.js';
import { peakRssMb } from './measures.js';
import { measurePlacements } from './placements.js';
import { demoPage, demoTables } from './present.js';
import { tellStory } from './story.js';

const assets = fileURLToPath(new URL('../../../../assets/', import.meta.url));
const teacherFolder = join(assets, 'stories260k');
const storyTokens = 80;

export interface DemoOptions {
  readonly out: string;
  readonly seed: number;
}

/** A student of the teacher's width and vocabulary with one block less: enough to show what is learned, small enough to wait for. */
function studentShape(teacher: DecoderConfig): DecoderConfig {
  return { ...teacher, numHiddenLayers: teacher.numHiddenLayers - 1, initializerRange: 0.02 };
}

/** What `distillock lock` decides when it is told nothing. */
async function autoPlacement(config: DecoderConfig): Promise<Placement> {
  const gflops = await measureGflops();
  return choosePlacement({
    config,
    scheme: 'rotation',
    teeGflops: TEE_SPEED * gflops,
    acceleratorGflops: gflops,
    speedSource: TEE_SPEED_SOURCE,
    teeMemoryMb: 4096,
    budgetTokens: null,
    ancestor: null,
    acceptRecorder: false,
  });
}

function demoConfig({ out, seed }: DemoOptions, bundle: string): Config {
  return createConfig({
    model_name_or_path: join(out, 'student-shape'),
    teacher_model_name_or_path: bundle,
    dataset: join(assets, 'text', 'train.txt'),
    max_samples: 300,
    eval_dataset: join(assets, 'text', 'valid.txt'),
    output_dir: join(out, 'students'),
    cache_dir: join(out, 'teacher-cache'),
    enclave_state_dir: join(out, 'enclave'),
    max_length: 256,
    kd_ratio: 1,
    loss_top_k: 32,
    num_train_epochs: 3,
    per_device_train_batch_size: 4,
    learning_rate: 5e-3,
    adam_beta2: 0.95,
    eval_steps: 100,
    save_steps: 1_000_000,
    seed,
  });
}

/** Replaces an earlier demo in `out`; writes report.json, report.html, the bundle and both students there. */
export async function runDemo(options: DemoOptions, context: Context): Promise<DemoReport> {
  const started = performance.now();
  const { out } = options;
  await clearEarlierDemo(out);
  await mkdir(join(out, 'student-shape'), { recursive: true });
  const checkpoint = await openCheckpoint(teacherFolder);
  const say = (line: string): void => context.note(line);

  say('1. The owner locks the teacher (stories260K, a real model of 260,032 weights).');
  const { plan, precision, reasons } = await autoPlacement(checkpoint.config);
  const locked = await lockHere(checkpoint, out, 'stories260k', { plan, precision });
  say(`   ${locked.bundleDir}: ${locked.bundleId.slice(0, 16)}…, ${locked.seconds.toFixed(2)} s`);
  for (const reason of reasons) say(`   ${reason}`);
  const exposed = await lockHere(checkpoint, join(out, 'exposed'), 'stories260k');
  await writeFileAtomic(
    join(out, 'student-shape', 'config.json'),
    JSON.stringify(toHfConfig(studentShape(checkpoint.config)), null, 2),
  );

  const config = demoConfig(options, locked.bundleDir);
  const data = await prepareData(config, locked.bundleDir);
  say(
    "2. The data owner starts the enclave; the owner's licence service appraises its evidence and grants. A second one gets none.",
  );
  const stateDir = join(out, 'enclave');
  const ledger = await EgressLedger.open(ledgerFileOf(stateDir), say);
  const licensed = await startUnlicensed(locked, stateDir, (line) => say(`   ${line}`), ledger);
  const refused = await startUnlicensed(exposed, join(out, 'enclave-unlicensed'), () => {});
  const { simulatedRoot } = licensed.process!;
  const desk = await openLicenceDesk({
    folder: out,
    keys: locked.keyFile,
    bundleId: locked.bundleId,
    simulatedRoot,
  });
  try {
    return await withEnclaves({ options, config, data, checkpoint, locked, desk, licensed, refused, started }, context);
  } finally {
    await desk.stop();
    await checkpoint.tensors.close();
    await licensed.close();
    await refused.close();
  }
}

const marker = '.distillock-demo';

// Replaces what an earlier demo wrote, and nothing else: a folder with other content is refused.
async function clearEarlierDemo(out: string): Promise<void> {
  const found = await readdir(out).catch((): string[] => []);
  if (found.length > 0 && !found.includes(marker))
    throw new EnvironmentError('out-not-empty', `${out} is not empty and no earlier demo; choose another --out`, {
      out,
    });
  await rm(out, { recursive: true, force: true });
  await writeFileAtomic(join(out, marker), 'written by distillock demo; the next one replaces this folder\n');
}

interface Stage {
  readonly options: DemoOptions;
  readonly config: Config;
  readonly data: PreparedData;
  readonly checkpoint: Checkpoint;
  readonly locked: LockedHere;
  readonly desk: LicenceDesk;
  readonly licensed: LockedTeacher;
  readonly refused: LockedTeacher;
  readonly started: number;
}

async function withEnclaves(stage: Stage, context: Context): Promise<DemoReport> {
  const { options, config, data, desk, licensed, refused } = stage;
  const say = (line: string): void => context.note(line);
  const budgetTokens = data.train.report.targets + data.evaluation!.report.targets + storyTokens;
  const licence = await licenseByService({
    desk,
    client: licensed.client,
    bundleId: stage.locked.bundleId,
    budgetTokens,
    topK: config.loss_top_k,
    onNotice: say,
  });
  say(`   licence: ${formatNumber(budgetTokens)} tokens, top-${config.loss_top_k}, float16, one hour`);

  const comparison = await compareArms(stage, context);
  const session = { topK: config.loss_top_k, temperature: config.kd_temperature };
  const story = await tellStory(licensed, data.tokenizer, session.topK, storyTokens);
  say('5. What each placement costs, measured against the unlocked graph.');
  let peak = peakRssMb([licensed.process, refused.process, desk]);
  const placements = await measurePlacements({
    checkpoint: stage.checkpoint,
    folder: join(options.out, 'placements'),
    unlockedFolder: join(options.out, 'unlocked'),
    examples: data.train.examples,
    session,
    onEnclave: (enclave) => {
      peak = Math.max(peak, peakRssMb([licensed.process, refused.process, desk, enclave]));
    },
  });
  const overheadRatio = placements[0]!.overheadRatio;

  const teacherItself = await evaluateStudent(config, await openStudent(teacherFolder, 0), comparison.evaluation);
  const status = await licensed.client.status();
  const egressBytesAfterUnlock = licensed.client.egressBytesAfterUnlock;
  const { receipt, jws, state } = await licence.destroy();
  await writeFileAtomic(join(options.out, 'receipt.jws'), jws);
  say(`6. The teacher is destroyed; the enclave signed a receipt: ${formatNumber(chargedIn(receipt))} tokens charged.`);
  say(
    `   the licence service has it: the licence is ${state}; see: distillock ledger show --enclave_state_dir ${options.out}`,
  );

  const { authorised, unauthorised } = comparison.arms;
  const report: DemoReport = {
    teacher: { nll: teacherItself.nll },
    student: {
      start: comparison.start,
      authorised: authorised!.final,
      unauthorised: unauthorised!.final,
    },
    frequencyOnly: { kl: frequencyOnlyKl(data.train, comparison.evaluation, licensed.bundle.config.vocabSize) },
    overheadRatio,
    placements,
    budget: { granted: budgetTokens, charged: status.licence!.chargedTokens },
    egressBytesAfterUnlock,
    seconds: (performance.now() - stage.started) / 1000,
    peakRssMb: peak,
  };
  await writeResults(stage, comparison, report, {
    story,
    refusal: comparison.refusal,
    teacherKl: teacherItself.kl,
    receipt,
  });
  context.print(demoTables(report, context.colour));
  context.print(`a story by the licensed teacher: ${story.trim()} …`);
  context.print(`report: ${join(options.out, 'report.html')}`);
  return report;
}

async function compareArms({ config, data, licensed, refused }: Stage, context: Context): Promise<Comparison> {
  const titles = {
    authorised: '3. Authorised: a student learns from what the enclave releases.',
    unauthorised:
      '4. Unauthorised: the other enclave refuses; the attacker feeds the accelerator guessed ids and reads its answers.',
    text: '',
  };
  let bar = context.progress('   teacher');
  let phase = 'teacher';
  const show = (name: string): typeof bar => {
    if (name !== phase) {
      bar.stop();
      bar = context.progress(`   ${name}`);
      phase = name;
    }
    return bar;
  };
  try {
    return await compareStudents(
      config,
      data,
      { licensed, refused },
      {
        signal: context.signal,
        arms: ['authorised', 'unauthorised'],
        onArm: (arm) => {
          bar.stop();
          phase = '';
          context.note(titles[arm]);
        },
        events: {
          onCapture: (purpose, { tokens, rows, totalRows }) =>
            show(`teacher, ${purpose} text`).update({
              tokens,
              totalTokens: Math.round((totalRows * tokens) / Math.max(1, rows)),
            }),
          onStep: ({ totalTokens, step, maxSteps, loss }) =>
            show('student').update({
              tokens: totalTokens,
              totalTokens: Math.round((totalTokens / step) * maxSteps),
              loss,
            }),
        },
      },
    );
  } finally {
    bar.stop();
  }
}

function chargedIn(receipt: Receipt): number {
  return receipt.licences.reduce((sum, licence) => sum + licence.chargedTokens, 0);
}

async function writeResults(
  { options, config }: Stage,
  comparison: Comparison,
  report: DemoReport,
  more: { story: string; refusal: string; teacherKl: number; receipt: Receipt },
): Promise<void> {
  await writeFileAtomic(join(options.out, 'report.json'), `${JSON.stringify(report, null, 2)}\n`);
  const metrics = {
    authorised: await readMetrics(join(config.output_dir, 'authorised', 'metrics.jsonl')),
    unauthorised: await readMetrics(join(config.output_dir, 'unauthorised', 'metrics.jsonl')),
  };
  const page = demoPage(report, comparison, more, curvesOf(metrics), config);
  await writeFileAtomic(join(options.out, 'report.html'), renderReport(page));
}
