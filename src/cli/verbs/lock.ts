// distillock lock: a checkpoint becomes a bundle that can be handed out. Run by the model owner.
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import type { LockProgress } from '../../owner/lock-checkpoint.js';
import type { OwnerKeys } from '../../owner/owner-keys.js';
import { equalBytes } from '../../trusted/wire/bytes.js';
import { EnvironmentError } from '../../trusted/wire/errors.js';
import { SCHEMES, type Scheme } from '../../trusted/wire/manifest.js';
import { InterruptedError } from '../errors.js';
import { renderPairs } from '../table.js';
import { formatBytes } from '../terminal.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface LockVerbOptions {
  /** Folder, GGUF file or hub id. */
  readonly model: string;
  readonly out: string;
  readonly scheme: Scheme;
  /** Owner secrets: read when the file exists (the same lock again), otherwise made and written. */
  readonly keys: string;
  /** Where the owner's public key goes, for the edge to pin. */
  readonly publicKey: string;
}

export const lockHelp: VerbHelp<LockVerbOptions> = {
  name: 'lock',
  summary: 'lock a checkpoint into a bundle (owner)',
  examples: [
    ['distillock lock --model ./my-model --out my-model.lock --keys my-model.keys', 'a Hugging Face folder'],
    ['distillock lock --model teacher.Q8_0.gguf --out teacher.lock --keys teacher.keys', 'a GGUF file'],
    ['distillock lock --model HuggingFaceTB/SmolLM2-135M --out s.lock --keys s.keys', 'a model of the hub'],
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
      .addOption(new Option('--scheme <name>', 'how weights are locked').choices(SCHEMES).default('rotation'));
  },
  parse(command: Command): LockVerbOptions {
    const { model, out, scheme, keys, publicKey } = command.opts<LockVerbOptions>();
    return { model, out, scheme, keys, publicKey: publicKey ?? `${keys}.pub` };
  },
};

export const lock: Verb<LockVerbOptions> = { ...lockHelp, run: runLock };

/** What --json prints. */
interface LockResult {
  readonly bundleId: string;
  readonly bundle: string;
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
  const { model, out, scheme } = options;
  if (existsSync(out)) {
    const message = `${out} exists; a bundle is never overwritten, choose another --out`;
    throw new EnvironmentError('bundle-exists', message, { path: out });
  }
  const started = performance.now();
  const checkpoint = await openCheckpoint(model);
  try {
    const keys = await prepareKeys(options, context);
    const { onProgress, stop, lockedHere } = followLock(context);
    const { bundleId } = await lockModel({ checkpoint, outDir: out, scheme, keys, onProgress });
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
      ['size', formatBytes(bytes)],
      ['seconds', `${seconds.toFixed(1)} (${megabytesPerSecond.toFixed(0)} MB/s)`],
    ] as const;
    context.print(renderPairs(rows, context.colour));
    context.print(
      `Give ${out} and ${options.publicKey} to the data owner. Keep ${options.keys} secret: it grants licences.`,
    );
    const { keys: keyFile, publicKey } = options;
    return { bundleId, bundle: out, bytes, seconds, megabytesPerSecond, keys: keyFile, publicKey };
  } finally {
    await checkpoint.tensors.close();
  }
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
