// Tensor graphs with derived gradients, run by ONNX Runtime: `distillock/graph`.

export { gradients } from './gradient.js';
export { type Attribute, type Dim, type DType, Graph, type Value } from './graph.js';
export { encodeModel, type Placement } from './onnx.js';
export * from './ops/activation.js';
export * from './ops/attention.js';
export {
  type Divergence,
  divergenceOf,
  LOSSES,
  type LossName,
} from './ops/divergence.js';
export * from './ops/elementwise.js';
export * from './ops/loss.js';
export * from './ops/matmul.js';
export * from './ops/norm.js';
export * from './ops/reduce.js';
export * from './ops/rotary.js';
export * from './ops/shape.js';
export { type Feeds, Session, type SessionOptions, type Tensor } from './runtime.js';
