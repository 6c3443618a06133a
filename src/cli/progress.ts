// Progress of long work: a bar on a terminal, a line every few seconds elsewhere. Always on stderr, so stdout stays a result.
import cliProgress from 'cli-progress';
import { formatDuration, formatNumber, type OutputStream } from './terminal.js';

export interface ProgressState {
  readonly tokens: number;
  readonly totalTokens: number;
  /** What is counted; tokens when absent. */
  readonly unit?: string | undefined;
  readonly loss?: number | undefined;
  /** Tokens that the licence still allows. */
  readonly budgetLeft?: number | undefined;
}

export interface Progress {
  update(state: ProgressState): void;
  /** A line of its own, above the bar. */
  note(line: string): void;
  /** Ends the bar, or writes the last line; further calls do nothing. */
  stop(): void;
}

export interface ProgressOptions {
  /** Milliseconds, default Date.now; tests set it. */
  readonly now?: () => number;
  /** Default 5000. */
  readonly lineEveryMs?: number;
}

/** The first update sets where the rate is measured from, so a resumed run does not count what was done before. */
export function createProgress(title: string, stream: OutputStream, options: ProgressOptions = {}): Progress {
  const rate = measureRate(options.now ?? Date.now);
  return stream.isTTY === true
    ? barProgress(title, stream, rate)
    : lineProgress(title, stream, rate, options.now ?? Date.now, options.lineEveryMs ?? 5000);
}

interface Rate {
  readonly tokensPerSecond: number | null;
  readonly secondsLeft: number | null;
}

function measureRate(now: () => number): (state: ProgressState) => Rate {
  let first: { readonly at: number; readonly tokens: number } | null = null;
  return ({ tokens, totalTokens }) => {
    first ??= { at: now(), tokens };
    const seconds = (now() - first.at) / 1000;
    if (seconds <= 0 || tokens <= first.tokens) return { tokensPerSecond: null, secondsLeft: null };
    const tokensPerSecond = (tokens - first.tokens) / seconds;
    return { tokensPerSecond, secondsLeft: Math.max(0, totalTokens - tokens) / tokensPerSecond };
  };
}

function barProgress(title: string, stream: OutputStream, rate: (state: ProgressState) => Rate): Progress {
  const bars = new cliProgress.MultiBar({
    // A stream that is a terminal; the type asks for all of NodeJS.WritableStream.
    stream: stream as NodeJS.WriteStream,
    format: (_options, { progress }, { text = '' }: { text?: string }) =>
      `${title} ${drawBar(progress, (stream.columns ?? 80) - title.length - text.length)} ${text}`,
    hideCursor: true,
    clearOnComplete: false,
    gracefulExit: false,
    fps: 5,
  });
  let bar: cliProgress.SingleBar | null = null;
  let stopped = false;
  return {
    update(state) {
      if (stopped) return;
      const text = describe(state, rate(state)).join('  ');
      bar ??= bars.create(Math.max(1, state.totalTokens), state.tokens, { text });
      bar.setTotal(Math.max(1, state.totalTokens));
      bar.update(state.tokens, { text });
    },
    note(line) {
      if (bar === null || stopped) stream.write(`${line}\n`);
      else bars.log(`${line}\n`);
    },
    stop() {
      // Without a bar, or once more, the library would move the cursor over what others have written.
      if (bar !== null && !stopped) {
        // Notes since the last redraw are written now; stopping alone would drop them.
        bars.update();
        bars.stop();
      }
      stopped = true;
    },
  };
}

function lineProgress(
  title: string,
  stream: OutputStream,
  rate: (state: ProgressState) => Rate,
  now: () => number,
  lineEveryMs: number,
): Progress {
  let written = Number.NEGATIVE_INFINITY;
  let pending: string | null = null;
  const flush = (): void => {
    if (pending !== null) stream.write(pending);
    pending = null;
    written = now();
  };
  return {
    update(state) {
      pending = `${title}: ${describe(state, rate(state)).join(', ')}\n`;
      if (now() - written >= lineEveryMs) flush();
    },
    note(line) {
      stream.write(`${line}\n`);
    },
    stop: flush,
  };
}

function describe(
  { tokens, totalTokens, unit = 'tokens', loss, budgetLeft }: ProgressState,
  { tokensPerSecond, secondsLeft }: Rate,
): string[] {
  return [
    `${formatNumber(tokens)} of ${formatNumber(totalTokens)} ${unit}`,
    // Slower than one a second: the time left says it better.
    ...(tokensPerSecond === null || tokensPerSecond < 0.5
      ? []
      : [`${formatNumber(Math.round(tokensPerSecond))} ${unit}/s`]),
    ...(loss === undefined ? [] : [`loss ${loss.toFixed(3)}`]),
    ...(secondsLeft === null ? [] : [`${formatDuration(secondsLeft)} left`]),
    ...(budgetLeft === undefined ? [] : [`budget ${formatNumber(budgetLeft)} left`]),
  ];
}

/** As wide as `columns` allows beside the percentage, 6 to 24 characters. */
function drawBar(share: number, columns: number): string {
  const width = Math.max(6, Math.min(24, columns - 9));
  const done = Math.round(Math.min(1, Math.max(0, share)) * width);
  return `${'━'.repeat(done)}${'─'.repeat(width - done)} ${String(Math.floor(share * 100)).padStart(3)} %`;
}
