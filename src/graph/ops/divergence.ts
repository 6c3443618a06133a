// Divergences of a student q from a teacher p over buckets (the teacher's top-k and one for the rest), with their gradients.
// Zone: edge. LOSSES is the only place that lists them: names, parameters, checks and the training log come from it.
//
// Each is a sum D = Σ_b d(p_b, q_b). With w_b = −∂d/∂q_b (up to a constant, which Σq = 1 cancels) and w̄ = Σ_b q_b w_b, the
// gradient for the student's logits is ∂D/∂z_j = q_j (w̄ − w_b(j)). Ratios stay in logarithms, so no bucket can divide by zero.
import { MalformedError } from '../../trusted/wire/errors.js';
import type { Graph, Value } from '../graph.js';
import { add, div, exp, mul, neg, sub } from './elementwise.js';

/** The probabilities of some buckets, all of one shape; the logarithms are finite. */
export interface Buckets {
  readonly p: Value;
  readonly logp: Value;
  readonly q: Value;
  readonly logq: Value;
}

/** What a divergence is made of, for each bucket; emitted when asked for. */
export interface BucketTerms {
  /** d(p, q). */
  readonly term: () => Value;
  /** w: how much the divergence would fall if the bucket grew. */
  readonly pull: () => Value;
  /** q·w, where it has a form of its own. */
  readonly weightedPull?: () => Value;
}

type Terms = (graph: Graph, buckets: Buckets) => BucketTerms;

export interface Divergence {
  /** Name and parameter, as the training log shows them: `jsd(beta=0.5)`. */
  readonly label: string;
  readonly terms: Terms;
  /** True when w̄ is 1 whatever the student is. */
  readonly unitPull: boolean;
}

/** Names in the configuration. */
export type LossName = 'forward_kl' | 'reverse_kl' | 'jsd' | 'skew_kl' | 'skew_reverse_kl' | 'tvd';

export interface LossParameter {
  readonly name: 'beta' | 'skew_alpha';
  readonly fallback: number;
  readonly range: string;
  readonly allows: (value: number) => boolean;
}

export interface Loss {
  /** Null for a divergence that has none. */
  readonly parameter: LossParameter | null;
  readonly make: (parameter: number) => Omit<Divergence, 'label'>;
}

/** KL(p‖q) = Σ p ln(p/q), w = p/q. Hinton et al. 2015, arXiv 1503.02531. */
function forward(): Omit<Divergence, 'label'> {
  const terms: Terms = (graph, { p, logp, q, logq }) => ({
    term: () => mul(graph, p, sub(graph, logp, logq)),
    pull: () => div(graph, p, q),
    weightedPull: () => p,
  });
  return { terms, unitPull: true };
}

/** KL(q‖p) = Σ q ln(q/p), w = ln(p/q). MiniLLM, Gu et al. 2023, arXiv 2306.08543. */
function reverse(): Omit<Divergence, 'label'> {
  const terms: Terms = (graph, { logp, q, logq }) => ({
    term: () => mul(graph, q, sub(graph, logq, logp)),
    pull: () => sub(graph, logp, logq),
  });
  return { terms, unitPull: false };
}

/**
 * Generalized Jensen-Shannon as in TRL: β KL(p‖m) + (1 − β) KL(q‖m) with m = βp + (1 − β)q, w = −(1 − β) ln(q/m). β = 0 is
 * KL(p‖q) and β = 1 KL(q‖p), which the formula does not approach: it goes to 0 like β and 1 − β. Agarwal et al. 2023, arXiv 2306.13649.
 */
function jsd(beta: number): Omit<Divergence, 'label'> {
  if (beta === 0) return forward();
  if (beta === 1) return reverse();
  const terms: Terms = (graph, buckets) => {
    const { overP, overQ } = againstMixture(graph, buckets, beta);
    const [teacher, student] = [graph.scalar(beta), graph.scalar(1 - beta)];
    return {
      term: () =>
        add(
          graph,
          mul(graph, mul(graph, buckets.p, overP()), teacher),
          mul(graph, mul(graph, buckets.q, overQ()), student),
        ),
      pull: () => mul(graph, overQ(), graph.scalar(beta - 1)),
    };
  };
  return { terms, unitPull: false };
}

/** Skew KL: KL(p‖m) with m = αp + (1 − α)q, w = (1 − α) p/m. DistiLLM, Ko et al. 2024, arXiv 2402.03898. */
function skewed(alpha: number): Omit<Divergence, 'label'> {
  const terms: Terms = (graph, buckets) => {
    const { overP } = againstMixture(graph, buckets, alpha);
    return {
      term: () => mul(graph, buckets.p, overP()),
      pull: () => mul(graph, exp(graph, overP()), graph.scalar(1 - alpha)),
    };
  };
  return { terms, unitPull: false };
}

/** Skew reverse KL: KL(q‖m) with m = (1 − α)p + αq, w = α q/m − ln(q/m). DistiLLM, arXiv 2402.03898. */
function skewedReverse(alpha: number): Omit<Divergence, 'label'> {
  const terms: Terms = (graph, buckets) => {
    const { overQ } = againstMixture(graph, buckets, 1 - alpha);
    return {
      term: () => mul(graph, buckets.q, overQ()),
      pull: () => sub(graph, mul(graph, exp(graph, overQ()), graph.scalar(alpha)), overQ()),
    };
  };
  return { terms, unitPull: false };
}

/** Total variation ½ Σ |p − q|, w = ½ sign(p − q), 0 where they are equal. f-distill, Wen et al. 2023, arXiv 2307.15190. */
function totalVariation(): Omit<Divergence, 'label'> {
  const terms: Terms = (graph, { p, q }) => {
    const half = (opType: string): Value => {
      const value = graph.emitOne(opType, [sub(graph, p, q)], { shape: q.shape });
      return mul(graph, value, graph.scalar(0.5));
    };
    return { term: () => half('Abs'), pull: () => half('Sign') };
  };
  return { terms, unitPull: false };
}

const beta: LossParameter = {
  name: 'beta',
  fallback: 0.5,
  range: 'from 0 to 1',
  allows: (value) => value >= 0 && value <= 1,
};
const skewAlpha: LossParameter = {
  name: 'skew_alpha',
  fallback: 0.1,
  range: 'between 0 and 1',
  allows: (value) => value > 0 && value < 1,
};

/** Every divergence by its name. */
export const LOSSES: Readonly<Record<LossName, Loss>> = {
  forward_kl: { parameter: null, make: forward },
  reverse_kl: { parameter: null, make: reverse },
  jsd: { parameter: beta, make: jsd },
  skew_kl: { parameter: skewAlpha, make: skewed },
  skew_reverse_kl: { parameter: skewAlpha, make: skewedReverse },
  tvd: { parameter: null, make: totalVariation },
};

/** The divergence of that name; `parameter` is its own (default: the table's). Throws MalformedError('loss-parameter'). */
export function divergenceOf(name: LossName, parameter?: number): Divergence {
  const loss = LOSSES[name];
  if (loss.parameter === null) {
    if (parameter === undefined) return { label: name, ...loss.make(Number.NaN) };
    throw new MalformedError('loss-parameter', `loss ${name} has no parameter and got ${parameter}; leave it out`, {
      name,
    });
  }
  const value = parameter ?? loss.parameter.fallback;
  if (!loss.parameter.allows(value)) {
    const message = `${loss.parameter.name} of loss ${name} is ${value}; it must be ${loss.parameter.range}`;
    throw new MalformedError('loss-parameter', message, { name, parameter: loss.parameter.name });
  }
  return { label: `${name}(${loss.parameter.name}=${value})`, ...loss.make(value) };
}

// ln(p/m) and ln(q/m) with m = share·p + (1 − share)·q. With e = ln(share·p) − ln((1 − share)·q), m is (1 − share)·q·(1 + eᵉ):
// a softplus, finite where p or q is too small for a float32.
function againstMixture(graph: Graph, { logp, logq }: Buckets, share: number) {
  const lead = add(graph, sub(graph, logp, logq), graph.scalar(Math.log(share) - Math.log1p(-share)));
  const over = (x: Value, ownShare: number): Value => {
    const softplus = graph.emitOne('Softplus', [x], { shape: x.shape });
    return sub(graph, graph.scalar(-Math.log(ownShare)), softplus);
  };
  return {
    overP: once(() => over(neg(graph, lead), share)),
    overQ: once(() => over(lead, 1 - share)),
  };
}

function once(make: () => Value): () => Value {
  let made: Value | null = null;
  return () => {
    made ??= make();
    return made;
  };
}
