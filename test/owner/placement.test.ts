// Plans: what the names mean, how plans become spans with bases, what auto decides and on what grounds, what is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { crossingsOf, shieldedPlan, spansOf, uniformPlan } from '../../src/model/spans.js';
import { choosePlacement, leastTeeBytes, type PlacementFacts, parsePlacement } from '../../src/owner/placement.js';
import type { Plan } from '../../src/trusted/wire/manifest.js';
import { tinyConfig } from './tiny-model.js';

const smol = {
  ...tinyConfig,
  vocabSize: 49152,
  hiddenSize: 576,
  intermediateSize: 1536,
  numHiddenLayers: 30,
  numAttentionHeads: 9,
  numKeyValueHeads: 3,
  headDim: 64,
};

function facts(changes: Partial<PlacementFacts> = {}): PlacementFacts {
  return {
    config: smol,
    scheme: 'rotation',
    teeGflops: 150,
    acceleratorGflops: 160,
    speedSource: 'as given',
    teeMemoryMb: 512,
    budgetTokens: null,
    ancestor: null,
    acceptRecorder: false,
    ...changes,
  };
}

const inside = ({ embedding, blocks, head }: Plan): string =>
  [embedding, ...blocks, head].map((place) => (place === 'enclave' ? 'E' : 'a')).join('');

test('auto keeps everything inside, whatever the speeds, the budget and the ancestor, unless the recorder is accepted', () => {
  const speeds = fc.double({ min: 1, max: 1e6, noNaN: true });
  fc.assert(
    fc.property(
      speeds,
      speeds,
      fc.option(fc.integer({ min: 1, max: 1e9 })),
      fc.option(fc.boolean()),
      (tee, fast, budgetTokens, ancestor) => {
        const chosen = choosePlacement(facts({ teeGflops: tee, acceleratorGflops: fast, budgetTokens, ancestor }));
        assert.equal(inside(chosen.plan), 'E'.repeat(32));
        assert.ok(chosen.reasons.some((reason) => reason.includes('recorder')));
      },
    ),
  );
  assert.equal(choosePlacement(facts()).precision, 'int8');
  assert.equal(
    choosePlacement(facts({ scheme: 'permutation' })).precision,
    'float32',
    'outlier channels stay where they are',
  );
  assert.equal(choosePlacement(facts({ config: tinyConfig })).precision, 'float32', 'narrow models gain nothing');
});

test('auto with an accepted recorder gives blocks to a much faster accelerator, but not for a short job', () => {
  const slow = facts({ teeGflops: 10, acceleratorGflops: 10_000, acceptRecorder: true });
  const traded = choosePlacement({ ...slow, budgetTokens: 100_000_000 });
  assert.equal(inside(traded.plan), `E${'a'.repeat(30)}E`);
  assert.ok(traded.reasons.some((reason) => reason.includes('can clone')));
  assert.ok(traded.reasons.some((reason) => reason.includes('public ancestor may exist')));
  assert.ok(
    choosePlacement({ ...slow, ancestor: false }).reasons.some((reason) => reason.includes('no public ancestor')),
  );
  assert.equal(inside(choosePlacement({ ...slow, budgetTokens: 1000 }).plan), 'E'.repeat(32));
  assert.equal(inside(choosePlacement(facts({ acceptRecorder: true })).plan), 'E'.repeat(32), 'as fast inside');
});

test('a TEE without room for a block at a time is refused with the figure that it needs', () => {
  const leastMb = Math.ceil(leastTeeBytes(smol, 'int8') / 1e6);
  assert.ok(leastMb < 128, `${leastMb} MB`);
  assert.throws(() => choosePlacement(facts({ teeMemoryMb: leastMb - 1 })), {
    code: 'tee-memory',
    details: { leastMb, teeMemoryMb: leastMb - 1 },
  });
  choosePlacement(facts({ teeMemoryMb: leastMb }));
});

test('placements by name; parts that do not exist and other words are refused, naming what there is', () => {
  const plan = (text: string): string => inside(parsePlacement(text, facts({ config: tinyConfig })).plan);
  assert.equal(plan('accelerator'), 'aaaa');
  assert.equal(plan('enclave'), 'EEEE');
  assert.equal(plan('shielded:embedding,1,head'), 'EaEE');
  assert.throws(() => plan('shielded:embedding,2'), { code: 'plan-part', message: /blocks 0 to 1/ });
  assert.throws(() => plan('shielded:tail'), { code: 'plan-part', message: /no part "tail"/ });
  assert.throws(() => plan('shielded:'), { code: 'placement' });
  assert.throws(() => plan('gpu'), { code: 'placement', message: /shielded:PART/ });
});

test('spans cover every part once, in order; bases change only across the enclave', () => {
  const place = fc.constantFrom('accelerator', 'enclave') as fc.Arbitrary<'accelerator' | 'enclave'>;
  fc.assert(
    fc.property(place, fc.array(place, { maxLength: 9 }), place, (embedding, blocks, head) => {
      const plan = { embedding, blocks, head };
      const spans = spansOf(plan);
      assert.deepEqual(
        spans.map(({ index }) => index),
        spans.map((_, i) => i),
      );
      assert.equal(spans[0]!.embedding, true);
      assert.equal(spans.at(-1)!.head, true);
      assert.deepEqual(
        spans.filter(({ finalNorm }) => finalNorm),
        [spans.at(-2)],
      );
      const covered = spans.flatMap(({ first, end, place: where }) => Array.from({ length: end - first }, () => where));
      assert.deepEqual(covered, blocks);
      spans.slice(0, -1).forEach((span, i) => {
        const next = spans[i + 1]!;
        assert.equal(span.exitBasis, next.basis);
        if (span.place === 'accelerator')
          assert.equal(next.basis, span.basis, 'the accelerator never changes the basis itself');
      });
      // Two accelerator spans with an enclave-held part between them never share a basis.
      const onAccelerator = spans.filter((span) => span.place === 'accelerator');
      for (const a of onAccelerator)
        for (const b of onAccelerator) {
          const between = spans.slice(a.index + 1, b.index).some((span) => span.place === 'enclave');
          if (between) assert.notEqual(a.basis, b.basis);
        }
    }),
  );
});

test('what crosses per token', () => {
  assert.deepEqual(crossingsOf(uniformPlan(3, 'enclave'), 64, 16), []);
  const bytes = (plan: Plan): number[] => crossingsOf(plan, 64, 16).map(({ bytesPerToken }) => bytesPerToken);
  assert.deepEqual(bytes(uniformPlan(3, 'accelerator')), [4, 128]);
  assert.deepEqual(bytes(shieldedPlan(3, ['1'])), [4, 256, 256, 128]);
  assert.deepEqual(bytes(shieldedPlan(3, ['embedding', 'head'])), [256, 256]);
});
