// Every attack of `distillock audit`, in the order of its table: one line each. Zone: owner.
import type { Attack } from '../attack.js';
import { chosenInputs } from './chosen-inputs.js';
import { enclaveOracle } from './enclave-oracle.js';
import { learningParts } from './learning-parts.js';
import { recording } from './recording.js';

export const ATTACKS: readonly Attack[] = [
  recording, //
  learningParts,
  chosenInputs,
  enclaveOracle,
];
