// The demo's table of placements: the same teacher locked three ways, what each costs in time, what lies open, what a recorder gets.
// Zone: owner and edge. Every figure is measured in the run; what a recorder gets is said in words until the audit measures it.
import { join } from 'node:path';
import type { Example } from '../../edge/data/example.js';
import type { EnclaveProcess } from '../../edge/enclave/launch.js';
import { segmentFiles } from '../../model/bundle-manifest.js';
import type { Checkpoint } from '../../model/checkpoint/hf-directory.js';
import { acceleratorPlan, crossingsOf, shieldedPlan, uniformPlan } from '../../model/spans.js';
import type { Plan } from '../../trusted/wire/manifest.js';
import { licenseHere, lockHere, startUnlicensed } from '../experiment/on-one-machine.js';
import type { DemoPlacement } from '../report/demo-schema.js';
import { measureOverhead, overheadRows } from './measures.js';

interface PlacementStory {
  readonly name: string;
  readonly plan: (blocks: number) => Plan;
  /** What a recorder of a licensed session holds afterwards. */
  readonly recorder: string;
}

const stories: readonly PlacementStory[] = [
  {
    name: 'enclave',
    plan: (blocks) => uniformPlan(blocks, 'enclave'),
    recorder: 'the released answers',
  },
  {
    name: 'shielded: embedding, 0, head',
    plan: (blocks) => shieldedPlan(blocks, ['embedding', '0', 'head']),
    recorder: 'blocks and crossings: enough to clone',
  },
  {
    name: 'accelerator',
    plan: acceleratorPlan,
    recorder: 'the locked model: enough to clone',
  },
];

export interface PlacementsJob {
  readonly checkpoint: Checkpoint;
  /** A folder for bundles and enclaves; each placement has one of its own in it. */
  readonly folder: string;
  /** The unlocked graph's folder, made when missing. */
  readonly unlockedFolder: string;
  readonly examples: readonly Example[];
  readonly session: { readonly topK: number; readonly temperature: number };
  /** Called with each enclave before it ends. */
  onEnclave(enclave: EnclaveProcess | null): void;
}

/** One row per placement, everything inside first. */
export async function measurePlacements(job: PlacementsJob): Promise<DemoPlacement[]> {
  const rows: DemoPlacement[] = [];
  for (const story of stories) rows.push(await measurePlacement(story, job));
  return rows;
}

async function measurePlacement(
  { name, plan: planOf, recorder }: PlacementStory,
  job: PlacementsJob,
): Promise<DemoPlacement> {
  const { checkpoint, session } = job;
  const plan = planOf(checkpoint.config.numHiddenLayers);
  const folder = join(job.folder, name.replaceAll(/[^a-z0-9]+/g, '-'));
  const locked = await lockHere(checkpoint, folder, 'stories260k', { plan });
  const teacher = await startUnlicensed(locked, join(folder, 'enclave'), () => undefined);
  try {
    const now = Math.floor(Date.now() / 1000);
    const grant = await licenseHere(locked, teacher, {
      budgetTokens: overheadRows,
      topK: session.topK,
      precision: 'float16',
      temperature: { min: 1, max: 1 },
      notBefore: now - 60,
      expires: now + 3600,
    });
    const overheadRatio = await measureOverhead(checkpoint, job.unlockedFolder, teacher, job.examples, session);
    job.onEnclave(teacher.process);
    await grant.destroy();
    const { files, segments } = teacher.bundle.manifest;
    const open = new Set(segments.filter(({ place }) => place === 'accelerator').flatMap(segmentFiles));
    const bytes = files.reduce((sum, { path, size }) => sum + (open.has(path) ? size : 0), 0);
    const crossings = crossingsOf(plan, checkpoint.config.hiddenSize, session.topK);
    const crossingBytesPerToken = crossings.reduce((sum, { bytesPerToken }) => sum + bytesPerToken, 0);
    return { placement: name, overheadRatio, readableBytes: bytes, crossingBytesPerToken, recorder };
  } finally {
    await teacher.close();
  }
}
