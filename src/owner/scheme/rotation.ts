// Scheme `rotation`: a dense secret orthogonal basis of the residual, and inside every block secret changes of basis that cancel
// between the weights on their two sides. Zone: owner. DESIGN section 3. No cost at inference: shapes and operators stay the same.
import type { DecoderConfig } from '../../model/config.js';
import type { Space } from '../../model/segments.js';
import { LabelledStream } from '../../trusted/lock/stream.js';
import { vocabularyPermutation } from '../../trusted/lock/vocabulary.js';
import { type BasisChange, blockDiagonal, chain, orthogonal, pairRotations, permuted, scaled } from './basis.js';
import type { LockScheme } from './lock-scheme.js';
import { haarOrthogonal, uniform, wellConditioned } from './orthogonal.js';

/** Bounds of the secret stretches; small, so that float32 and later quantisation lose nothing. */
const VALUE_STRETCH = 1.4;
const PAIR_STRETCH = 1.4;
const NEURON_STRETCH = 2;

type BlockSpaces = Readonly<Partial<Record<Space, BasisChange>>>;

/** Log-uniform in [1/stretch, stretch]. */
function stretches(stream: LabelledStream, size: number, stretch: number): Float32Array {
  return Float32Array.from({ length: size }, () => stretch ** (2 * uniform(stream) - 1));
}

/** Rows of `perKvHead` [kvHeads, width] repeated for every query head of a group, [heads, width]. */
function forQueryHeads(perKvHead: Float32Array, kvHeads: number, group: number): Float32Array {
  const width = perKvHead.length / kvHeads;
  const out = new Float32Array(perKvHead.length * group);
  for (let head = 0; head < kvHeads * group; head++) {
    const kv = Math.floor(head / group);
    out.set(perKvHead.subarray(kv * width, (kv + 1) * width), head * width);
  }
  return out;
}

/** Where key/value heads and, inside their groups, query heads move to. */
function headPermutations(
  stream: LabelledStream,
  kvHeads: number,
  group: number,
): { kv: Int32Array; query: Int32Array } {
  const kv = stream.permutation(kvHeads);
  const query = new Int32Array(kvHeads * group);
  for (let j = 0; j < kvHeads; j++) {
    stream.permutation(group).forEach((to, g) => {
      query[j * group + g] = kv[j]! * group + to;
    });
  }
  return { kv, query };
}

async function attentionSpaces(
  stream: (role: string) => LabelledStream,
  config: DecoderConfig,
  quarterTurns: boolean,
): Promise<BlockSpaces> {
  const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim } = config;
  const group = heads / kvHeads;
  const { kv, query } = headPermutations(stream('heads'), kvHeads, group);
  const [moveKv, moveQuery] = [permuted(kv, headDim), permuted(query, headDim)];

  const mixing = stream('values');
  const transposed = new Float32Array(kvHeads * headDim * headDim);
  const inverse = new Float32Array(transposed.length);
  for (let j = 0; j < kvHeads; j++) {
    const block = await wellConditioned(mixing, headDim, VALUE_STRETCH);
    transposed.set(block.transposed, j * headDim * headDim);
    inverse.set(block.inverse, j * headDim * headDim);
  }
  const value = blockDiagonal(transposed, inverse, headDim);
  const mixed = blockDiagonal(
    forQueryHeads(transposed, kvHeads, group),
    forQueryHeads(inverse, kvHeads, group),
    headDim,
  );

  const pairs = stream('pairs');
  // A large query component often meets a small key component: any angle but a quarter turn would spread its rounding onto the other.
  const turns = (u: number): number => (quarterTurns ? Math.floor(4 * u) / 4 : u);
  const angles = Float32Array.from({ length: (kvHeads * headDim) / 2 }, () => 2 * Math.PI * turns(uniform(pairs)));
  const factors = stretches(pairs, angles.length, PAIR_STRETCH);
  const q = pairRotations(forQueryHeads(angles, kvHeads, group), forQueryHeads(factors, kvHeads, group), headDim);
  // (q·ρR)(k·ρ⁻¹R)ᵀ = q·kᵀ.
  const k = pairRotations(
    angles,
    factors.map((factor) => 1 / factor),
    headDim,
  );
  return {
    query: chain(q, moveQuery),
    key: chain(k, moveKv),
    value: chain(value, moveKv),
    heads: chain(mixed, moveQuery),
  };
}

function feedForwardSpaces(stream: (role: string) => LabelledStream, config: DecoderConfig): BlockSpaces {
  const size = config.intermediateSize;
  const move = permuted(stream('neurons').permutation(size));
  const signed = stream('scales');
  const factors = stretches(signed, size, NEURON_STRETCH).map((c) => (signed.u32() % 2 === 0 ? c : -c));
  const stretch = chain(scaled(factors), move);
  return { gate: move, up: stretch, neurons: stretch };
}

export function rotationScheme(seed: Uint8Array, config: DecoderConfig, quarterTurns = false): LockScheme {
  const vocabulary = permuted(vocabularyPermutation(seed, 'rotation', config.vocabSize));
  // The last of each is enough: segments and blocks are locked in order.
  let residual: { segment: number; basis: BasisChange } | null = null;
  let spaces: { block: number; spaces: BlockSpaces } | null = null;

  async function residualOf(segment: number): Promise<BasisChange> {
    if (residual?.segment !== segment) {
      const q = await haarOrthogonal(new LabelledStream(seed, `rotation/residual/${segment}`), config.hiddenSize);
      residual = { segment, basis: orthogonal(q, config.hiddenSize) };
    }
    return residual.basis;
  }

  async function spacesOf(block: number): Promise<BlockSpaces> {
    if (spaces?.block !== block) {
      const stream = (role: string): LabelledStream => new LabelledStream(seed, `rotation/block ${block}/${role}`);
      const attention = await attentionSpaces(stream, config, quarterTurns);
      spaces = { block, spaces: { ...attention, ...feedForwardSpaces(stream, config) } };
    }
    return spaces.spaces;
  }

  return {
    scheme: 'rotation',
    foldsGains: true,
    leftOut: [],
    basis: async (space, { segment, block }) => {
      if (space === 'residual') return residualOf(segment);
      if (space === 'vocabulary') return vocabulary;
      return block === null ? null : ((await spacesOf(block))[space] ?? null);
    },
  };
}
