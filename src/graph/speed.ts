// How fast this machine multiplies matrices, measured in a moment. Zone: owner and edge.
import { multiply } from './product.js';

const size = 768;
const repeats = 5;

/** GFLOP/s of float32 products of 768×768 matrices through the runtime, the best of a few. */
export async function measureGflops(): Promise<number> {
  const a = new Float32Array(size * size).fill(0.5);
  let best = 0;
  for (let i = 0; i <= repeats; i += 1) {
    const started = performance.now();
    await multiply(a, a, { rows: size, inner: size, columns: size });
    // The first run also loads the runtime.
    if (i > 0) best = Math.max(best, (2 * size ** 3) / ((performance.now() - started) * 1e6));
  }
  return best;
}
