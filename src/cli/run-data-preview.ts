// The body of `distillock data preview`: reads and tokenises as `distill` does and prints records with what counts in the loss.
import { existsSync } from 'node:fs';
import { extname } from 'node:path';
import { type Config, createConfig, loadConfig } from '../edge/config.js';
import { type Piece, partsOf, piecesOf } from '../edge/data/pieces.js';
import { readDataset } from '../edge/data/read.js';
import type { DataRecord } from '../edge/data/record.js';
import { type Fate, type TokeniseReport, Tokeniser, tokeniseRecords } from '../edge/data/tokenise.js';
import { batchesFor, readOptions, tokeniseOptions } from '../edge/prepare.js';
import { openChatTemplate } from '../model/chat-template.js';
import { openCheckpoint } from '../model/checkpoint/open.js';
import { readTokenizerFiles, type TokenizerFiles } from '../model/checkpoint/tokenizer-files.js';
import { openTokenizer } from '../model/tokenizer.js';
import { describeData } from './describe-data.js';
import { UsageError } from './errors.js';
import { formatNumber, paint } from './terminal.js';
import type { Context } from './verb.js';
import type { PreviewOptions } from './verbs/data/preview.js';

/** A record that is shown. */
export interface Sample {
  /** Line, item or row in the file. */
  readonly line: number;
  readonly kind: DataRecord['kind'];
  /** null without a tokenizer. */
  readonly fate: Fate | null;
  /** Tokens before cutting; null without a tokenizer. */
  readonly length: number | null;
  /** One list for each example that the record becomes. */
  readonly examples: readonly (readonly Piece[])[];
}

/** What --json prints. */
export interface PreviewResult {
  readonly dataset: string;
  readonly tokenizer: string | null;
  readonly chatTemplate: boolean;
  readonly records: number;
  /** Over all records; null without a tokenizer. */
  readonly report: TokeniseReport | null;
  /** Rows of an epoch and the share of them that is padding, with the run's max_length and packing. */
  readonly rows: number | null;
  readonly paddingShare: number | null;
  readonly samples: readonly Sample[];
}

export async function runDataPreview(options: PreviewOptions, context: Context): Promise<PreviewResult> {
  const { config, tokenizer: chosen } = await settingsOf(options);
  const records = await readDataset(config.dataset, readOptions(config));
  const shown = records.slice(0, options.limit);
  const base = { dataset: config.dataset, tokenizer: chosen, records: records.length };
  if (chosen === null) {
    const loss = { completionOnlyLoss: config.completion_only_loss, assistantOnlyLoss: config.assistant_only_loss };
    const samples = shown.map((record) => ({
      ...originOf(record),
      fate: null,
      length: null,
      examples: [partsOf(record, loss)],
    }));
    const result = { ...base, chatTemplate: false, report: null, rows: null, paddingShare: null, samples };
    show(result, config, context);
    context.print('Without --tokenizer there is no template and nothing is counted.');
    return result;
  }
  const files = await tokenizerFiles(chosen);
  const tokenizer = await openTokenizer(files);
  const template = openChatTemplate(files);
  const settings = tokeniseOptions(config, template);
  const tokeniser = new Tokeniser(tokenizer, settings);
  const samples = shown.map((record) => {
    const { examples, fate, length } = tokeniser.tokenise(record);
    return { ...originOf(record), fate, length, examples: examples.map((example) => piecesOf(example, tokenizer)) };
  });
  const { examples, report } = tokeniseRecords(records, tokenizer, settings);
  const { rows, paddingShare } = batchesFor(config, examples, 'train', 0).stats;
  const chatTemplate = template !== null && config.apply_chat_template;
  const result = { ...base, chatTemplate, report, rows, paddingShare, samples };
  show(result, config, context);
  return result;
}

/** Settings of a run, or of a data file by itself; a config's teacher brings the tokenizer. */
async function settingsOf({
  path,
  tokenizer,
  flags,
}: PreviewOptions): Promise<{ config: Config; tokenizer: string | null }> {
  if (['.yaml', '.yml'].includes(extname(path).toLowerCase())) {
    const config = await loadConfig(path, flags);
    return { config, tokenizer: tokenizer ?? config.teacher_model_name_or_path };
  }
  // No model is opened and nothing is written: these settings only have to be there.
  const unused = { model_name_or_path: '.', teacher_model_name_or_path: '.', output_dir: '.' };
  const { dataset } = createConfig({ ...unused, dataset: path });
  return { config: await loadConfig(undefined, { ...unused, ...flags, dataset }), tokenizer };
}

async function tokenizerFiles(model: string): Promise<TokenizerFiles> {
  if (model.endsWith('.gguf')) {
    const checkpoint = await openCheckpoint(model);
    await checkpoint.tensors.close();
    if (checkpoint.tokenizer !== null) return checkpoint.tokenizer;
    throw new UsageError(
      'usage',
      `${model} has no tokenizer; give --tokenizer the folder of the model it was made from`,
    );
  }
  if (existsSync(model)) return readTokenizerFiles(model);
  throw new UsageError(
    'usage',
    `--tokenizer ${model}: there is no such folder or file; give a checkpoint's folder, a bundle or a .gguf file`,
  );
}

function originOf({ kind, origin }: DataRecord): Pick<Sample, 'line' | 'kind'> {
  return { line: origin.line, kind };
}

function show(
  { dataset, tokenizer, chatTemplate, records, report, rows, paddingShare, samples }: PreviewResult,
  config: Config,
  { print, colour }: Context,
): void {
  const how =
    tokenizer === null ? '' : `, tokenizer of ${tokenizer}, ${chatTemplate ? 'with its' : 'no'} chat template`;
  print(paint(colour, 'bold', `${dataset}: ${formatNumber(records)} records${how}`));
  print(colour ? legendInColour() : 'What counts in the loss stands between ⟦ and ⟧.');
  for (const [i, sample] of samples.entries()) {
    print('');
    print(paint(colour, 'dim', headingOf(sample, i + 1)));
    for (const [part, pieces] of sample.examples.entries()) {
      if (part > 0) print(paint(colour, 'dim', `— continued in example ${part + 1} —`));
      print(renderPieces(pieces, colour));
    }
  }
  print('');
  if (report === null) return;
  for (const line of describeData('all records', report, config)) print(line);
  const padding = `${(paddingShare! * 100).toFixed(1)} % padding`;
  const packed = config.packing ? 'packed' : config.group_by_length ? 'grouped by length' : 'not packed';
  print(`longest record: ${formatNumber(report.longest)} tokens`);
  print(
    `rows of an epoch: ${formatNumber(rows!)} of ${config.max_length} tokens at most, ${packed}, ${padding} in batches of ${config.per_device_train_batch_size}`,
  );
}

function legendInColour(): string {
  return `${paint(true, COUNTS, 'This counts in the loss')}, ${paint(true, CONTEXT, 'this does not.')}`;
}

function headingOf({ line, kind, fate, length, examples }: Sample, number: number): string {
  const where = `record ${number}, line ${line}, ${kind}`;
  if (fate === null) return `── ${where}`;
  const counted = examples.flat().filter(({ counts }) => counts).length;
  const fates: Readonly<Record<Fate, string>> = {
    whole: '',
    divided: `, divided into ${examples.length} examples`,
    truncated: ', cut at max_length',
    untargeted: ', left out: nothing in it counts',
    'left-out': ', left out: longer than max_length',
  };
  return `── ${where}, ${formatNumber(length!)} tokens, ${formatNumber(counted)} count${fates[fate]}`;
}

const COUNTS = 'green';
const CONTEXT = 'dim';

/** Runs of pieces that count and that do not: in two colours, or the former between ⟦ and ⟧. */
export function renderPieces(pieces: readonly Piece[], colour: boolean): string {
  const runs: { text: string; counts: boolean }[] = [];
  for (const { text, counts } of pieces) {
    const last = runs.at(-1);
    if (last !== undefined && last.counts === counts) last.text += text;
    else runs.push({ text, counts });
  }
  return runs
    .filter(({ text }) => text !== '')
    .map(({ text, counts }) => {
      const safe = visible(text);
      if (!colour) return counts ? `⟦${safe}⟧` : safe;
      // A colour ends with its line, so that a pager which cuts lines shows the next one right.
      return safe
        .split('\n')
        .map((line) => (line === '' ? '' : paint(true, counts ? COUNTS : CONTEXT, line)))
        .join('\n');
    })
    .join('');
}

/** Data must not steer the terminal: control characters and marks that reverse the writing direction are spelled out. */
function visible(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]|[\u202a-\u202e\u2066-\u2069]/gu, (character) => {
    const code = character.codePointAt(0)!.toString(16).padStart(4, '0');
    return `\\u${code}`;
  });
}
