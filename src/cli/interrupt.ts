// Ctrl-C: the first asks the action to stop at a point it can resume from, the second stops at once.
import { InterruptedError } from './errors.js';

/** Listens until `stop`. `onFirst` tells the user; `exit` is called on the second signal. */
export function listenForInterrupt(
  onFirst: () => void,
  exit: (code: number) => void,
): { readonly signal: AbortSignal; readonly stop: () => void } {
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) exit(130);
    onFirst();
    controller.abort(new InterruptedError());
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return {
    signal: controller.signal,
    stop: () => {
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
    },
  };
}
