// distillock inspect: what a bundle says about itself, and whether files and signature agree with it. Needs no licence.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { parseManifest, segmentFiles } from '../../model/bundle-manifest.js';
import type { DecoderConfig } from '../../model/config.js';
import { type Crossing, crossingsOf } from '../../model/spans.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { bundleId, type Manifest, SEALED_PART } from '../../trusted/wire/manifest.js';
import { describePlan, matricesRow } from '../describe-plan.js';
import { renderPairs, renderTable } from '../table.js';
import { formatBytes, formatNumber, paint } from '../terminal.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

/** Top-k whose release is counted where the head lies on the accelerator. */
const CROSSING_TOP_K = 64;

export interface InspectVerbOptions {
  readonly bundle: string;
  /** Owner's public key; undefined: the signature cannot be checked, and the output says so. */
  readonly ownerKey: string | undefined;
}

export const inspectHelp: VerbHelp<InspectVerbOptions> = {
  name: 'inspect',
  summary: 'show a bundle: plan, sizes, signature',
  examples: [['distillock inspect t.lock --owner_key t.keys.pub', 'and check that this owner signed it']],
  define(command: Command): void {
    command.argument('<bundle>', 'bundle folder').option('--owner_key <file>', "owner's public key to check against");
  },
  parse(command: Command): InspectVerbOptions {
    const { owner_key } = command.opts<{ readonly owner_key: string | undefined }>();
    return { bundle: command.args[0]!, ownerKey: owner_key };
  },
};

export const inspect: Verb<InspectVerbOptions> = { ...inspectHelp, run: runInspect };

/** What --json prints. */
interface InspectResult {
  readonly bundleId: string;
  readonly signature: 'verified' | 'unverified';
  readonly parameters: number;
  readonly acceleratorBytes: number;
  readonly enclaveBytes: number;
  /** What crosses between the two, per token; release at top-64. */
  readonly crossings: readonly Crossing[];
  /** Transforms of the scheme that this family does not commute with. */
  readonly leftOut: readonly string[];
  readonly manifest: Manifest;
}

async function runInspect(
  { bundle: dir, ownerKey: keyFile }: InspectVerbOptions,
  context: Context,
): Promise<InspectResult> {
  const { configOfManifest } = await import('../../edge/bundle-config.js');
  const { expectedTensors } = await import('../../model/checkpoint/expected-tensors.js');
  const { leftOutOf } = await import('../../owner/scheme/left-out.js');
  const { id, manifest } = await openManifest(dir, keyFile);
  const config = configOfManifest(manifest);
  const parameters = expectedTensors(config).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const leftOut = leftOutOf(manifest.scheme, config);
  const sizeOf = new Map(manifest.files.map(({ path, size }) => [path, size]));
  const bytesOf = (paths: readonly string[]): number => paths.reduce((sum, path) => sum + (sizeOf.get(path) ?? 0), 0);
  const acceleratorBytes = bytesOf(
    manifest.segments.flatMap((segment) => (segment.place === 'accelerator' ? segmentFiles(segment) : [])),
  );
  const inside = manifest.segments.flatMap((segment) => (segment.place === 'enclave' ? segmentFiles(segment) : []));
  const enclaveBytes = bytesOf([SEALED_PART, ...inside]);
  const crossings = crossingsOf(manifest.plan, config.hiddenSize, CROSSING_TOP_K);
  const rows: [string, string][] = [
    ['bundle', dir],
    ['bundle id', id],
    ['signature', describeSignature(manifest, keyFile, context)],
    ['made by', manifest.createdBy],
    ['scheme', manifest.scheme],
    ...leftOut.map((line): [string, string] => ['left out', line]),
    ['plan', describePlan(manifest.plan)],
    ...matricesRow(manifest.plan, manifest.quantize),
    ['model', describeModel(config)],
    ['parameters', formatNumber(parameters)],
    ['accelerator', `${formatBytes(acceleratorBytes)} of locked weights, readable by anybody`],
    ['enclave', `${formatBytes(enclaveBytes)} sealed: opens with a licence only`],
    ...crossings.map((crossing, i): [string, string] => [i === 0 ? 'crosses' : '', describeCrossing(crossing)]),
    ['tokenizer', `sha256 ${manifest.tokenizerSha256}`],
  ];
  context.print(renderPairs(rows, context.colour));
  const columns = [{ title: 'file' }, { title: 'size', numeric: true }, { title: 'sha256' }];
  const files = manifest.files.map(({ path, size, sha256 }) => [path, formatBytes(size), `${sha256.slice(0, 16)}…`]);
  context.print(`\n${renderTable(columns, files, context.colour)}`);
  context.print('Every file has the size and hash that manifest.json lists.');
  const signature = keyFile === undefined ? 'unverified' : 'verified';
  return { bundleId: id, signature, parameters, acceleratorBytes, enclaveBytes, crossings, leftOut, manifest };
}

/** Checks every file; the signature too when the owner's key is known. */
async function openManifest(dir: string, keyFile: string | undefined): Promise<{ id: string; manifest: Manifest }> {
  const { checkBundleFile, openBundle } = await import('../../edge/bundle.js');
  if (keyFile !== undefined) {
    const { loadOwnerPublicKey } = await import('../../edge/owner-key.js');
    const { bundleId: id, manifest } = await openBundle(dir, { ownerKey: await loadOwnerPublicKey(keyFile) });
    return { id, manifest };
  }
  const file = join(dir, 'manifest.json');
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new MalformedError('manifest-missing', `${file} cannot be read: ${dir} is not a bundle`, { file }, cause);
  });
  const manifest = parseManifest(bytes);
  for (const listed of manifest.files) await checkBundleFile(dir, listed, true);
  return { id: bundleId(bytes), manifest };
}

function describeSignature({ ownerKeyId }: Manifest, keyFile: string | undefined, { colour }: Context): string {
  return keyFile === undefined
    ? `${paint(colour, 'yellow', 'UNVERIFIED')}: give the owner's key with --owner_key (the bundle names key ${ownerKeyId})`
    : `${paint(colour, 'green', 'verified')} with ${keyFile} (key ${ownerKeyId})`;
}

function describeCrossing({ from, to, what, bytesPerToken }: Crossing): string {
  return `${from} → ${to}: ${what}, ${formatNumber(bytesPerToken)} bytes a token`;
}

function describeModel(config: DecoderConfig): string {
  const { modelType, numHiddenLayers, hiddenSize, intermediateSize, numAttentionHeads, numKeyValueHeads, vocabSize } =
    config;
  const heads = `${numAttentionHeads} heads (${numKeyValueHeads} key/value)`;
  return `${modelType}, ${numHiddenLayers} blocks, width ${hiddenSize}, feed-forward ${intermediateSize}, ${heads}, vocabulary ${formatNumber(vocabSize)}`;
}
