// The head and the distillation loss in one: logits exist only for a chunk of rows at a time, forward and backward together.
// Zone: edge. DESIGN section 8: the teacher's top-k plus one tail bucket is the distribution, so a divergence over them is one.
//
// Per row, with student softmax q of logits z, teacher top-k p and tail mass p_t, the student's tail is q_t = Σ_{j∉top} q_j. A
// divergence (divergence.ts) gives every bucket a pull w; with w̄ = Σ_b q_b w_b:
//   ∂D/∂z_j = q_j w̄ − q_j w_j on the top-k,  q_j (w̄ − w_t) elsewhere.
// At temperature T both sides use z/T and every divergence is multiplied by T² (Hinton et al. 2015), so ∂/∂z gets a factor T.
import { MalformedError } from '../../trusted/wire/errors.js';
import type { Graph, Value } from '../graph.js';
import { type Divergence, divergenceOf } from './divergence.js';
import { add, exp, log, max, mul, neg, sub } from './elementwise.js';
import { matmul } from './matmul.js';
import { reduceMax, reduceSum } from './reduce.js';
import { concat, gatherElements, scatterAdd, setElements, split } from './shape.js';

/** The teacher's side of every row; absent when training on the text alone. */
export interface TeacherTargets {
  /** int32 [rows, k], distinct within a row. */
  readonly ids: Value;
  /** [rows, k] natural log, at the temperature of the loss. */
  readonly logprobs: Value;
  /** [rows, 1] log of the mass outside the top-k; finite. */
  readonly tail: Value;
}

export interface LossInputs {
  /** [rows, width]. */
  readonly hidden: Value;
  /** [vocabulary, width]. */
  readonly weight: Value;
  /** int32 [rows, 1]: the next token. */
  readonly labels: Value;
  /** [rows, 1]: 0 for rows that do not count, else 1 / number of rows that do. */
  readonly rowWeight: Value;
  readonly teacher: TeacherTargets | null;
}

export interface LossOptions {
  /** D, from `divergenceOf`. */
  readonly divergence: Divergence;
  /**
   * loss = (1 − kdRatio)·CE + kdRatio·T²·D. The factor T² keeps the size of the gradient when T changes: D of logits divided
   * by T falls like 1/T². It is the same for every divergence, also for total variation, which falls like 1/T only. TRL's GKD
   * has no such factor.
   */
  readonly kdRatio: number;
  readonly temperature: number;
  /** Rows whose logits exist at the same time; must divide the number of rows. */
  readonly chunkRows: number;
}

export interface LossOutputs {
  /** Weighted sums over rows: the divergence at the loss temperature (without T²) and cross-entropy. */
  readonly kd: Value;
  readonly ce: Value;
  /** Gradients of the mixed loss. */
  readonly dHidden: Value;
  /** Null for a head that `frozenHead` says is not trained. */
  readonly dWeight: Value | null;
}

// Keeps ln and 1/x finite when the student puts no representable mass outside the top-k; far below any trained value.
const smallestTail = 1e-30;

interface Softmax {
  readonly logits: Value;
  readonly probabilities: Value;
  /** ln Σ exp, [rows, 1]. */
  readonly normaliser: Value;
}

function softmaxOf(graph: Graph, hidden: Value, weight: Value, temperature: number): Softmax {
  const logits = matmul(graph, hidden, weight, { transB: true, alpha: 1 / temperature });
  const probabilities = graph.emitOne('Softmax', [logits], { shape: logits.shape }, { axis: -1 });
  // The largest probability is exp(max − normaliser): two maxima cost less than another exponential over the vocabulary.
  const normaliser = sub(graph, reduceMax(graph, logits, [1]), log(graph, reduceMax(graph, probabilities, [1])));
  return { logits, probabilities, normaliser };
}

interface ChunkResult {
  readonly kd: Value;
  readonly ce: Value;
  readonly dLogits: Value;
}

function crossEntropyAt(graph: Graph, student: Softmax, labels: Value): Value {
  return sub(graph, student.normaliser, gatherElements(graph, student.logits, labels));
}

function weightedSum(graph: Graph, rows: Value, rowWeight: Value): Value {
  return reduceSum(graph, mul(graph, rows, rowWeight), [0, 1], false);
}

// Teacher and student over the buckets of every row: the top-k [rows, k] and the tail [rows, 1].
function bucketsOf(graph: Graph, student: Softmax, teacher: TeacherTargets) {
  const logq = sub(graph, gatherElements(graph, student.logits, teacher.ids), student.normaliser);
  const shape = teacher.ids.shape as number[];
  const zeros = graph.emitOne('Expand', [graph.scalar(0), graph.int64s(shape)], { shape });
  // Summing what is left after removing the top-k keeps the tail exact where 1 − Σq would cancel.
  const outside = setElements(graph, student.probabilities, teacher.ids, zeros);
  const qTail = max(graph, reduceSum(graph, outside, [1]), graph.scalar(smallestTail));
  return {
    top: { p: exp(graph, teacher.logprobs), logp: teacher.logprobs, q: exp(graph, logq), logq },
    tail: { p: exp(graph, teacher.tail), logp: teacher.tail, q: qTail, logq: log(graph, qTail) },
    outside,
  };
}

// A divergence per row [rows, 1], and the terms that its gradient is made of.
function divergenceRows(graph: Graph, divergence: Divergence, student: Softmax, teacher: TeacherTargets) {
  const buckets = bucketsOf(graph, student, teacher);
  const top = divergence.terms(graph, buckets.top);
  const tail = divergence.terms(graph, buckets.tail);
  return { buckets, top, tail, rows: add(graph, reduceSum(graph, top.term(), [1]), tail.term()) };
}

/**
 * The divergence per row and its gradient with respect to z/T times `scale` [rows, 1]. `extra` [rows, 1] adds that multiple of
 * the plain softmax to the gradient: the cross-entropy's part when it shares these logits.
 */
function teacherTerm(
  graph: Graph,
  divergence: Divergence,
  student: Softmax,
  teacher: TeacherTargets,
  scale: Value,
  extra: Value | null,
) {
  const { buckets, top, tail, rows } = divergenceRows(graph, divergence, student, teacher);
  const { q } = buckets.top;
  const pulled = top.weightedPull?.() ?? mul(graph, q, top.pull());
  const tailPull = tail.pull();
  const mean = divergence.unitPull
    ? graph.scalar(1)
    : add(graph, reduceSum(graph, pulled, [1]), mul(graph, buckets.tail.q, tailPull));
  const plus = (factor: Value): Value => (extra ? add(graph, factor, extra) : factor);
  const topFactor = plus(divergence.unitPull ? scale : mul(graph, scale, mean));
  const outsideFactor = plus(mul(graph, scale, sub(graph, mean, tailPull)));
  const onTop = sub(graph, mul(graph, q, topFactor), mul(graph, pulled, scale));
  return { rows, gradient: setElements(graph, mul(graph, buckets.outside, outsideFactor), teacher.ids, onTop) };
}

function chunkLoss(graph: Graph, inputs: LossInputs, options: LossOptions): ChunkResult {
  const { divergence, kdRatio, temperature } = options;
  const { hidden, weight, labels, rowWeight, teacher } = inputs;
  const zero = graph.scalar(0);
  const ceScale = mul(graph, rowWeight, graph.scalar(1 - kdRatio));
  const plain = softmaxOf(graph, hidden, weight, 1);
  const ceRows = crossEntropyAt(graph, plain, labels);
  const ce = weightedSum(graph, ceRows, rowWeight);
  if (teacher === null || kdRatio === 0) {
    const soft = mul(graph, plain.probabilities, ceScale);
    return { kd: zero, ce, dLogits: scatterAdd(graph, soft, labels, neg(graph, ceScale)) };
  }
  // ∂(T²·D)/∂z = T · ∂D/∂(z/T).
  const kdScale = mul(graph, rowWeight, graph.scalar(kdRatio * temperature));
  if (temperature === 1) {
    const shared = kdRatio === 1 ? null : ceScale;
    const { rows, gradient } = teacherTerm(graph, divergence, plain, teacher, kdScale, shared);
    const dLogits = kdRatio === 1 ? gradient : scatterAdd(graph, gradient, labels, neg(graph, ceScale));
    return { kd: weightedSum(graph, rows, rowWeight), ce, dLogits };
  }
  const softened = softmaxOf(graph, hidden, weight, temperature);
  const { rows, gradient } = teacherTerm(graph, divergence, softened, teacher, kdScale, null);
  const kd = weightedSum(graph, rows, rowWeight);
  if (kdRatio === 1) return { kd, ce, dLogits: gradient };
  const both = add(graph, gradient, mul(graph, plain.probabilities, ceScale));
  return { kd, ce, dLogits: scatterAdd(graph, both, labels, neg(graph, ceScale)) };
}

/** Emits the head, the loss and its gradients, `chunkRows` rows at a time; the head's own only where it is trained. */
export function distillationLoss(
  graph: Graph,
  inputs: LossInputs,
  options: LossOptions,
  frozenHead = false,
): LossOutputs {
  const dHidden: Value[] = [];
  let sums: { kd: Value; ce: Value } | null = null;
  let dWeight: Value | null = null;
  for (const chunk of chunksOf(graph, inputs, options.chunkRows)) {
    const { kd, ce, dLogits } = chunkLoss(graph, chunk, options);
    dHidden.push(matmul(graph, dLogits, inputs.weight));
    if (!frozenHead) {
      const own = matmul(graph, dLogits, chunk.hidden, { transA: true });
      dWeight = dWeight === null ? own : add(graph, dWeight, own);
    }
    sums = sums ? { kd: add(graph, sums.kd, kd), ce: add(graph, sums.ce, ce) } : { kd, ce };
  }
  return { ...sums!, dWeight, dHidden: dHidden.length === 1 ? dHidden[0]! : concat(graph, dHidden, 0) };
}

// The rows of the inputs in pieces of `chunkRows`.
function chunksOf(graph: Graph, inputs: LossInputs, chunkRows: number): LossInputs[] {
  const rows = inputs.hidden.shape[0] as number;
  if (rows % chunkRows !== 0)
    throw new MalformedError('loss-chunk', `${rows} rows cannot be cut into chunks of ${chunkRows}; choose a divisor`);
  if (rows === chunkRows) return [inputs];
  const sizes = Array.from({ length: rows / chunkRows }, () => chunkRows);
  const cut = (value: Value): Value[] => split(graph, value, sizes, 0);
  const [hidden, labels, rowWeight] = [cut(inputs.hidden), cut(inputs.labels), cut(inputs.rowWeight)];
  const teacher = inputs.teacher && {
    ids: cut(inputs.teacher.ids),
    logprobs: cut(inputs.teacher.logprobs),
    tail: cut(inputs.teacher.tail),
  };
  return sizes.map((_, i) => ({
    hidden: hidden[i]!,
    weight: inputs.weight,
    labels: labels[i]!,
    rowWeight: rowWeight[i]!,
    teacher: teacher && { ids: teacher.ids[i]!, logprobs: teacher.logprobs[i]!, tail: teacher.tail[i]! },
  }));
}

/** What an evaluation reports: weighted sums over rows. */
export interface EvaluationOutputs {
  /** KL(teacher‖student) at `temperature`, whatever divergence was trained with; 0 without a teacher. */
  readonly kd: Value;
  readonly ce: Value;
  /** Share of rows whose most likely token is the teacher's (its first id); 0 without a teacher. */
  readonly agreement: Value;
}

/** The same head and definitions without gradients, for held-out text. */
export function evaluationLoss(
  graph: Graph,
  inputs: LossInputs,
  { temperature, chunkRows }: Pick<LossOptions, 'temperature' | 'chunkRows'>,
): EvaluationOutputs {
  const totals = chunksOf(graph, inputs, chunkRows).map((chunk) => evaluateChunk(graph, chunk, temperature));
  return totals.reduce((a, b) => ({
    kd: add(graph, a.kd, b.kd),
    ce: add(graph, a.ce, b.ce),
    agreement: add(graph, a.agreement, b.agreement),
  }));
}

function evaluateChunk(
  graph: Graph,
  { hidden, weight, labels, rowWeight, teacher }: LossInputs,
  temperature: number,
): EvaluationOutputs {
  const plain = softmaxOf(graph, hidden, weight, 1);
  const ce = weightedSum(graph, crossEntropyAt(graph, plain, labels), rowWeight);
  if (teacher === null) return { kd: graph.scalar(0), ce, agreement: graph.scalar(0) };
  const softened = temperature === 1 ? plain : softmaxOf(graph, hidden, weight, temperature);
  const { rows } = divergenceRows(graph, divergenceOf('forward_kl'), softened, teacher);
  // The student agrees where the logit at the teacher's first id equals the row's maximum.
  const first = split(graph, teacher.ids, [1, (teacher.ids.shape[1] as number) - 1], 1)[0]!;
  const shape = first.shape;
  const best = graph.emitOne(
    'GreaterOrEqual',
    [gatherElements(graph, plain.logits, first), reduceMax(graph, plain.logits, [1])],
    { dtype: 'bool', shape },
  );
  const agrees = graph.emitOne('Where', [best, graph.scalar(1), graph.scalar(0)], { shape });
  return { kd: weightedSum(graph, rows, rowWeight), ce, agreement: weightedSum(graph, agrees, rowWeight) };
}
