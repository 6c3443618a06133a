// A checkpoint whose numbers are checked as they are read: a lock spreads one NaN or infinity over a whole model. Zone: owner.
import type { TensorSource } from '../model/tensors.js';
import { MalformedError } from '../trusted/wire/errors.js';

/** Reading throws MalformedError('weight-not-finite') naming the tensor and the first such element. */
export function finiteTensors(source: TensorSource): TensorSource {
  return {
    list: () => source.list(),
    has: (name) => source.has(name),
    info: (name) => source.info(name),
    read: async (name) => {
      const values = await source.read(name);
      // 0·x is 0 for finite x and NaN otherwise: one pass without branches.
      let sum = 0;
      for (let i = 0; i < values.length; i++) sum += 0 * values[i]!;
      if (sum !== 0) throw notFinite(name, values);
      return values;
    },
    close: () => source.close(),
  };
}

function notFinite(tensor: string, values: Float32Array): MalformedError {
  const element = values.findIndex((value) => !Number.isFinite(value));
  return new MalformedError(
    'weight-not-finite',
    `tensor "${tensor}" holds ${values[element]} at element ${element}: the checkpoint is damaged or overflowed in training, and cannot be locked.`,
    { tensor, element },
  );
}
