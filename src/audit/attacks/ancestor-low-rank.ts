// A public ancestor of a teacher that a low-rank update (a merged LoRA) has moved: the update's directions spoil norms, pairs and Procrustes,
// so they are estimated from what alignment leaves over and count for nothing when it is done again. Zone: owner (as attacker).
import type { Attack } from '../attack.js';
import { alignWithAncestor, nothingToAlign } from './ancestor-alignment.js';

export const ancestorLowRank: Attack = {
  name: 'ancestor-low-rank',
  adversary: 'ancestor',
  summary: 'align with a public ancestor after taking away what a low-rank update has added',
  sources: ['arXiv 2608.21615 (low-rank removal)', 'ArrowMatch, USENIX Security 2025', 'LoRA, arXiv 2106.09685'],
  idleReason: nothingToAlign,
  run: (target) => alignWithAncestor(target, { lowRank: true }),
};
