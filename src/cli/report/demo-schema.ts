// demo-out/report.json: the demo's results for programs. Documented in docs/results/SCHEMA.md.
import { z } from 'zod';

/** On held-out text, per token, in nats; agreement is the share of tokens with the same most likely next token. */
export interface DemoStudent {
  readonly kl: number;
  readonly nll: number;
  readonly agreement: number;
}

/** One placement of the same teacher. */
export interface DemoPlacement {
  readonly placement: string;
  /** Over the same unlocked graph without an enclave. */
  readonly overheadRatio: number;
  /** Locked weights and graphs that anybody with the bundle can read. */
  readonly readableBytes: number;
  /** Between accelerator and enclave. */
  readonly crossingBytesPerToken: number;
  /** What a recorder of a licensed session holds afterwards, in words. */
  readonly recorder: string;
}

export interface DemoReport {
  readonly teacher: { readonly nll: number };
  readonly student: {
    readonly start: { readonly kl: number };
    readonly authorised: DemoStudent;
    readonly unauthorised: DemoStudent;
  };
  /** A student that knows how often each token occurs and nothing else. */
  readonly frequencyOnly: { readonly kl: number };
  /** Locked teacher through the enclave over the same unlocked graph without it. */
  readonly overheadRatio: number;
  readonly placements: readonly DemoPlacement[];
  readonly budget: { readonly granted: number; readonly charged: number };
  readonly egressBytesAfterUnlock: number;
  readonly seconds: number;
  readonly peakRssMb: number;
}

const nats: z.ZodType<number> = z.number().min(0);
const tokens: z.ZodType<number> = z.int().min(0);
const student: z.ZodType<DemoStudent> = z.looseObject({ kl: nats, nll: nats, agreement: z.number().min(0).max(1) });

/** Further fields are allowed: a newer demo may say more. */
export const demoReportSchema: z.ZodType<DemoReport> = z.looseObject({
  teacher: z.looseObject({ nll: nats }),
  student: z.looseObject({ start: z.looseObject({ kl: nats }), authorised: student, unauthorised: student }),
  frequencyOnly: z.looseObject({ kl: nats }),
  overheadRatio: z.number().positive(),
  placements: z.array(
    z.looseObject({
      placement: z.string(),
      overheadRatio: z.number().positive(),
      readableBytes: tokens,
      crossingBytesPerToken: tokens,
      recorder: z.string(),
    }),
  ),
  budget: z.looseObject({ granted: tokens, charged: tokens }),
  egressBytesAfterUnlock: tokens,
  seconds: z.number().positive(),
  peakRssMb: z.number().positive(),
});
