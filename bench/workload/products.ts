// Which matrix products a model computes, forward only or in a training step.
import type { DecoderConfig } from '../../src/model/config.js';
import type { Product } from './sgemm.js';

/** Products with weights, and attention's own. */
export interface ModelProducts {
  readonly weights: readonly Product[];
  readonly attention: readonly Product[];
}

interface Shape {
  readonly rows: number;
  readonly columns: number;
}

/** Sizes by the letters of the design: width, feed-forward, heads, key/value heads, head width, vocabulary. */
function sizesOf(config: DecoderConfig) {
  return {
    d: config.hiddenSize,
    m: config.intermediateSize,
    h: config.numAttentionHeads,
    g: config.numKeyValueHeads,
    e: config.headDim,
    v: config.vocabSize,
    layers: config.numHiddenLayers,
  };
}

/** Products of a forward pass over [rows, columns] tokens with constant weights; the head sees `headRows` rows at a time. */
export function forwardProducts(config: DecoderConfig, { rows, columns }: Shape, headRows: number): ModelProducts {
  const { d, m, h, g, e, v, layers } = sizesOf(config);
  const tokens = rows * columns;
  const weight = (left: number, input: number, output: number, count: number): Product => ({
    left: [left, input],
    right: [input, output],
    count,
    constant: true,
  });
  return {
    weights: [
      weight(tokens, d, (h + 2 * g) * e, layers),
      weight(tokens, h * e, d, layers),
      weight(tokens, d, m, 2 * layers),
      weight(tokens, m, d, layers),
      weight(headRows, d, v, tokens / headRows),
    ],
    attention: [
      { left: [rows, h, columns, e], right: [rows, h, e, columns], count: layers, constant: false },
      { left: [rows, h, columns, columns], right: [rows, h, columns, e], count: layers, constant: false },
    ],
  };
}

/** Products of a training step: each weight forward, for the input's gradient and for its own; attention likewise. */
export function trainingProducts(config: DecoderConfig, { rows, columns }: Shape): ModelProducts {
  const { d, m, h, g, e, v, layers } = sizesOf(config);
  const tokens = rows * columns;
  const plain = (left: number[], right: number[], count: number): Product => ({ left, right, count, constant: false });
  const linear = (input: number, output: number, count: number): Product[] => [
    plain([tokens, input], [input, output], count),
    plain([tokens, output], [output, input], count),
    plain([output, tokens], [tokens, input], count),
  ];
  const scores: Product = plain([rows, h, columns, e], [rows, h, e, columns], layers);
  const mixed: Product = plain([rows, h, columns, columns], [rows, h, columns, e], layers);
  return {
    weights: [
      ...linear(d, h * e, layers),
      ...linear(d, g * e, 2 * layers),
      ...linear(h * e, d, layers),
      ...linear(d, m, 2 * layers),
      ...linear(m, d, layers),
      ...linear(d, v, 1),
    ],
    // Forward: scores and mixed. Backward: dV and dQ, dK are shaped like mixed, dP like scores.
    attention: [
      { ...scores, count: 2 * layers },
      { ...mixed, count: 4 * layers },
    ],
  };
}
