// distillock lock: a checkpoint becomes a bundle that can be handed out. Run by the model owner.
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import type { OwnerKeys } from '../../owner/owner-keys.js';
import { equalBytes } from '../../trusted/wire/bytes.js';
import { EnvironmentError } from '../../trusted/wire/errors.js';
import { QUANTIZATIONS, type Quantization, SCHEMES, type Scheme } from '../../trusted/wire/manifest.js';
import { InterruptedError } from '../errors.js';
import { renderPairs } from '../table.js';
import { formatBytes } from '../terminal.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface LockVerbOptions {
  /** Folder, GGUF file or hub id. */
  readonly model: string;
  readonly out: string;
  readonly scheme: Scheme;
  readonly quantize: Quantization;
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
    ['distillock lock --model ./my-model --out my-model.lock --keys my-model.keys --quantize int4', 'a smaller bundle'],
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
      .addOption(new Option('--scheme <name>', 'how weights are locked').choices(SCHEMES).default('rotation'))
      .addOption(
        new Option('--quantize <format>', 'store matrices as integers, after locking')
          .choices(QUANTIZATIONS)
          .default('none'),
      );
  },
  parse(command: Command): LockVerbOptions {
    const { model, out, scheme, quantize, keys, publicKey } = command.opts<LockVerbOptions>();
    return { model, out, scheme, quantize, keys, publicKey: publicKey ?? `${keys}.pub` };
  },
};

export const lock: Verb<LockVerbOptions> = { ...lockHelp, run: runLock };

/** What --json prints. */
interface LockResult {
  readonly bundleId: string;
  readonly bundle: string;
  readonly bytes: number;
  readonly seconds: number;
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
    const keys = await prepareKeys(options, context);
    const progress = context.progress('locking');
    const onProgress = ({ bytesDone, bytesTotal }: { bytesDone: number; bytesTotal: number }): void => {
      if (context.signal.aborted)
        throw new InterruptedError('Nothing was left behind; the keys are kept for the next try.');
      // Small models are done before anybody wonders.
      if (performance.now() - started < 1000) return;
      progress.update({ tokens: megabytes(bytesDone), totalTokens: megabytes(bytesTotal), unit: 'MB' });
    };
    const { bundleId } = await lockModel({ checkpoint, outDir: out, scheme, quantize, keys, onProgress });
    progress.stop();
    const seconds = (performance.now() - started) / 1000;
    const { manifest } = await openBundle(out, { ownerKey: keys.signingKey, checkHashes: false });
    const listed = manifest.files.reduce((sum, { size }) => sum + size, 0);
    const bytes = listed + (await stat(join(out, 'manifest.json'))).size + (await stat(join(out, 'manifest.jws'))).size;
    const rows = [
      ['bundle', out],
      ['bundle id', bundleId],
      ['scheme', scheme],
      ['matrices', quantize === 'none' ? 'float32' : quantize],
      ['size', formatBytes(bytes)],
      ['seconds', seconds.toFixed(1)],
    ] as const;
    context.print(renderPairs(rows, context.colour));
    context.print(
      `Give ${out} and ${options.publicKey} to the data owner. Keep ${options.keys} secret: it grants licences.`,
    );
    return { bundleId, bundle: out, bytes, seconds, keys: options.keys, publicKey: options.publicKey };
  } finally {
    await checkpoint.tensors.close();
  }
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
