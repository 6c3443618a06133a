// distillock lock: a checkpoint becomes a bundle that can be handed out. Run by the model owner.
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { QUANTIZATIONS, SCHEMES } from '../../model/bundle-manifest.js';
import type { DecoderConfig } from '../../model/config.js';
import type { LockProgress } from '../../owner/lock-checkpoint.js';
import type { OwnerKeys } from '../../owner/owner-keys.js';
import type { Placement } from '../../owner/placement.js';
import { equalBytes } from '../../trusted/wire/bytes.js';
import { EnvironmentError } from '../../trusted/wire/errors.js';
import type { EnclavePrecision, Plan, Quantization, Scheme } from '../../trusted/wire/manifest.js';
import { describePlan, matricesRow, usesEnclave } from '../describe-plan.js';
import { InterruptedError } from '../errors.js';
import { realNumber, wholeNumber } from '../options.js';
import { renderPairs } from '../table.js';
import { formatBytes } from '../terminal.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface LockVerbOptions {
  /** Folder, GGUF file or hub id. */
  readonly model: string;
  readonly out: string;
  readonly scheme: Scheme;
  /** Of matrices on the accelerator. */
  readonly quantize: Quantization;
  /** auto, accelerator, enclave or shielded:PARTS. */
  readonly placement: string;
  readonly enclavePrecision: EnclavePrecision | undefined;
  readonly acceptRecorder: boolean;
  readonly teeMemoryMb: number;
  /** Of the data owner's device; undefined: this machine's. */
  readonly teeGflops: number | undefined;
  readonly acceleratorGflops: number | undefined;
  readonly budgetTokens: number | undefined;
  readonly ancestor: boolean | undefined;
  /** Owner secrets: read when the file exists (the same lock again), otherwise made and written. */
  readonly keys: string;
  /** Where the owner's public key goes, for the edge to pin. */
  readonly publicKey: string;
}

interface Raw {
  readonly model: string;
  readonly out: string;
  readonly scheme: Scheme;
  readonly quantize: Quantization;
  readonly keys: string;
  readonly publicKey: string | undefined;
  readonly placement: string;
  readonly accept_recorder: boolean;
  readonly enclave_precision: EnclavePrecision | undefined;
  readonly tee_memory: number;
  readonly tee_gflops: number | undefined;
  readonly accelerator_gflops: number | undefined;
  readonly budget_tokens: number | undefined;
  readonly ancestor: 'yes' | 'no' | undefined;
}

export const lockHelp: VerbHelp<LockVerbOptions> = {
  name: 'lock',
  summary: 'lock a checkpoint into a bundle (owner)',
  examples: [
    ['distillock lock --model ./my-model --out my-model.lock --keys my-model.keys', 'a Hugging Face folder'],
    ['distillock lock --model teacher.Q8_0.gguf --out teacher.lock --keys teacher.keys', 'a GGUF file'],
    ['distillock lock --model ./my-model --out my-model.lock --keys my-model.keys --quantize int4', 'a smaller bundle'],
    ['distillock lock --model HuggingFaceTB/SmolLM2-135M --out s.lock --keys s.keys', 'a model of the hub'],
    [
      'distillock lock --model ./m --out m.lock --keys m.keys --placement shielded:embedding,0,head',
      'these parts in the enclave, the rest locked on the accelerator',
    ],
  ],
  define(command: Command): void {
    command
      .requiredOption('--model <dir|file|hub-id>', 'checkpoint: Hugging Face folder, .gguf file or hub id')
      .requiredOption('--out <folder>', 'bundle to write')
      .requiredOption(
        '--keys <file>',
        "owner's secrets: made by the first lock, keep them; with them a lock can be repeated",
      )
      .option('--public-key <file>', "where the owner's public key goes (default: <keys>.pub)")
      .addOption(new Option('--scheme <name>', 'how weights are locked').choices(SCHEMES).default('rotation'))
      .addOption(
        new Option(
          '--quantize <format>',
          'store matrices on the accelerator as integers, after locking; the enclave has --enclave_precision',
        )
          .choices(QUANTIZATIONS)
          .default('none'),
      )
      .option(
        '--placement <where>',
        'auto, enclave, accelerator, or shielded:PARTS inside the enclave (embedding, head, block numbers)',
        'auto',
      )
      .option('--accept_recorder', 'auto may give up protection against a recorder of licensed sessions', false)
      .addOption(
        new Option('--enclave_precision <type>', 'how enclave-held parts compute (default: by placement)').choices([
          'float32',
          'int8',
        ]),
      )
      .option('--tee_memory <MB>', "trusted memory of the data owner's enclave", wholeNumber(64), 4096)
      .option('--tee_gflops <n>', "speed of that enclave (default: this machine's)", realNumber(0.001, 1e9))
      .option('--accelerator_gflops <n>', "speed of that accelerator (default: this machine's)", realNumber(0.001, 1e9))
      .option('--budget_tokens <n>', 'tokens that you will license, for auto', wholeNumber(1))
      .addOption(
        new Option('--ancestor <answer>', 'a public checkpoint it was tuned from exists').choices(['yes', 'no']),
      );
  },
  parse(command: Command): LockVerbOptions {
    const raw = command.opts<Raw>();
    const { model, out, scheme, quantize, keys, placement } = raw;
    return {
      model,
      out,
      scheme,
      quantize,
      keys,
      publicKey: raw.publicKey ?? `${keys}.pub`,
      placement,
      acceptRecorder: raw.accept_recorder,
      enclavePrecision: raw.enclave_precision,
      teeMemoryMb: raw.tee_memory,
      teeGflops: raw.tee_gflops,
      acceleratorGflops: raw.accelerator_gflops,
      budgetTokens: raw.budget_tokens,
      ancestor: raw.ancestor === undefined ? undefined : raw.ancestor === 'yes',
    };
  },
};

export const lock: Verb<LockVerbOptions> = { ...lockHelp, run: runLock };

/** What --json prints. */
interface LockResult {
  readonly bundleId: string;
  readonly bundle: string;
  readonly plan: Plan;
  readonly precision: EnclavePrecision;
  /** Why the parts lie where they lie. */
  readonly reasons: readonly string[];
  readonly bytes: number;
  readonly seconds: number;
  /** Locked weights written by this run, and seconds of all of it. */
  readonly megabytesPerSecond: number;
  readonly keys: string;
  readonly publicKey: string;
}

async function runLock(options: LockVerbOptions, context: Context): Promise<LockResult> {
  const { lockModel } = await import('../../owner/lock-checkpoint.js');
  const { openCheckpoint } = await import('../../model/checkpoint/open.js');
  const { openBundle } = await import('../../edge/bundle.js');
  const { model, out, scheme, quantize } = options;
  if (existsSync(out)) {
    const message = `${out} exists; a bundle is never overwritten, choose another --out`;
    throw new EnvironmentError('bundle-exists', message, { path: out });
  }
  const started = performance.now();
  const checkpoint = await openCheckpoint(model);
  try {
    const { plan, precision, reasons } = await placeParts(options, checkpoint.config);
    const keys = await prepareKeys(options, context);
    const { onProgress, stop, lockedHere } = followLock(context);
    const { bundleId } = await lockModel({
      checkpoint,
      outDir: out,
      scheme,
      plan,
      precision,
      quantize,
      keys,
      onProgress,
    });
    stop();
    const seconds = (performance.now() - started) / 1000;
    const megabytesPerSecond = lockedHere() / 1e6 / seconds;
    const { manifest } = await openBundle(out, { ownerKey: keys.signingKey, checkHashes: false });
    const listed = manifest.files.reduce((sum, { size }) => sum + size, 0);
    const bytes = listed + (await stat(join(out, 'manifest.json'))).size + (await stat(join(out, 'manifest.jws'))).size;
    const rows = [
      ['bundle', out],
      ['bundle id', bundleId],
      ['scheme', scheme],
      ['plan', describePlan(plan)],
      ...matricesRow(plan, quantize),
      ...(usesEnclave(plan) ? [['inside', precision] as const] : []),
      ['size', formatBytes(bytes)],
      ['seconds', `${seconds.toFixed(1)} (${megabytesPerSecond.toFixed(0)} MB/s)`],
    ] as const;
    context.print(renderPairs(rows, context.colour));
    for (const reason of reasons) context.print(`  ${reason}`);
    context.print(
      `Give ${out} and ${options.publicKey} to the data owner. Keep ${options.keys} secret: it grants licences.`,
    );
    const { keys: keyFile, publicKey } = options;
    return {
      bundleId,
      bundle: out,
      plan,
      precision,
      reasons,
      bytes,
      seconds,
      megabytesPerSecond,
      keys: keyFile,
      publicKey,
    };
  } finally {
    await checkpoint.tensors.close();
  }
}

async function placeParts(options: LockVerbOptions, config: DecoderConfig): Promise<Placement> {
  const { parsePlacement, TEE_SPEED, TEE_SPEED_SOURCE } = await import('../../owner/placement.js');
  const { measureGflops } = await import('../../graph/speed.js');
  const given = options.teeGflops !== undefined && options.acceleratorGflops !== undefined;
  const here = options.placement === 'auto' && !given ? await measureGflops() : 1;
  const placement = parsePlacement(options.placement, {
    config,
    scheme: options.scheme,
    teeGflops: options.teeGflops ?? TEE_SPEED * here,
    acceleratorGflops: options.acceleratorGflops ?? here,
    speedSource: given ? 'as given' : TEE_SPEED_SOURCE,
    teeMemoryMb: options.teeMemoryMb,
    budgetTokens: options.budgetTokens ?? null,
    ancestor: options.ancestor ?? null,
    acceptRecorder: options.acceptRecorder,
  });
  return options.enclavePrecision === undefined ? placement : { ...placement, precision: options.enclavePrecision };
}

/** Progress of a lock: a bar for each stage, a note when it goes on, an end when Ctrl-C was pressed. */
function followLock(context: Context): {
  readonly onProgress: (progress: LockProgress) => void;
  readonly stop: () => void;
  /** Bytes of weights that this run locked. */
  readonly lockedHere: () => number;
} {
  const started = performance.now();
  const bars = { lock: context.progress('locking'), hash: context.progress('hashing') };
  let before: number | null = null;
  let last = 0;
  return {
    onProgress({ stage, done, bytesDone, bytesTotal }) {
      if (context.signal.aborted)
        throw new InterruptedError('What is done is kept: run the same command again to go on.');
      if (stage === 'lock') {
        // Only a lock that goes on has whole weights in its first report.
        if (before === null && done > 0)
          context.note(`going on: ${megabytes(bytesDone)} of ${megabytes(bytesTotal)} MB were done`);
        before ??= done > 0 ? bytesDone : 0;
        last = bytesDone;
      } else bars.lock.stop();
      // Small models are done before anybody wonders.
      if (performance.now() - started < 1000) return;
      bars[stage].update({ tokens: megabytes(bytesDone), totalTokens: megabytes(bytesTotal), unit: 'MB' });
    },
    stop: () => bars.hash.stop(),
    lockedHere: () => last - (before ?? 0),
  };
}

/** The owner's secrets of an earlier lock, or new ones; written before the lock, because a bundle without them is lost. */
async function prepareKeys({ keys: file, publicKey }: LockVerbOptions, context: Context): Promise<OwnerKeys> {
  const owner = await import('../../owner/owner-keys.js');
  const { loadOwnerPublicKey } = await import('../../edge/owner-key.js');
  const known = existsSync(file);
  const keys = known ? await owner.loadOwnerKeys(file) : owner.createOwnerKeys();
  const published = existsSync(publicKey);
  if (published && !equalBytes(await loadOwnerPublicKey(publicKey), keys.signingKey)) {
    const message = `${publicKey} is the public key of another owner; choose another --public-key`;
    throw new EnvironmentError('key-file', message, { path: publicKey });
  }
  if (known)
    context.note(`using the keys of ${file}: the same checkpoint gives the same bundle; another model wants its own`);
  else await owner.saveOwnerKeys(file, keys);
  if (!published) await owner.saveOwnerPublicKey(publicKey, keys);
  return keys;
}

function megabytes(bytes: number): number {
  return Math.round(bytes / 1e6);
}
