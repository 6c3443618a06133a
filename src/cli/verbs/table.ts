// Every verb that works, in the order of --help. A verb is loaded when it is used.
import { anyVerb, type VerbEntry } from '../verb.js';

export const VERBS: readonly VerbEntry[] = [
  {
    name: 'demo',
    summary: 'lock, license, distil and evaluate with the bundled teacher, in minutes',
    load: async () => anyVerb((await import('./demo.js')).demo),
  },
  {
    name: 'lock',
    summary: 'lock a checkpoint into a bundle (owner)',
    load: async () => anyVerb((await import('./lock.js')).lock),
  },
  {
    name: 'inspect',
    summary: 'show a bundle: plan, sizes, signature',
    load: async () => anyVerb((await import('./inspect.js')).inspect),
  },
  {
    name: 'verify-lock',
    summary: 'compare a locked model with its original, token by token (owner)',
    load: async () => anyVerb((await import('./verify-lock.js')).verifyLock),
  },
  {
    name: 'audit',
    summary: 'attack a bundle as each adversary would, with the original as ground truth (owner)',
    load: async () => anyVerb((await import('./audit.js')).audit),
  },
  {
    name: 'advise',
    summary: 'recommend scheme and placement from recorded audits, with reasons (owner)',
    load: async () => anyVerb((await import('./advise.js')).advise),
  },
  {
    name: 'enclave',
    summary: 'start the enclave of a bundle: evidence, licence, state (edge)',
    load: async () => anyVerb((await import('./enclave.js')).enclave),
  },
  {
    name: 'grant',
    summary: 'sign a licence for an enclave whose evidence holds (owner)',
    load: async () => anyVerb((await import('./grant.js')).grant),
  },
  {
    name: 'distill',
    summary: 'distil a student from a locked teacher on your own text (edge)',
    load: async () => anyVerb((await import('./distill.js')).distill),
  },
  {
    name: 'eval',
    summary: 'measure a student against its teacher on held-out text (edge)',
    load: async () => anyVerb((await import('./eval.js')).evalVerb),
  },
  {
    name: 'generate',
    summary: 'generate text with a student or a licensed teacher (edge)',
    load: async () => anyVerb((await import('./generate.js')).generate),
  },
  {
    name: 'destroy',
    summary: 'destroy the teacher in the enclave and get a signed receipt (edge)',
    load: async () => anyVerb((await import('./destroy.js')).destroy),
  },
];
