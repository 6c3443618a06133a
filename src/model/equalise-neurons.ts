// Before quantising: scales of a gated feed-forward's neurons, moved between `up` and `down` so that all neurons are about as loud. Zone: owner.
// Exact in float32, as up·c with down/c cancel. It needs no text: with row norms d of down and column norms u, g of up and gate,
// c² = d / (u·g) balances the two products' quantisation noise (cross-layer equalisation, arXiv 1906.04721).
import type { SegmentWeight, Space } from './weights.js';

type WeightOf = (weight: SegmentWeight) => Promise<Float32Array>;

/**
 * Wraps what gives the locked weights of one model: `weights` are all of them. Weights without a gated feed-forward of its own
 * pass unchanged. Reads three matrices of a block before the first one that changes.
 */
export function equaliseNeurons(weights: readonly SegmentWeight[], weightOf: WeightOf): WeightOf {
  let last: { readonly block: number; readonly factors: Float32Array | null } | undefined;
  return async (weight) => {
    const role = roleOf(weight);
    const data = await weightOf(weight);
    if (weight.block === null || role === null) return data;
    if (last?.block !== weight.block) {
      last = { block: weight.block, factors: await factorsOf(weights, weight.block, weightOf) };
    }
    const { factors } = last;
    if (factors === null) return data;
    const columns = weight.shape.at(-1)!;
    return role === 'up'
      ? data.map((x, i) => x * factors[i % columns]!)
      : data.map((x, i) => x / factors[Math.floor(i / columns)]!);
  };
}

// Which side of the scales a weight is on: `up` also has a bias.
function roleOf(weight: SegmentWeight): 'up' | 'down' | null {
  if (weight.rows === 'neurons') return 'down';
  return weight.parts.length === 1 && weight.parts[0]!.columns === 'up' ? 'up' : null;
}

async function factorsOf(
  weights: readonly SegmentWeight[],
  block: number,
  weightOf: WeightOf,
): Promise<Float32Array | null> {
  const matrix = (wanted: (weight: SegmentWeight) => boolean): SegmentWeight | undefined =>
    weights.find((weight) => weight.block === block && weight.kind === 'matrix' && wanted(weight));
  const alone = (space: Space) => (weight: SegmentWeight) =>
    weight.parts.length === 1 && weight.parts[0]!.columns === space;
  const [gate, up, down] = [matrix(alone('gate')), matrix(alone('up')), matrix(({ rows }) => rows === 'neurons')];
  if (gate === undefined || up === undefined || down === undefined) return null;
  const size = down.shape[0]!;
  const squares = async (weight: SegmentWeight, neuronOf: (i: number) => number): Promise<Float64Array> => {
    const sums = new Float64Array(size);
    (await weightOf(weight)).forEach((x, i) => {
      sums[neuronOf(i)]! += x * x;
    });
    return sums;
  };
  const g = await squares(gate, (i) => i % size);
  const u = await squares(up, (i) => i % size);
  const d = await squares(down, (i) => Math.floor(i / down.shape[1]!));
  return Float32Array.from(d, (x, j) => {
    const factor = (x / (u[j]! * g[j]!)) ** 0.25;
    return Number.isFinite(factor) && factor > 0 ? factor : 1;
  });
}
