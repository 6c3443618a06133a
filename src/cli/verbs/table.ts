// Every verb that works, in the order of --help. A verb is loaded when it is used.
import { anyVerb, type VerbEntry, type VerbGroup } from '../verb.js';

/** Shown once one of their verbs is in the table below. */
export const GROUPS: readonly VerbGroup[] = [
  { name: 'attest', summary: 'judge evidence of an enclave: verify (owner)' },
  { name: 'data', summary: 'text before it is trained on: preview (edge)' },
  { name: 'licence', summary: 'the licence service: serve, issue, list, show, revoke, audit (owner)' },
  { name: 'keys', summary: "the owner's keys: init, rotate (owner)" },
  { name: 'ledger', summary: 'what has left the device: show (edge)' },
  { name: 'receipt', summary: 'proof that a teacher was destroyed: verify (owner), send (edge)' },
];

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
    name: 'attest verify',
    summary: 'judge evidence by a policy, rule by rule (owner)',
    load: async () => anyVerb((await import('./attest-verify.js')).attestVerify),
  },
  {
    name: 'data preview',
    summary: 'show what a run learns from: rendered records, which tokens count in the loss (edge)',
    load: async () => anyVerb((await import('./data/preview.js')).preview),
  },
  {
    name: 'distill',
    summary: 'distil a student from a locked teacher on your own text (edge)',
    load: async () => anyVerb((await import('./distill.js')).distill),
  },
  {
    name: 'eval',
    summary: 'measure a student, its teacher and a baseline on held-out text and tasks (edge)',
    load: async () => anyVerb((await import('./eval.js')).evalVerb),
  },
  {
    name: 'generate',
    summary: 'generate text with a student or a licensed teacher (edge)',
    load: async () => anyVerb((await import('./generate.js')).generate),
  },
  {
    name: 'fuse',
    summary: 'merge adapters into their base: a Hugging Face directory (edge)',
    load: async () => anyVerb((await import('./fuse.js')).fuse),
  },
  {
    name: 'destroy',
    summary: 'destroy the teacher in the enclave and get a signed receipt (edge)',
    load: async () => anyVerb((await import('./destroy.js')).destroy),
  },
  {
    name: 'ledger show',
    summary: 'list what left this device and what came in, and check the chain (edge)',
    load: async () => anyVerb((await import('./ledger/show.js')).ledgerShow),
  },
  {
    name: 'receipt verify',
    summary: "check a receipt's signature and print what it says",
    load: async () => anyVerb((await import('./receipt/verify.js')).receiptVerify),
  },
  {
    name: 'receipt send',
    summary: 'deliver a receipt to the licence service, which closes the licence (edge)',
    load: async () => anyVerb((await import('./receipt/send.js')).receiptSend),
  },
  {
    name: 'licence serve',
    summary: 'run the licence service: evidence in, grants, leases and receipts out (owner)',
    load: async () => anyVerb((await import('./licence/serve.js')).licenceServe),
  },
  {
    name: 'licence issue',
    summary: 'issue a licence: prints its id and a one-time activation code (owner)',
    load: async () => anyVerb((await import('./licence/issue.js')).licenceIssue),
  },
  {
    name: 'licence list',
    summary: 'list licences, newest first (owner)',
    load: async () => anyVerb((await import('./licence/list.js')).licenceList),
  },
  {
    name: 'licence show',
    summary: 'show a licence: terms, devices, receipts, history (owner)',
    load: async () => anyVerb((await import('./licence/show.js')).licenceShow),
  },
  {
    name: 'licence revoke',
    summary: 'revoke a licence: no grant and no lease any more (owner)',
    load: async () => anyVerb((await import('./licence/revoke.js')).licenceRevoke),
  },
  {
    name: 'licence audit',
    summary: 'check and show the audit log (owner)',
    load: async () => anyVerb((await import('./licence/audit.js')).licenceAudit),
  },
  {
    name: 'keys init',
    summary: "make the owner's secrets of one bundle, under a passphrase (owner)",
    load: async () => anyVerb((await import('./keys/init.js')).keysInit),
  },
  {
    name: 'keys rotate',
    summary: "put the owner's secrets under a new passphrase (owner)",
    load: async () => anyVerb((await import('./keys/rotate.js')).keysRotate),
  },
];
