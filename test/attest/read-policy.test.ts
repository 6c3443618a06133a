// Policy files: examples load, mistakes are named with file, line and key, and leaving anything out never lets more through.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { explain } from '../../src/attest/policy/appraise.js';
import type { AttestationPolicy } from '../../src/attest/policy/policy.js';
import { parsePolicy, readPolicy } from '../../src/attest/policy/read-policy.js';
import { trustRoots, VENDOR_ROOTS } from '../../src/attest/policy/trust-roots.js';
import type { PlatformFacts } from '../../src/attest/verified.js';
import { DistillockError, MalformedError } from '../../src/trusted/wire/errors.js';
import { BUNDLE, FACTS, NOW, SECTIONS, verified } from './facts.js';

const FOLDER = join('examples', 'policy');
const KINDS = ['simulated', 'sgx', 'tdx', 'snp', 'tpm'] as const;
const text = (name: string): string => readFileSync(join(FOLDER, name), 'utf8');
const { tpm } = parsePolicy(text('tpm.yaml'), 'tpm.yaml');
const sections = SECTIONS(tpm!.endorsementCas[0]!);

test('there is an example for every kind, and each accepts that kind alone', async () => {
  assert.deepEqual(readdirSync(FOLDER).sort(), KINDS.map((kind) => `${kind}.yaml`).sort());
  for (const kind of KINDS) {
    const policy = await readPolicy(join(FOLDER, `${kind}.yaml`));
    assert.deepEqual(
      KINDS.filter((name) => policy[name] !== undefined),
      [kind],
    );
    assert.ok(text(`${kind}.yaml`).split('\n').length > 15, 'explains itself');
  }
});

test('left out means not allowed; scalars stay text; keys and roots are read in both spellings', () => {
  const policy = parsePolicy(
    text('sgx.yaml')
      .replace(/ {4}mask: f+\n/, '')
      .replace(/ {2}advisories.*\n/, ''),
    'p',
  );
  assert.deepEqual(policy.sgx!.attributes, { value: '0500000000000000', mask: 'ffffffffffffffff' });
  assert.deepEqual(policy.sgx!.advisories, []);
  const snp = parsePolicy(text('snp.yaml').replaceAll(/ {2}allow.*\n/g, ''), 'p').snp!;
  assert.deepEqual([snp.allowSmt, snp.allowMigration, snp.allowMultipleSockets], [false, false, false]);
  assert.deepEqual([snp.hostData, snp.idKeyDigest], [['00'.repeat(32)], ['00'.repeat(48)]]);
  const digits = '1'.repeat(62);
  const root = Buffer.alloc(32, 0xfb);
  const simulated = parsePolicy(
    `version: 1\nbundles: [${digits}E5]\nsimulated: {roots: [${root.toString('base64url')}, ${'FB'.repeat(32)}], measurements: any}`,
    'p',
  );
  assert.deepEqual(simulated.bundles, [`${digits}e5`]);
  assert.deepEqual(simulated.simulated!.roots, ['fb'.repeat(32), 'fb'.repeat(32)]);
  assert.deepEqual(trustRoots(simulated).simulated, [new Uint8Array(root), new Uint8Array(root)]);
  assert.deepEqual(trustRoots(policy), VENDOR_ROOTS);
});

test('extra roots stand behind those of the vendors', () => {
  const roots = `extraRoots:\n  intel: [${'ab'.repeat(64)}]\n  amd: {Genoa: [${'ac'.repeat(32)}]}\n`;
  const { intel, amd } = trustRoots(parsePolicy(`${text('snp.yaml')}${roots}`, 'p'));
  assert.deepEqual(intel, [...VENDOR_ROOTS.intel, 'ab'.repeat(64)]);
  assert.deepEqual(amd, [...VENDOR_ROOTS.amd, { ...VENDOR_ROOTS.amd[0], Genoa: 'ac'.repeat(32) }]);
});

const head = `version: 1\nbundles:\n  - ${BUNDLE}\n`;
const MISTAKES: readonly [what: string, yaml: string, code: string, line: number | string | null, words: RegExp][] = [
  ['nothing', '', 'policy-empty', null, /empty/],
  ['comments', '# nothing\n', 'policy-empty', null, /empty/],
  ['an empty record', '{}', 'policy-empty', null, /empty/],
  ['no kind', head, 'policy-empty', null, /no kind[\s\S]*simulated, sgx/],
  ['a list', '- a\n', 'policy-yaml', 1, /name: value/],
  ['no YAML', 'version: 1\nbundles: [\n', 'policy-yaml', 3, /YAML/],
  ['the same key twice', `${head}version: 1\n`, 'policy-yaml', 4, /unique/],
  ['an alias', 'version: &v 1\nbundles: *v\n', 'policy-yaml', 1, /aliases/],
  ['an unknown key', `${head}sgxx:\n  a: 1\n`, 'policy-key', 4, /sgxx: .*did you mean sgx/],
  ['an unknown pin', `${head}sgx:\n  mrenclav: [x]\n`, 'policy-key', 5, /sgx\.mrenclav: .*did you mean mrenclave/],
  ['debug', `${text('sgx.yaml')}  allowDebug: true\n`, 'policy-key', 'allowDebug', /sgx\.allowDebug/],
  ['a kind without pins', `${head}tdx:\n`, 'policy-value', 4, /tdx: has no pins/],
  ['no bundles', 'version: 1\nsgx: {}\n', 'policy-value', 1, /bundles: is missing/],
  ['an empty list', 'version: 1\nbundles: []\n', 'policy-value', 2, /bundles: the list is empty/],
  ['any bundle', 'version: 1\nbundles: any\n', 'policy-value', 2, /bundles: expected a list/],
  ['another version', 'version: 2\n', 'policy-value', 1, /version: this release reads version 1/],
  ['short hex', 'version: 1\nbundles:\n  - ab\n', 'policy-value', 3, /bundles\.0: expected 32 bytes/],
  ['a missing pin', `${head}simulated:\n  roots: [${BUNDLE}]\n`, 'policy-value', 4, /measurements: is missing.*`any`/],
  ['none', `${head}simulated:\n  roots: [${BUNDLE}]\n  measurements: none\n`, 'policy-value', 6, /list of values/],
  [
    'code and signer',
    text('sgx.yaml').replaceAll('  # mrenc', '  mrenc').replaceAll('  #   -', '    -'),
    'policy-value',
    'mrsigner:',
    /mrsigner: cannot stand beside/,
  ],
  ['no code', text('sgx.yaml').replace(/ {2}isvProdId.*\n/, ''), 'policy-value', 'sgx:', /isvProdId: is missing: pin/],
  [
    'Revoked',
    text('tdx.yaml').replace('- UpToDate', '- Revoked'),
    'policy-value',
    '- Revoked',
    /statuses\.0: expected one of/,
  ],
  [
    'an advisory',
    text('tdx.yaml').replace('advisories: []', 'advisories: any'),
    'policy-value',
    'advisories: any',
    /advisories/,
  ],
  ['no minTcb', text('snp.yaml').replace(/Milan.*\n.*\n.*\n/, '\n'), 'policy-value', 'minTcb:', /minTcb/],
  ['fmc on Milan', text('snp.yaml').replace('Milan: {', 'Milan: { fmc: 1,'), 'policy-key', 'Milan:', /Milan\.fmc/],
  ['a TCB of 256', text('snp.yaml').replace('microcode: 219', 'microcode: 256'), 'policy-value', '256', /up to 255/],
  [
    'yes',
    text('snp.yaml').replace('allowSmt: true', 'allowSmt: yes'),
    'policy-value',
    'allowSmt',
    /allowSmt: expected true or false/,
  ],
  ['VMPL 4', text('snp.yaml').replace('vmpl: [0]', 'vmpl: [4]'), 'policy-value', 'vmpl:', /vmpl\.0/],
  [
    'PCR 24',
    text('tpm.yaml').replace('    11: ', '    24: '),
    'policy-value',
    ' 24:',
    /tpm\.pcrs\.24: a PCR has a number/,
  ],
  ['no CA', text('tpm.yaml').replace(/M/g, 'N'), 'policy-value', '- |', /endorsementCas\.0: expected the certificate/],
];
for (const [what, yaml, code, place, words] of MISTAKES) {
  const found = yaml.split('\n').findIndex((row) => typeof place === 'string' && row.includes(place));
  const line = typeof place === 'string' ? found + 1 : place;
  test(`a policy with ${what} is refused: ${code}`, () => {
    assert.throws(
      () => parsePolicy(yaml, 'my/policy.yaml'),
      (error: unknown) => {
        assert.ok(error instanceof MalformedError, String(error));
        assert.deepEqual([error.code, error.details.line ?? null], [code, line], error.message);
        assert.ok(error.message.startsWith(line === null ? 'my/policy.yaml: ' : `my/policy.yaml:${line}: `));
        assert.match(error.message, words);
        return true;
      },
    );
  });
}

test('a policy that cannot be read is named', async () => {
  await assert.rejects(readPolicy('no/such.yaml'), {
    kind: 'environment',
    code: 'policy-read',
    message: /no\/such\.yaml/,
  });
});

type Json = string | number | boolean | readonly Json[] | { readonly [key: string]: Json };

/** Every place below `value`, as a path. */
function places(value: Json, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value !== 'object') return [];
  const entries = Array.isArray(value) ? [...value.entries()] : Object.entries(value as Record<string, Json>);
  return entries.flatMap(([key, inner]) => [[...path, key], ...places(inner as Json, [...path, key])]);
}

function without(value: Json, [first, ...rest]: readonly (string | number)[]): Json {
  const next = (inner: Json): Json => without(inner, rest);
  if (Array.isArray(value)) {
    return value.flatMap((inner, i) => (i !== first ? [inner] : rest.length === 0 ? [] : [next(inner)]));
  }
  const entries = Object.entries(value as Record<string, Json>);
  return Object.fromEntries(
    entries.flatMap(([key, inner]) =>
      key !== String(first) ? [[key, inner]] : rest.length === 0 ? [] : [[key, next(inner)]],
    ),
  );
}

/** Written as people loosen policies, so that a pin taken away has something to take back. */
const LOOSE: Readonly<Record<string, object>> = {
  simulated: { measurements: 'any' },
  sgx: { xfrm: 'any', attributes: { value: '0500000000000000', mask: '0f00000000000000' } },
  tdx: {
    rtmr0: 'any',
    rtmr3: 'any',
    mrConfigId: 'any',
    mrOwner: 'any',
    tdAttributes: ['0000001000000000', '0000005000000000'],
  },
  snp: {
    allowMigration: true,
    allowMultipleSockets: true,
    vmpl: [0, 1],
    hostData: 'any',
    signedBy: ['VCEK', 'VLEK'],
    chipIds: 'any',
  },
  tpm: { softwareTpm: true },
};

/** Facts of `kind` with some changed, the set of PCRs kept: what a quote lacks, no pin can speak about. */
function changedFacts(kind: keyof typeof FACTS): fc.Arbitrary<PlatformFacts> {
  const vary = (value: unknown): fc.Arbitrary<unknown> => {
    if (typeof value === 'boolean') return fc.boolean();
    if (typeof value === 'number') return fc.constantFrom(value, value - 1, value + 1, 0);
    if (value === null) return fc.constantFrom(null, 1);
    if (Array.isArray(value)) return fc.tuple(...value.map(vary));
    if (typeof value === 'object') {
      return fc.record(Object.fromEntries(Object.entries(value as object).map(([key, inner]) => [key, vary(inner)])));
    }
    const words = ['OutOfDate', 'UpToDate', 'INTEL-SA-00999', 'VLEK', 'CN=Somebody'];
    const hex = /^[0-9a-f]+$/.test(String(value));
    const others = hex ? ['ee', '00', '05'].map((byte) => byte.padEnd(String(value).length, '0')) : words;
    return fc.constantFrom(String(value), ...others);
  };
  const { kind: _, ...rest } = FACTS[kind] as PlatformFacts & { product?: string };
  const entries = Object.entries(rest).map(([key, value]) => {
    const varied = key === 'product' ? fc.constantFrom('Milan', 'Genoa') : vary(value);
    // Most facts stay as they are, or nothing would ever pass.
    return [key, fc.oneof({ weight: 12, arbitrary: fc.constant(value) }, { weight: 1, arbitrary: varied })] as const;
  });
  return fc.record(Object.fromEntries(entries)).map((facts) => ({ kind, ...facts }) as unknown as PlatformFacts);
}

const refuses = (facts: PlatformFacts, policy: AttestationPolicy): boolean =>
  explain(verified(facts), policy, NOW).some(({ verdict }) => verdict !== 'pass');

for (const kind of KINDS) {
  test(`${kind}: leaving out any line or item never accepts what was refused`, () => {
    const seen = { refused: 0, accepted: 0, readable: 0 };
    for (const change of [{}, LOOSE[kind]!]) {
      const whole = JSON.parse(
        JSON.stringify({ version: 1, bundles: [BUNDLE, 'dd'.repeat(32)], [kind]: { ...sections[kind], ...change } }),
      ) as Json;
      const policy = parsePolicy(JSON.stringify(whole), 'p');
      const reduced = places(whole).flatMap((path) => {
        try {
          return [{ path, policy: parsePolicy(JSON.stringify(without(whole, path)), 'p') }];
        } catch (error) {
          assert.ok(error instanceof MalformedError, String(error));
          return [];
        }
      });
      seen.readable += reduced.length;
      fc.assert(
        fc.property(changedFacts(kind), (facts) => {
          if (!refuses(facts, policy)) {
            seen.accepted++;
            return;
          }
          seen.refused++;
          for (const less of reduced) assert.ok(refuses(facts, less.policy), `without ${less.path.join('.')}`);
        }),
        { numRuns: kind === 'simulated' ? 4000 : kind === 'tpm' ? 1000 : 1500 },
      );
    }
    assert.ok(seen.refused > 100 && seen.accepted > 100 && seen.readable > 1, JSON.stringify(seen));
  });
}

test('6,000 damaged files are refused by name or read as a policy that still names its kind', () => {
  const texts = KINDS.map((kind) => text(`${kind}.yaml`).replaceAll(/^\s*#.*\n/gm, ''));
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % below;
  };
  const bits = [
    '\n',
    ' ',
    '  ',
    ':',
    '-',
    '{',
    '}',
    '[',
    ']',
    '&a ',
    '*a',
    '!!map ',
    '"',
    "'",
    '|',
    '>',
    '%',
    '\t',
    '\0',
    '---\n',
    'any',
    '0',
    '__proto__: 1\n',
    '? ',
  ];
  let read = 0;
  for (let run = 0; run < 6_000; run++) {
    let damaged = texts[run % texts.length]!;
    for (let edits = 1 + random(3); edits > 0; edits--) {
      const at = random(damaged.length + 1);
      const cut = random(4) === 0 ? random(200) : random(3);
      damaged = damaged.slice(0, at) + (random(3) === 0 ? '' : bits[random(bits.length)]!) + damaged.slice(at + cut);
    }
    try {
      const policy = parsePolicy(damaged, 'p');
      assert.ok(KINDS.some((kind) => policy[kind] !== undefined) && policy.bundles.length > 0);
      read++;
    } catch (error) {
      assert.ok(error instanceof DistillockError && error.code.startsWith('policy-'), `${String(error)}\n${damaged}`);
    }
  }
  assert.ok(read > 50, `only ${read} were read`);
});
