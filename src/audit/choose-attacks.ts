// `--attacks`: attacks and probes by name, or all of them. Zone: owner.
import { distance } from 'fastest-levenshtein';
import { MalformedError } from '../trusted/wire/errors.js';

interface Named {
  readonly name: string;
}

/** Attacks named in `text`, comma-separated, in the registry's order. Throws MalformedError('audit-attack') naming the nearest one. */
export function chooseAttacks<T extends Named>(text: string | null, known: readonly T[]): T[] {
  if (text === null) return [...known];
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (names.length === 0)
    throw new MalformedError('audit-attack', `--attacks names no attack; there are ${list(known)}`);
  for (const name of names) {
    if (known.some((attack) => attack.name === name)) continue;
    const nearest = known.map((attack) => attack.name).sort((a, b) => distance(name, a) - distance(name, b))[0];
    const message = `there is no attack "${name}"; did you mean ${nearest}? There are ${list(known)}`;
    throw new MalformedError('audit-attack', message, { attack: name });
  }
  return known.filter(({ name }) => names.includes(name));
}

function list(known: readonly Named[]): string {
  return known.map(({ name }) => name).join(', ');
}
