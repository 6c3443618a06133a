// Several bundles of one model and its public ancestor: the bundles are brought into one basis first, so that parts which one alone leaves
// open help to find the turn and the order of all, then the whole is aligned with the ancestor. Nothing is asked of any enclave.
// Zone: owner (as attacker). Collapse's views and ancestor, without its training.
import type { Place, Plan } from '../../trusted/wire/manifest.js';
import type { Attack } from '../attack.js';
import { type Merged, mergeBundles } from '../merge-bundles.js';
import { EMBEDDING, HEAD } from '../open-parts.js';
import type { Target } from '../target.js';
import { alignWithAncestor, nothingToAlign } from './ancestor-alignment.js';
import { severalBundles } from './several-bundles.js';

export const severalBundlesAncestor: Attack = {
  name: 'several-bundles-ancestor',
  adversary: 'ancestor',
  summary: 'align further bundles of the same model with this one, and all of them with a public ancestor',
  sources: ['Collapse, arXiv 2609.10117', 'ArrowMatch, USENIX Security 2025'],
  idleReason: (target) => severalBundles.idleReason(target) ?? nothingToAlign(target),
  control: (unlocked) => severalBundles.control!(unlocked),
  run: async (target) => {
    const merged = await mergeBundles(target.config, [target, ...target.also!]);
    return alignWithAncestor(merged === null ? target : asOne(target, merged), { lowRank: true });
  },
};

/** The merged parts as one bundle; gains are folded, as a rotation leaves them. */
function asOne(target: Target, { model, blocks, tables }: Merged): Target {
  const place = (found: boolean): Place => (found ? 'accelerator' : 'enclave');
  const plan: Plan = {
    embedding: place(tables.has(EMBEDDING)),
    blocks: target.plan.blocks.map((_, block) => place(blocks.has(block))),
    head: place(tables.has(HEAD)),
  };
  const found = [...model.parameters].filter(([name]) => {
    const block = /^model\.layers\.(\d+)\./.exec(name)?.[1];
    return block === undefined ? tables.has(name) : blocks.has(Number(block));
  });
  return { ...target, scheme: 'rotation', plan, weights: new Map(found.map(([name, { data }]) => [name, data])) };
}
