// Matrix products outside a model, at the runtime's speed: for whoever prepares weights.
// Zone: owner. Operands of any size, batched over the leading axis.
import { Graph } from './graph.js';
import { encodeModel } from './onnx.js';
import { matmul } from './ops/matmul.js';
import { Session } from './runtime.js';

export interface ProductShape {
  /** Products that stand one after the other in both operands; default 1. */
  readonly batch?: number;
  readonly rows: number;
  readonly inner: number;
  readonly columns: number;
  /** b is stored [columns, inner]. */
  readonly transB?: boolean;
}

const sessions = new Map<boolean, Promise<Session>>();

function sessionFor(transB: boolean): Promise<Session> {
  const found = sessions.get(transB);
  if (found) return found;
  const graph = new Graph();
  const a = graph.input('a', 'float32', ['batch', 'rows', 'inner']);
  const b = graph.input('b', 'float32', transB ? ['batch', 'columns', 'inner'] : ['batch', 'inner', 'columns']);
  graph.output('c', matmul(graph, a, b, { transB }));
  const opened = Session.open(encodeModel(graph), { spin: false });
  sessions.set(transB, opened);
  return opened;
}

/** a [batch, rows, inner] · b [batch, inner, columns] → [batch, rows, columns], float32. */
export async function multiply(a: Float32Array, b: Float32Array, shape: ProductShape): Promise<Float32Array> {
  const { batch = 1, rows, inner, columns, transB = false } = shape;
  const c = new Float32Array(batch * rows * columns);
  const session = await sessionFor(transB);
  const feeds = {
    a: { data: a, shape: [batch, rows, inner] },
    b: { data: b, shape: transB ? [batch, columns, inner] : [batch, inner, columns] },
  };
  await session.run(feeds, { c: { data: c, shape: [batch, rows, columns] } });
  return c;
}

/** X ↦ X·matrix for one matrix [inner, columns] that serves many products; the runtime lays it out once. */
export interface FixedProduct {
  /** a [rows, inner] → [rows, columns]. A row's result does not depend on the rows beside it. */
  apply(a: Float32Array, rows: number): Promise<Float32Array>;
  close(): Promise<void>;
}

export async function openProduct(matrix: Float32Array, inner: number, columns: number): Promise<FixedProduct> {
  const graph = new Graph();
  const a = graph.input('a', 'float32', ['rows', inner]);
  graph.output('c', matmul(graph, a, graph.constant(matrix, [inner, columns])));
  const session = await Session.open(encodeModel(graph), { spin: false });
  return {
    async apply(data, rows) {
      const c = new Float32Array(rows * columns);
      await session.run({ a: { data, shape: [rows, inner] } }, { c: { data: c, shape: [rows, columns] } });
      return c;
    },
    close: () => session.close(),
  };
}
