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
