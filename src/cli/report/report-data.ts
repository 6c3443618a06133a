// What a report shows, and curves made from metrics. Rendering is in page.ts.
import type { MetricsLine } from '../../edge/metrics.js';

export interface ReportTable {
  readonly title: string;
  /** What the numbers mean, in a sentence. */
  readonly caption: string;
  readonly columns: readonly {
    readonly title: string;
    readonly numeric?: boolean;
    /** Cells with these texts are marked; the text says it as well, so nobody needs to see colours. */
    readonly tones?: Readonly<Record<string, 'good' | 'middling' | 'bad'>>;
  }[];
  readonly rows: readonly (readonly string[])[];
}

export interface ReportCurves {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  /** Logarithmic x with a tick at every point; its numbers are shown point by point. */
  readonly logX?: boolean;
  /** Level lines. */
  readonly levels?: readonly { readonly name: string; readonly y: number }[];
  readonly series: readonly {
    readonly name: string;
    readonly points: readonly (readonly [x: number, y: number])[];
    /** Number of its colour, for series that belong together; the next one when absent. */
    readonly colour?: number;
    readonly dashed?: boolean;
  }[];
}

export interface ReportData {
  readonly title: string;
  /** The enclave was not a real one: the page says so at the top. */
  readonly simulated: boolean;
  readonly summary: readonly (readonly [name: string, value: string])[];
  /** What came out, in plain sentences, before any number. */
  readonly findings?: readonly string[];
  readonly tables: readonly ReportTable[];
  readonly curves: readonly ReportCurves[];
  /** Tables that come after the curves. */
  readonly details?: readonly ReportTable[];
  /** Settings, shown as they are; null: none. */
  readonly config: Readonly<Record<string, unknown>> | null;
  /** Plain sentences: what is protected and what is not. */
  readonly notes: readonly string[];
}

const CURVES: readonly (readonly [title: string, yLabel: string, fields: readonly (keyof MetricsLine)[]])[] = [
  ['Training loss', 'nats per token', ['loss', 'kd', 'ce']],
  ['Held-out text', 'nats per token', ['eval_kl', 'eval_nll']],
  ['Agreement with the teacher', 'share of tokens', ['eval_agreement']],
  ['Learning rate', '', ['lr']],
  ['Speed', 'tokens/s', ['tokens_per_s']],
];

const NAMES: Readonly<Partial<Record<keyof MetricsLine, string>>> = {
  loss: 'loss',
  kd: 'divergence from teacher',
  ce: 'cross-entropy',
  eval_kl: 'KL to teacher',
  eval_nll: 'NLL',
  eval_agreement: 'agreement',
  lr: 'learning rate',
  tokens_per_s: 'tokens/s',
};

/** Curves over steps of whatever the metrics hold; runs by name share a chart. */
export function curvesOf(runs: Readonly<Record<string, readonly MetricsLine[]>>): ReportCurves[] {
  const several = Object.keys(runs).length > 1;
  return CURVES.flatMap(([title, yLabel, fields]) => {
    const series = Object.entries(runs).flatMap(([run, lines]) =>
      fields.flatMap((field) => {
        const points = lines.flatMap((line) => {
          const y = line[field];
          return typeof y === 'number' ? [[line.step, y] as const] : [];
        });
        const name = NAMES[field] ?? field;
        return points.length === 0 ? [] : [{ name: several ? `${run}: ${name}` : name, points: thin(points) }];
      }),
    );
    return series.length === 0 ? [] : [{ title, xLabel: 'optimiser step', yLabel, series }];
  });
}

const MOST_POINTS = 2000;

/** Every n-th point, and the last. */
function thin<T>(points: readonly T[]): readonly T[] {
  const every = Math.ceil(points.length / MOST_POINTS);
  return every === 1 ? points : points.filter((_, i) => i % every === 0 || i === points.length - 1);
}
