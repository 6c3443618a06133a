// Scheme `rotation`: a dense secret orthogonal basis of the residual, and inside every block secret changes of basis that cancel
// between the weights on their two sides. Zone: owner. DESIGN section 3. No cost at inference: shapes and operators stay the same.
import type { DecoderConfig } from '../../model/config.js';
import type { Space } from '../../model/weights.js';
import { LabelledStream } from '../../trusted/lock/stream.js';
import { vocabularyPermutation } from '../../trusted/lock/vocabulary.js';
import { type BasisChange, blockDiagonal, chain, orthogonal, pairRotations, permuted, scaled } from './basis.js';
import { leftOutOf } from './left-out.js';
import type { LockScheme } from './lock-scheme.js';
import { haarOrthogonal, type Invertible, uniform, wellConditioned } from './orthogonal.js';

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

  const { transposed, inverse } = await mixingMatrices(stream('values'), kvHeads, headDim, VALUE_STRETCH);
  const value = blockDiagonal(transposed, inverse, headDim);
  const mixed = blockDiagonal(
    forQueryHeads(transposed, kvHeads, group),
    forQueryHeads(inverse, kvHeads, group),
    headDim,
  );

  const pair = await queryKeyPair(stream('pairs'), config, quarterTurns);
  return {
    query: pair === null ? moveQuery : chain(pair.query, moveQuery),
    key: pair === null ? moveKv : chain(pair.key, moveKv),
    value: chain(value, moveKv),
    heads: chain(mixed, moveQuery),
  };
}

/**
 * Changes of queries and keys, per key/value head, that leave q·kᵀ as it is: stretched rotations of RoPE's pairs, or any well-conditioned
 * M with its inverse transpose where nothing is rotated. null where a norm lies between the projections and the product.
 */
async function queryKeyPair(
  stream: LabelledStream,
  config: DecoderConfig,
  quarterTurns: boolean,
): Promise<{ query: BasisChange; key: BasisChange } | null> {
  const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, qkNorm, positions } = config;
  const group = heads / kvHeads;
  if (qkNorm !== null) return null;
  if (positions === 'learned') {
    const { transposed, inverse } = await mixingMatrices(stream, kvHeads, headDim, PAIR_STRETCH);
    const query = blockDiagonal(
      forQueryHeads(transposed, kvHeads, group),
      forQueryHeads(inverse, kvHeads, group),
      headDim,
    );
    // Keys change by M⁻ᵀ: its transpose is M⁻¹ and its inverse Mᵀ.
    return { query, key: blockDiagonal(inverse, transposed, headDim) };
  }
  // A large query component often meets a small key component: any angle but a quarter turn would spread its rounding onto the other.
  const turns = (u: number): number => (quarterTurns ? Math.floor(4 * u) / 4 : u);
  const angles = Float32Array.from({ length: (kvHeads * headDim) / 2 }, () => 2 * Math.PI * turns(uniform(stream)));
  const factors = stretches(stream, angles.length, PAIR_STRETCH);
  const query = pairRotations(forQueryHeads(angles, kvHeads, group), forQueryHeads(factors, kvHeads, group), headDim);
  // (q·ρR)(k·ρ⁻¹R)ᵀ = q·kᵀ.
  const key = pairRotations(
    angles,
    factors.map((factor) => 1 / factor),
    headDim,
  );
  return { query, key };
}

/** One well-conditioned matrix per key/value head: transposes and inverses, each [kvHeads, headDim, headDim]. */
async function mixingMatrices(
  stream: LabelledStream,
  kvHeads: number,
  headDim: number,
  stretch: number,
): Promise<Invertible> {
  const size = headDim * headDim;
  const transposed = new Float32Array(kvHeads * size);
  const inverse = new Float32Array(kvHeads * size);
  for (let j = 0; j < kvHeads; j++) {
    const block = await wellConditioned(stream, headDim, stretch);
    transposed.set(block.transposed, j * size);
    inverse.set(block.inverse, j * size);
  }
  return { transposed, inverse };
}

function feedForwardSpaces(stream: (role: string) => LabelledStream, config: DecoderConfig): BlockSpaces {
  const size = config.intermediateSize;
  const move = permuted(stream('neurons').permutation(size));
  if (!config.gatedMlp) return { up: move, neurons: move };
  const signed = stream('scales');
  const factors = stretches(signed, size, NEURON_STRETCH).map((c) => (signed.u32() % 2 === 0 ? c : -c));
  const stretch = chain(scaled(factors), move);
  return { gate: move, up: stretch, neurons: stretch };
}

/** Bases of what the sublayers hand to the norms of their outputs, which commute with any rotation once their gain is one. */
async function outputSpaces(stream: (role: string) => LabelledStream, config: DecoderConfig): Promise<BlockSpaces> {
  if (config.norms === 'pre') return {};
  const basis = async (role: 'attention-out' | 'feed-forward-out'): Promise<BasisChange> =>
    orthogonal(await haarOrthogonal(stream(role), config.hiddenSize), config.hiddenSize);
  return { 'attention-out': await basis('attention-out'), 'feed-forward-out': await basis('feed-forward-out') };
}

export function rotationScheme(seed: Uint8Array, config: DecoderConfig, quarterTurns = false): LockScheme {
  const vocabulary = permuted(vocabularyPermutation(seed, 'rotation', config.vocabSize));
  // The last of each is enough: segments and blocks are locked in order.
  let residual: { segment: number; basis: BasisChange } | null = null;
  let spaces: { block: number; spaces: BlockSpaces } | null = null;

  async function residualOf(segment: number): Promise<BasisChange> {
    if (residual?.segment !== segment) {
      await residual?.basis.close?.();
      const q = await haarOrthogonal(new LabelledStream(seed, `rotation/residual/${segment}`), config.hiddenSize);
      residual = { segment, basis: orthogonal(q, config.hiddenSize) };
    }
    return residual.basis;
  }

  async function spacesOf(block: number): Promise<BlockSpaces> {
    if (spaces?.block !== block) {
      for (const basis of Object.values(spaces?.spaces ?? {})) await basis.close?.();
      const stream = (role: string): LabelledStream => new LabelledStream(seed, `rotation/block ${block}/${role}`);
      const attention = await attentionSpaces(stream, config, quarterTurns);
      const outputs = await outputSpaces(stream, config);
      spaces = { block, spaces: { ...attention, ...feedForwardSpaces(stream, config), ...outputs } };
    }
    return spaces.spaces;
  }

  return {
    scheme: 'rotation',
    foldsGains: true,
    leftOut: leftOutOf('rotation', config),
    basis: async (space, { segment, block }) => {
      if (space === 'residual') return residualOf(segment);
      if (space === 'vocabulary') return vocabulary;
      return block === null ? null : ((await spacesOf(block))[space] ?? null);
    },
  };
}
