// An audit of the bundled teacher, small: texts, held-out truth, a licensed bundle and the unlocked model. Not a test itself.
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type Lab, openLab } from '../../src/audit/lab.js';
import { bundleTarget, type Target, unlockedTarget } from '../../src/audit/target.js';
import { licenseHere } from '../../src/cli/experiment/on-one-machine.js';
import { createConfig } from '../../src/edge/config.js';
import { prepareData } from '../../src/edge/prepare.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { acceleratorPlan, shieldedPlan, uniformPlan } from '../../src/model/spans.js';
import type { Scheme } from '../../src/trusted/wire/manifest.js';
import { licence, lockStories, openStories, openUnlocked, storiesFolder } from '../teacher/stories-teacher.js';

export const topK = 32;

export interface StoriesLab {
  readonly lab: Lab;
  readonly control: Target;
  /** `accelerator`, `enclave` or `shielded:PARTS`. */
  locked(scheme: Scheme, placement: string): Promise<Target>;
}

export async function openStoriesLab(
  t: TestContext,
  folder: string,
  texts: number,
  heldOut: number,
): Promise<StoriesLab> {
  const checkpoint = await openCheckpoint(storiesFolder);
  t.after(() => checkpoint.tensors.close());
  const original = await openUnlocked(t, checkpoint, join(folder, 'unlocked'));
  const config = createConfig({
    model_name_or_path: storiesFolder,
    teacher_model_name_or_path: storiesFolder,
    dataset: 'assets/text/train.txt',
    max_samples: texts,
    eval_dataset: 'assets/text/valid.txt',
    output_dir: folder,
    max_length: 128,
  });
  const data = await prepareData(config, storiesFolder);
  const lab = await openLab({
    config: checkpoint.config,
    original,
    texts: data.train.examples,
    heldOut: data.evaluation!.examples.slice(0, heldOut),
  });
  const control = await unlockedTarget(checkpoint.config, checkpoint.tensors, original, topK);
  const blocks = checkpoint.config.numHiddenLayers;
  let count = 0;
  async function locked(scheme: Scheme, placement: string): Promise<Target> {
    const name = join(folder, `bundle-${count++}`);
    const plan = placement.startsWith('shielded:')
      ? shieldedPlan(blocks, placement.slice('shielded:'.length).split(','))
      : placement === 'enclave'
        ? uniformPlan(blocks, 'enclave')
        : acceleratorPlan(blocks);
    const bundle = await lockStories(name, { scheme, plan });
    const teacher = await openStories(t, bundle, join(name, 'state'));
    await licenseHere(bundle, teacher, licence({ budgetTokens: 10_000_000, topK }));
    return bundleTarget(teacher, placement, topK);
  }
  return { lab, control, locked };
}
