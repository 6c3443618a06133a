// The body of `distillock verify-lock`: opens both models, cuts the text into windows, compares, and fails when the lock changed anything.
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { openBundle } from '../edge/bundle.js';
import { openUnlockedModel, type UnlockedModel } from '../edge/teacher/unlocked-model.js';
import { describeFileError } from '../model/files.js';
import { openTokenizer } from '../model/tokenizer.js';
import { compareLocked, type LockComparison } from '../owner/compare-lock.js';
import { checkKeysOfBundle } from '../owner/keys-of-bundle.js';
import { loadOwnerKeys } from '../owner/owner-keys.js';
import { plainTiles } from '../owner/scheme/lock-weight.js';
import { MalformedError, VerificationError } from '../trusted/wire/errors.js';
import type { Quantization } from '../trusted/wire/manifest.js';
import { InterruptedError } from './errors.js';
import { logProbabilitiesOf, openOwnerModel } from './owner-model.js';
import { askPassphrase } from './passphrase.js';
import { checkSameModel } from './same-model.js';
import { renderTable } from './table.js';
import { formatNumber } from './terminal.js';
import type { Context } from './verb.js';
import type { VerifyLockOptions } from './verbs/verify-lock.js';

const bundledText = fileURLToPath(new URL('../../../assets/text/valid.txt', import.meta.url));

/** Tokens whose log-probabilities over the whole vocabulary exist at once. */
const windowTokens = 128;

export interface VerifyLockResult extends LockComparison {
  readonly bundleId: string;
  readonly tolerance: number;
}

export async function runVerifyLock(options: VerifyLockOptions, context: Context): Promise<VerifyLockResult> {
  const keys = await loadOwnerKeys(options.keys, askPassphrase);
  const bundle = await openBundle(options.bundle, { ownerKey: keys.signingKey });
  await checkKeysOfBundle(options.bundle, bundle.manifest, keys, options.keys);
  const plain = await openUnlockedModel(options.model, context.signal, plainTiles);
  try {
    await checkSameModel(bundle, plain, options.model);
    const { vocabSize } = plain.config;
    const windows = await windowsOf(options, plain);
    const locked = await openOwnerModel(bundle, keys);
    try {
      const total = windows.reduce((sum, { length }) => sum + length, 0);
      const progress = context.progress('comparing');
      const started = performance.now();
      const onTokens = (tokens: number): void => {
        if (context.signal.aborted) throw new InterruptedError(null);
        if (performance.now() - started > 2000) progress.update({ tokens, totalTokens: total });
      };
      const original = logProbabilitiesOf(plain.accelerator);
      const { topK, tolerance } = options;
      const pair = { original, locked: locked.logProbabilities, vocabSize };
      const found = await compareLocked(pair, windows, { topK, tolerance, onTokens });
      progress.stop();
      const result = { bundleId: bundle.bundleId, tolerance, ...found };
      showResult(result, options, context);
      if (!found.equal) throw differs(result, options, bundle.manifest.quantize);
      return result;
    } finally {
      await locked.close();
    }
  } finally {
    await plain.close();
  }
}

/** The text as windows of token ids; BOS, where the tokenizer adds one, begins the text only. */
async function windowsOf(options: VerifyLockOptions, { tokenizer, config }: UnlockedModel): Promise<Int32Array[]> {
  const file = options.text ?? bundledText;
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  // More characters than any token spells on average; encoding a whole book for its first page would take its time.
  const ids = (await openTokenizer(tokenizer))
    .encode(text.slice(0, 32 * options.maxTokens))
    .slice(0, options.maxTokens);
  if (ids.length < 2)
    throw new MalformedError('text-empty', `${file} has no text to compare on; give another --text`, { file });
  const length = Math.min(windowTokens, config.maxPositionEmbeddings);
  return Array.from({ length: Math.ceil(ids.length / length) }, (_, i) => ids.slice(i * length, (i + 1) * length));
}

function showResult(result: VerifyLockResult, { topK }: VerifyLockOptions, { print, colour }: Context): void {
  const { tokens, maxDelta, maxDeltaTopK, agreement, flips, kl, tolerance } = result;
  const columns = [{ title: 'locked against original' }, { title: 'found', numeric: true }, { title: 'allowed' }];
  const rows = [
    [`largest difference, top ${topK}`, maxDeltaTopK.toExponential(1), ''],
    ['largest difference, whole vocabulary', maxDelta.toExponential(1), `${tolerance} nats`],
    ['same most likely token', `${(100 * agreement).toFixed(2)} %`, ''],
    ['another one that is no near tie', formatNumber(flips), '0'],
    ['KL(original‖locked), nats a token', kl.toExponential(1), ''],
  ];
  print(renderTable(columns, rows, colour));
  print(`${formatNumber(tokens)} tokens compared.`);
}

function differs(
  result: VerifyLockResult,
  { bundle, model }: VerifyLockOptions,
  quantize: Quantization,
): VerificationError {
  const { maxDeltaTopK, maxDelta, tolerance, flips, agreement, kl, tokens } = result;
  const rounded =
    quantize === 'none'
      ? ''
      : `; its matrices are ${quantize}, which rounds: judge the KL of ${kl.toExponential(1)} nats a token`;
  const message = `${bundle} does not say what ${model} says: log-probabilities differ by up to ${maxDelta.toExponential(1)} nats (allowed ${tolerance}), and ${flips} of ${tokens} most likely tokens are others${rounded}`;
  // JSON knows no infinity.
  const finite = (x: number): number => (Number.isFinite(x) ? x : Number.MAX_VALUE);
  return new VerificationError('lock-differs', message, {
    maxDeltaTopK: finite(maxDeltaTopK),
    maxDelta: finite(maxDelta),
    tolerance,
    flips,
    agreement,
    kl: finite(kl),
    tokens,
  });
}
