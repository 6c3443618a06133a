// The head's logits, for a whole vocabulary or one tile of it: product, bias, soft cap, temperature. Zone: edge, owner and enclave graphs.
// DESIGN section 4.
import type { Dim, Graph, Value } from '../graph/graph.js';
import type { DecoderConfig } from './config.js';
import { createLinear, int8Product, type LinearFormat, quantiseRows } from './linear-lowering.js';
import { headBiasWeight, headWeight, type SegmentWeight } from './weights.js';

export interface HeadInputs {
  /** [rows, width], after the final norm. */
  readonly hidden: Value;
  readonly inverseTemperature: Value;
  /** The vocabulary, or the name of a tile's size; formats in blocks take the vocabulary only. */
  readonly columns: Dim;
  readonly format: LinearFormat;
}

/** Logits divided by the temperature [rows, columns], and the weights that they take, whole. */
export function headLogits(
  graph: Graph,
  config: DecoderConfig,
  { hidden, inverseTemperature, columns, format }: HeadInputs,
): { readonly logits: Value; readonly weights: readonly SegmentWeight[] } {
  const { headBias, finalSoftCap: cap } = config;
  const weight = { ...headWeight(config), format };
  const shape = ['rows', columns];
  const times = (x: Value, factor: Value): Value => graph.emitOne('Mul', [x, factor], { shape: x.shape });
  // Scaling what is narrow scales every logit at a fraction of the cost, where nothing comes between.
  const early = !headBias && cap === null;
  const scaled = (x: Value): Value => (early ? times(x, inverseTemperature) : x);
  let logits: Value;
  if (format === 'int8') {
    const rows = quantiseRows(graph, hidden);
    logits = int8Product(graph, { ...rows, factors: scaled(rows.factors) }, weight.name, columns);
  } else if (format !== 'float32') {
    logits = createLinear(graph, format).product(scaled(hidden), weight);
  } else {
    const matrix = graph.weight(weight.name, [config.hiddenSize, columns]);
    logits = graph.emitOne('MatMul', [scaled(hidden), matrix], { shape });
  }
  if (early) return { logits, weights: [weight] };
  const weights: SegmentWeight[] = [weight];
  if (headBias) {
    const bias = headBiasWeight(config);
    weights.push(bias);
    logits = graph.emitOne('Add', [logits, graph.weight(bias.name, [columns])], { shape });
  }
  if (cap !== null) {
    const bent = graph.emitOne('Tanh', [times(logits, graph.scalar(1 / cap))], { shape });
    logits = times(bent, graph.scalar(cap));
  }
  return { logits: times(logits, inverseTemperature), weights };
}
