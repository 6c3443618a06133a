// Reverse-mode differentiation: walks the tape backwards and emits the backward pass into the same graph.
// Zone: edge.
import { MalformedError } from '../trusted/wire/errors.js';
import type { Graph, Value } from './graph.js';
import { add } from './ops/elementwise.js';

/**
 * Emits the gradients of `seeds` (values with the gradient that arrives at each) with respect to `parameters`, in order.
 * Throws MalformedError for a parameter that nothing seeded depends on.
 */
export function gradients(
  graph: Graph,
  seeds: readonly { readonly value: Value; readonly gradient: Value }[],
  parameters: readonly Value[],
): Value[] {
  const arrived = new Map<string, Value>();
  const accumulate = (value: Value, gradient: Value): void => {
    const before = arrived.get(value.name);
    arrived.set(value.name, before ? add(graph, before, gradient) : gradient);
  };
  for (const seed of seeds) accumulate(seed.value, seed.gradient);
  for (const entry of graph.tape.toReversed()) {
    const gradient = arrived.get(entry.output.name);
    if (!gradient) continue;
    // Nothing upstream of this operator needs its gradient again: let the runtime free it.
    arrived.delete(entry.output.name);
    const flowing = entry.backward(gradient);
    entry.inputs.forEach((input, i) => {
      const g = flowing[i];
      if (g && input.differentiable) accumulate(input, g);
    });
  }
  return parameters.map((parameter) => {
    const gradient = arrived.get(parameter.name);
    if (!gradient)
      throw new MalformedError(
        'no-gradient',
        `parameter "${parameter.name}" has no path to the loss; freeze it or use it`,
      );
    return gradient;
  });
}
