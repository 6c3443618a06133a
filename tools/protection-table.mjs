// The README's protection table as Markdown: per adversary and kind of placement the worst that any recorded audit found, and the
// argument where none was measured; below it every audited bundle with its strongest attack. Plain JavaScript, for protection.mjs.
export const BEGIN = '<!-- protection: written by tools/protection.mjs from docs/results/audit-*.json, do not edit -->';
export const END = '<!-- /protection -->';
export const ADVERSARIES = ['copier', 'unlicensed', 'recorder', 'chooser', 'ancestor', 'tamperer', 'network'];

const KINDS = ['enclave', 'shielded', 'accelerator'];
const kindOf = (placement) => (placement.startsWith('shielded:') ? 'shielded' : placement);

const NOTHING = 'Nothing but ciphertext (AES-256-GCM), shapes and the tokenizer.';
const UNPROTECTED = '**Not protected.** A static basis is undone by least squares, whatever the scheme';

/** What each adversary sees, and what is argued where no recorded audit says anything, by kind of placement. */
const ARGUMENTS = {
  copier: [
    'the bundle at rest',
    NOTHING,
    'With embedding and head inside, the bundle holds no vocabulary; otherwise as on the right.',
    '**Weak.** Only a substitution cipher over the vocabulary stands in the way, which statistics break.',
  ],
  unlicensed: [
    'bundle and an enclave that refuses',
    'As the copier. The enclave refuses (tested in every state).',
    'As the copier.',
    'As the copier.',
  ],
  recorder: [
    'everything outside the enclave in a licensed session',
    'Sees the released answers, like any licensed student.',
    `${UNPROTECTED}; enclave-held blocks are fitted from their crossings.`,
    `${UNPROTECTED}.`,
  ],
  chooser: [
    'recorder who picks the inputs',
    'As the recorder, within the budget.',
    '**Not protected.** As the recorder, with fewer tokens.',
    '**Not protected.** Asking the enclave to authorise each token once reveals the vocabulary permutation.',
  ],
  ancestor: [
    'also holds the public checkpoint it was fine-tuned from',
    'Nothing to match against.',
    '**Not protected.** As on the right, for the blocks outside.',
    '**Not protected.** Permutations are found by sorting; rotations resist sorting, not alignment of many weights.',
  ],
  tamperer: [
    'wrong results, rolled-back state',
    'Every piece of a sealed part is authenticated and bound to its place. Budget is charged and sealed before every release. **Rollback of the sealed file is not detected** without a monotonic counter.',
    'The same; wrong results of the accelerator reach enclave-held blocks.',
    'The same.',
  ],
  network: [
    'between enclave and owner',
    "Grants are sealed (HPKE) to the attested key; altered, replayed or foreign grants are refused. Freshness needs the owner's nonce (`--nonce`).",
    'The same.',
    'The same.',
  ],
};

/** No attack on the model, so no audit of it. */
const OWNER_ROW =
  '| model owner, towards the data owner | – | By argument: the enclave has no network and no files but its own (bubblewrap). Bytes relayed after unlock are counted: 0. | The same. | The same. |';

const decimals = (value) => (value === null ? '–' : value.toFixed(2).replace('-0.00', '0.00'));
const lowered = (text) => text[0].toLowerCase() + text.slice(1);
const tokens = (value) => value.toLocaleString('en-US');
const verdictText = (verdict) => (verdict === 'held' ? 'Held' : `**${verdict[0].toUpperCase()}${verdict.slice(1)}**`);

/** Rows at the largest budget of their audit, with the model's name. */
function decisive(audits) {
  return audits.flatMap(({ model, rows }) => {
    const largest = Math.max(...rows.map(({ budgetTokens }) => budgetTokens));
    return rows.filter(({ budgetTokens }) => budgetTokens === largest).map((row) => ({ model, ...row }));
  });
}

/** Probes by how they ended; a name stands under the worst that it did in this kind of placement. */
function probeText(probes, adversary, kind) {
  const own = probes.filter((probe) => probe.adversary === adversary && kindOf(probe.placement) === kind);
  const left = new Set(own.map(({ probe }) => probe));
  const texts = ['broken', 'inconclusive', 'held'].flatMap((verdict) => {
    const names = [...left].filter((name) => own.some((row) => row.probe === name && row.verdict === verdict));
    for (const name of names) left.delete(name);
    return names.length === 0 ? [] : [`${verdictText(verdict)}: ${names.join(', ')}.`];
  });
  return texts.length === 0 ? '' : ` Probes: ${texts.join(' ')}`;
}

function cell(rows, probes, adversary, kind, severity) {
  const own = rows.filter((row) => row.adversary === adversary && kindOf(row.placement) === kind);
  const tried = probeText(probes, adversary, kind);
  if (own.length === 0) return `By argument: ${lowered(ARGUMENTS[adversary][1 + KINDS.indexOf(kind)])}${tried}`;
  const worst = own.reduce((a, b) => (severity(b) > severity(a) ? b : a));
  const best = own.reduce((a, b) => (severity(b) < severity(a) ? b : a));
  const name = kind === 'shielded' ? ` \`${worst.placement.slice('shielded:'.length)}\`,` : '';
  const range =
    best.worst !== null && worst.worst !== null && worst.worst - best.worst >= 0.1
      ? ` Best case ${decimals(best.worst)} (${best.model}${kind === 'shielded' ? `, \`${best.placement.slice('shielded:'.length)}\`` : ''}).`
      : '';
  const how = worst.idle ? 'nothing to work on' : worst.attack;
  return `${verdictText(worst.verdict)}, advantage ${decimals(worst.worst)} (${how},${name} ${worst.model}, ${tokens(worst.budgetTokens)} tokens).${range}${tried}`;
}

/** Begins and ends with a line break; `severity` orders rows from good to bad for the owner. */
export function protectionTable(audits, probes, severity) {
  const rows = decisive(audits);
  const lines = [
    '',
    '',
    '| adversary | sees | placement `enclave` | some parts inside (`shielded`) | all on the `accelerator` |',
    '|---|---|---|---|---|',
    ...ADVERSARIES.map((adversary) => {
      const cells = KINDS.map((kind) => cell(rows, probes, adversary, kind, severity));
      return `| ${adversary} | ${ARGUMENTS[adversary][0]} | ${cells.join(' | ')} |`;
    }),
    OWNER_ROW,
    '',
  ];
  if (rows.length > 0) lines.push(...bundleLines(rows, severity), '');
  return lines.join('\n');
}

function bundleLines(rows, severity) {
  const groups = new Map();
  for (const row of rows) {
    const key = `${row.model}|${row.scheme}|${row.placement}`;
    const before = groups.get(key);
    if (before === undefined || severity(row) > severity(before)) groups.set(key, row);
  }
  const line = ({ model, scheme, placement, attack, adversary, advantage, half, worst, verdict, budgetTokens, idle }) =>
    `| ${model} | ${scheme} | \`${placement}\` | ${idle ? '–' : `${attack} (${adversary})`} | ${tokens(budgetTokens)} | ${decimals(advantage)}${half === null ? '' : ` ± ${half.toFixed(2)}`} | ${decimals(worst)} | ${verdict === 'held' ? 'held' : `**${verdict}**`} |`;
  return [
    'The strongest attack on every audited bundle, mean ± 95 % interval and worst of the seeds (0 is a black-box student taught with the same',
    'answers, 1 the bare model):',
    '',
    '| model | scheme | placement | attack | tokens | advantage | worst | verdict |',
    '|---|---|---|---|---|---|---|---|',
    ...[...groups.values()].map(line),
  ];
}
