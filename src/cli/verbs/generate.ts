// distillock generate: text from a student, or from a locked teacher within its licence; streams to the terminal.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { text as readAll } from 'node:stream/consumers';
import type { Command } from 'commander';
import type { Accelerator } from '../../edge/teacher/accelerator.js';
import type { Gate } from '../../edge/teacher/gate.js';
import type { TokenizerFiles } from '../../model/checkpoint/tokenizer-files.js';
import type { DecoderConfig } from '../../model/config.js';
import type { Tokenizer } from '../../model/tokenizer.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { addEnclaveFlags, type EnclaveFlags, readEnclaveFlags } from '../enclave-flags.js';
import { InterruptedError, UsageError } from '../errors.js';
import { realNumber, wholeNumber } from '../options.js';
import { formatNumber } from '../terminal.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface GenerateVerbOptions {
  /** Checkpoint folder or bundle. */
  readonly model: string;
  /** PEFT folder of adapters for a student. */
  readonly adapter: string | undefined;
  /** undefined: read from stdin. */
  readonly prompt: string | undefined;
  readonly applyChatTemplate: boolean;
  readonly maxNewTokens: number;
  /** 0: greedy. */
  readonly temperature: number;
  readonly topK: number | undefined;
  readonly topP: number;
  readonly seed: number;
  /** For a bundle. */
  readonly ownerKey: string | undefined;
  readonly enclave: EnclaveFlags;
}

interface Raw {
  readonly model: string;
  readonly adapter: string | undefined;
  readonly prompt: string | undefined;
  readonly apply_chat_template: boolean;
  readonly max_new_tokens: number;
  readonly temperature: number;
  readonly top_k: number | undefined;
  readonly top_p: number;
  readonly seed: number;
  readonly owner_key: string | undefined;
}

export const generateHelp: VerbHelp<GenerateVerbOptions> = {
  name: 'generate',
  summary: 'generate text with a student or a licensed teacher (edge)',
  examples: [
    ['distillock generate --model out --prompt "Once upon a time"', 'greedy, from a student'],
    ['echo "Why is the sky blue?" | distillock generate --model t.lock --temperature 0.7', 'sampled, from a teacher'],
  ],
  define(command: Command): void {
    command
      .requiredOption('--model <dir|file|bundle>', 'student: checkpoint folder or .gguf file; teacher: bundle')
      .option(
        '--adapter <dir>',
        "students: PEFT folder of adapters (a PEFT folder as --model brings its base's weights along)",
      )
      .option('--prompt <text>', 'text to go on from (default: stdin)')
      .option('--max_new_tokens <n>', 'tokens at most', wholeNumber(1, 1_000_000), 256)
      .option('--temperature <x>', '0 takes the most likely token', realNumber(0, 100), 0)
      .option(
        '--top_k <n>',
        'sample from the n most likely tokens (default: 64, or what the licence allows)',
        wholeNumber(1),
      )
      .option('--top_p <x>', 'sample from the most likely tokens that make up this share', realNumber(0, 1), 1)
      .option('--seed <n>', 'of the sampling', wholeNumber(0, 2 ** 32 - 1), 42)
      .option('--no-apply_chat_template', 'take the prompt as it is')
      .option('--owner_key <file>', "bundles: the owner's public key (default: the pinned one)");
    addEnclaveFlags(command, 'bundles: ');
  },
  parse(command: Command): GenerateVerbOptions {
    const raw = command.opts<Raw>();
    return {
      model: raw.model,
      adapter: raw.adapter,
      prompt: raw.prompt,
      applyChatTemplate: raw.apply_chat_template,
      maxNewTokens: raw.max_new_tokens,
      temperature: raw.temperature,
      topK: raw.top_k,
      topP: raw.top_p,
      seed: raw.seed,
      ownerKey: raw.owner_key,
      enclave: readEnclaveFlags(command),
    };
  },
};

export const generate: Verb<GenerateVerbOptions> = { ...generateHelp, run: runGenerate };

/** What --json prints. */
interface GenerateResult {
  readonly text: string;
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** Tokens left of the licence; null for a model without one. */
  readonly budgetLeft: number | null;
}

/** A bundle behind its enclave, or a plain checkpoint: what generation needs of either. */
interface Source {
  readonly config: DecoderConfig;
  readonly tokenizer: TokenizerFiles;
  readonly accelerator: Accelerator;
  readonly topK: number;
  gate(): Promise<Gate>;
  budgetLeft(): Promise<number | null>;
  close(): Promise<void>;
}

const DEFAULT_TOP_K = 64;

async function runGenerate(options: GenerateVerbOptions, context: Context): Promise<GenerateResult> {
  const { generate: generateTokens } = await import('../../edge/teacher/generate.js');
  const { openTokenizer } = await import('../../model/tokenizer.js');
  const prompt = options.prompt ?? (await promptFromStdin(context));
  const source = existsSync(join(options.model, 'manifest.json'))
    ? await openLocked(options, context)
    : await openPlain(options, context);
  try {
    const { config } = source;
    const tokenizer = await openTokenizer(source.tokenizer);
    const promptIds = await encodePrompt(prompt, tokenizer, source.tokenizer, options.applyChatTemplate);
    const room = config.maxPositionEmbeddings - promptIds.length;
    if (room < 1) {
      const message = `the prompt has ${promptIds.length} tokens, the model reads at most ${config.maxPositionEmbeddings - 1}`;
      throw new MalformedError('prompt-too-long', message, { tokens: promptIds.length });
    }
    const stopIds = new Set(config.eosTokenIds);
    if (tokenizer.eosTokenId !== null) stopIds.add(tokenizer.eosTokenId);
    const { temperature, topP, seed } = options;
    const maxNewTokens = Math.min(options.maxNewTokens, room);
    const settings = { maxNewTokens, topK: source.topK, temperature, topP, seed, stopIds, signal: context.signal };
    const gate = await source.gate();
    const stream = tokenizer.stream({ skipSpecialTokens: true });
    // The end of the prompt goes first, so that the first new piece keeps its leading space.
    for (const id of promptIds.slice(-8)) stream.push(id);
    let text = '';
    let tokens = 0;
    const say = (piece: string): void => {
      text += piece;
      context.write(piece);
    };
    let started = performance.now();
    for await (const id of generateTokens(source.accelerator, gate, promptIds, settings)) {
      // Reading the prompt comes before the first token and is not generation.
      if (tokens === 0) started = performance.now();
      tokens += 1;
      say(stream.push(id));
    }
    const seconds = (performance.now() - started) / 1000;
    say(stream.end());
    context.write('\n');
    if (context.signal.aborted) throw new InterruptedError(null);
    const tokensPerSecond = tokens < 2 ? 0 : (tokens - 1) / seconds;
    const budgetLeft = await source.budgetLeft();
    if (context.interactive) context.note(describeRun(tokens, tokensPerSecond, budgetLeft));
    return { text, tokens, tokensPerSecond, budgetLeft };
  } finally {
    await source.close();
  }
}

async function promptFromStdin({ note }: Context): Promise<string> {
  if (process.stdin.isTTY) note('type the prompt, then Ctrl-D');
  return (await readAll(process.stdin)).replace(/\r?\n$/, '');
}

async function encodePrompt(
  prompt: string,
  tokenizer: Tokenizer,
  files: TokenizerFiles,
  applyChatTemplate: boolean,
): Promise<Int32Array> {
  const { openChatTemplate } = await import('../../model/chat-template.js');
  const template = applyChatTemplate ? openChatTemplate(files) : null;
  const ids =
    template === null
      ? tokenizer.encode(prompt)
      : tokenizer.encode(template.render([{ role: 'user', content: prompt }], { addGenerationPrompt: true }), {
          addSpecialTokens: false,
        });
  if (ids.length === 0) throw new UsageError('usage', 'the prompt is empty; give --prompt or text on stdin');
  return ids;
}

async function openLocked(options: GenerateVerbOptions, context: Context): Promise<Source> {
  const { openTeacher } = await import('../open-teacher.js');
  const { checkLicence } = await import('../../edge/distill.js');
  const { readTokenizerFiles } = await import('../../model/checkpoint/tokenizer-files.js');
  const { model, ownerKey, enclave, temperature } = options;
  if (options.adapter !== undefined)
    throw new UsageError('usage', `${model} is a locked teacher: adapters belong to students; leave --adapter out`);
  const teacher = await openTeacher({ bundle: model, ownerKey, ...enclave }, context);
  try {
    await checkLicence(teacher);
    const { licence } = await teacher.client.status();
    const { config } = teacher.bundle;
    const allowed = Math.min(licence?.topK ?? DEFAULT_TOP_K, config.vocabSize);
    const topK = chooseTopK(options, allowed, config.vocabSize);
    return {
      config,
      tokenizer: await readTokenizerFiles(model),
      accelerator: await teacher.accelerator(),
      topK,
      gate: () => teacher.gate({ topK, temperature: temperature === 0 ? 1 : temperature }),
      budgetLeft: async () => (await teacher.client.status()).licence?.remainingTokens ?? null,
      close: teacher.close,
    };
  } catch (error) {
    await teacher.close();
    throw error;
  }
}

async function openPlain(options: GenerateVerbOptions, context: Context): Promise<Source> {
  const { openUnlockedModel } = await import('../../edge/teacher/unlocked-model.js');
  const { readSegmentWeight } = await import('../../model/segment-weights.js');
  const { openGate } = await import('../../edge/teacher/gate.js');
  const model = await openUnlockedModel(options.model, context.signal, readSegmentWeight, options.adapter);
  const { vocabSize } = model.config;
  const topK = chooseTopK(options, Math.min(DEFAULT_TOP_K, vocabSize), vocabSize);
  return { ...model, topK, gate: async () => openGate, budgetLeft: async () => null };
}

/** Greedy needs one token; the accelerator cannot give more than the vocabulary has. */
function chooseTopK({ temperature, topK }: GenerateVerbOptions, fallback: number, vocabSize: number): number {
  return temperature === 0 ? 1 : Math.min(topK ?? fallback, vocabSize);
}

function describeRun(tokens: number, tokensPerSecond: number, budgetLeft: number | null): string {
  const speed = tokensPerSecond === 0 ? [] : [`${formatNumber(Math.round(tokensPerSecond))} tokens/s`];
  const budget = budgetLeft === null ? [] : [`budget ${formatNumber(budgetLeft)} left`];
  return [`${formatNumber(tokens)} tokens`, ...speed, ...budget].join(', ');
}
