// `--also`: further bundles of the audited model that the attacker holds, or, without a bundle, placements to lock it into once more.
// Zone: owner (as attacker). They are read as any holder reads them: no signature is asked for.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readLockedWeights } from '../../audit/locked-weights.js';
import type { OpenBundle } from '../../audit/open-parts.js';
import { type Bundle, checkBundleFile } from '../../edge/bundle.js';
import { configOfManifest } from '../../edge/bundle-config.js';
import { parseManifest } from '../../model/bundle-manifest.js';
import type { Checkpoint } from '../../model/checkpoint/hf-directory.js';
import type { DecoderConfig } from '../../model/config.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { bundleId } from '../../trusted/wire/manifest.js';
import type { Context } from '../verb.js';
import type { AuditVerbOptions } from '../verbs/audit.js';
import { checkShape } from './ancestor.js';
import { lockAll } from './audited-bundles.js';

/** Throws MalformedError('audit-also', 'manifest-missing') and what reading a bundle throws. */
export async function readAlso(
  { also, bundle, schemes }: Pick<AuditVerbOptions, 'also' | 'bundle' | 'schemes'>,
  checkpoint: Checkpoint,
  folder: string,
  context: Context,
): Promise<OpenBundle[]> {
  if (also.length === 0) return [];
  const dirs =
    bundle !== null
      ? also
      : (await lockAll(checkpoint, schemes.slice(0, 1), also, join(folder, 'also'), context)).map(
          ({ locked }) => locked.bundleDir,
        );
  const found: OpenBundle[] = [];
  for (const dir of dirs) found.push(await readOpenBundle(dir, checkpoint.config));
  return found;
}

async function readOpenBundle(dir: string, config: DecoderConfig): Promise<OpenBundle> {
  const file = join(dir, 'manifest.json');
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new MalformedError('manifest-missing', `${file} cannot be read: ${dir} is not a bundle`, { file }, cause);
  });
  const manifest = parseManifest(bytes);
  for (const listed of manifest.files) await checkBundleFile(dir, listed, false);
  const segments = manifest.segments.map((segment): Bundle['segments'][number] =>
    segment.place === 'enclave' ? { place: 'enclave' } : { place: 'accelerator', graph: join(dir, segment.graph) },
  );
  const bundle: Bundle = { dir, bundleId: bundleId(bytes), manifest, config: configOfManifest(manifest), segments };
  checkShape(bundle.config, config, 'audit-also', `${dir} is no bundle of this model`);
  const { scheme, plan } = manifest;
  return { scheme, plan, weights: await readLockedWeights(bundle) };
}
