// Every attack of `distillock audit`, in the order of its table: one line each. Zone: owner.
import type { Attack } from '../attack.js';
import { ancestorAlignment } from './ancestor-alignment.js';
import { ancestorLowRank } from './ancestor-low-rank.js';
import { chosenInputs } from './chosen-inputs.js';
import { directUse } from './direct-use.js';
import { enclaveOracle } from './enclave-oracle.js';
import { fineTunings } from './fine-tuning.js';
import { learningParts } from './learning-parts.js';
import { logitExtraction } from './logit-extraction.js';
import { recording } from './recording.js';
import { severalBundles } from './several-bundles.js';
import { severalBundlesAncestor } from './several-bundles-ancestor.js';
import { substitutionCipher } from './substitution-cipher.js';

export const ATTACKS: readonly Attack[] = [
  recording, //
  learningParts,
  chosenInputs,
  enclaveOracle,
  directUse,
  substitutionCipher,
  ...fineTunings,
  severalBundles,
  ancestorAlignment,
  ancestorLowRank,
  severalBundlesAncestor,
  logitExtraction,
];
