// Every probe of an audit, in the order of its table. Zone: owner.
import type { Probe } from '../probe.js';
import { budgetProbes } from './budget.js';
import { frameProbes } from './frames.js';
import { resultProbes } from './results.js';
import { trafficProbes } from './traffic.js';

export const PROBES: readonly Probe[] = [
  ...budgetProbes, //
  ...frameProbes,
  ...resultProbes,
  ...trafficProbes,
];
