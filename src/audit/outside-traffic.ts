// What leaves a device or reaches it, as an observer on the network has it: messages of the egress ledger, and every TCP socket this
// process opens whether anybody recorded it or not. Zone: owner (for the data owner). Sizes and order, never contents.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';

/** One message or connection. */
export interface Observation {
  readonly what: string;
  readonly bytesOut: number;
  readonly bytesIn: number;
}

/** Sockets to other machines (or ports of this one) opened between `watchSockets()` and `stop()`; Unix sockets stay on the device. */
export function watchSockets(): { stop(): Promise<Observation[]> } {
  const seen: Promise<Observation | null>[] = [];
  const onSocket = (message: unknown): void => {
    const { socket } = message as { socket: Socket };
    let remote = false;
    socket.once('connect', () => {
      remote = socket.remoteFamily !== undefined;
    });
    seen.push(
      new Promise((resolve) => {
        socket.once('close', () => {
          const { bytesWritten, bytesRead } = socket;
          resolve(remote ? { what: 'tcp connection', bytesOut: bytesWritten, bytesIn: bytesRead } : null);
        });
      }),
    );
  };
  subscribe('net.client.socket', onSocket);
  async function stop(): Promise<Observation[]> {
    unsubscribe('net.client.socket', onSocket);
    return (await Promise.all(seen)).filter((found) => found !== null);
  }
  return { stop };
}

/** Exact two-sided p of the Mann–Whitney U test (Mann and Whitney 1947): do two samples without ties come from one distribution? */
export function rankTest(a: readonly number[], b: readonly number[]): number {
  const u = (from: readonly number[], to: readonly number[]): number =>
    from.reduce((sum, x) => sum + to.filter((y) => y < x).length, 0);
  const least = Math.min(u(a, b), u(b, a));
  let total = 0;
  let extreme = 0;
  for (let statistic = 0; statistic <= a.length * b.length; statistic += 1) {
    const ways = arrangements(a.length, b.length, statistic);
    total += ways;
    if (Math.min(statistic, a.length * b.length - statistic) <= least) extreme += ways;
  }
  return extreme / total;
}

// Orders of n and m values with U = u: the largest value belongs to one sample or the other.
function arrangements(n: number, m: number, u: number): number {
  if (u < 0) return 0;
  if (n === 0 || m === 0) return u === 0 ? 1 : 0;
  return arrangements(n - 1, m, u - m) + arrangements(n, m - 1, u);
}
