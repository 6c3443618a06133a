// A policy file in YAML → AttestationPolicy. Zone: owner (verifier). Whatever is wrong is named with file, line and key.
// Scalars are read as text: a measurement made of digits stays what it is, and `no` is no boolean.
import { readFile } from 'node:fs/promises';
import { closest, distance } from 'fastest-levenshtein';
import { type Document, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { EnvironmentError, MalformedError } from '../../trusted/wire/errors.js';
import { type AttestationPolicy, KINDS } from './policy.js';
import { KNOWN_KEYS, POLICY_SCHEMA } from './schema.js';

const MAX_CHARACTERS: number = 1024 * 1024;

/** Throws EnvironmentError when the file cannot be read, MalformedError ('policy-…') when it is no policy. */
export async function readPolicy(file: string): Promise<AttestationPolicy> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'EIO';
    throw new EnvironmentError('policy-read', `cannot read the policy ${file} (${code})`, { file }, cause);
  }
  return parsePolicy(text, file);
}

/** Throws MalformedError; `file` is the name that errors show. */
export function parsePolicy(text: string, file: string): AttestationPolicy {
  if (text.length > MAX_CHARACTERS) throw new MalformedError('policy-yaml', `${file}: too long for a policy`, { file });
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    schema: 'failsafe',
    logLevel: 'error',
  });
  const fault = document.errors[0] ?? document.warnings[0];
  if (fault !== undefined) throw notYaml(lines.linePos(fault.pos[0]).line, fault.message);
  const value = plainValue(document);
  if (!isMap(document.contents) && value !== null && value !== '') throw notYaml(1, 'a policy has "name: value" lines');
  if (!isMap(document.contents) || document.contents.items.length === 0) {
    throw new MalformedError('policy-empty', `${file}: the policy is empty, which would refuse everything`, { file });
  }
  const parsed = POLICY_SCHEMA.safeParse(value);
  if (!parsed.success) {
    const { issues } = parsed.error;
    // A misspelt key explains the missing one.
    throw problem(issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0]!);
  }
  if (KINDS.every((kind) => parsed.data[kind] === undefined)) {
    const message = `${file}: the policy has pins for no kind of evidence; add one of ${KINDS.join(', ')}`;
    throw new MalformedError('policy-empty', message, { file });
  }
  return parsed.data;

  function plainValue(source: Document): unknown {
    try {
      return source.toJS({ maxAliasCount: 0 });
    } catch (cause) {
      throw notYaml(1, cause instanceof ReferenceError ? 'a policy may not use aliases' : String(cause));
    }
  }

  function notYaml(line: number, reason: string): MalformedError {
    return new MalformedError('policy-yaml', `${file}:${line}: not a policy in YAML: ${reason}`, { file, line });
  }

  function problem(first: z.core.$ZodIssue): MalformedError {
    const issue = innermost(first);
    if (issue.code === 'unrecognized_keys') return unknownKey(issue.path, issue.keys[0]!);
    const key = issue.path.join('.');
    const line = lineOf(issue.path);
    const missing = valueAt(value, issue.path) === undefined;
    // The schema's own words about a missing line start so.
    const message = missing && !issue.message.startsWith('is missing') ? `is missing: ${issue.message}` : issue.message;
    return new MalformedError('policy-value', `${file}:${line}: ${key}: ${message}`, { file, line, key });
  }

  function unknownKey(path: readonly PropertyKey[], key: string): MalformedError {
    const whole = [...path, key];
    const line = lineOf(whole);
    const known = KNOWN_KEYS.get(path.join('.')) ?? [];
    const near = known.length === 0 ? '' : closest(key, known);
    const hint = near !== '' && distance(key, near) <= 3 ? `; did you mean ${near}?` : '';
    const message = `${file}:${line}: ${whole.join('.')}: a policy has no such key${hint}`;
    return new MalformedError('policy-key', message, { file, line, key: whole.join('.') });
  }

  /** Line of the deepest part of `path` that the file has. */
  function lineOf(path: readonly PropertyKey[]): number {
    let node: unknown = document.contents;
    let offset = 0;
    for (const part of path) {
      const pair = isMap(node) ? node.items.find(({ key }) => isScalar(key) && key.value === String(part)) : undefined;
      const item = isSeq(node) ? node.items[Number(part)] : undefined;
      const place = pair === undefined ? item : pair.key;
      if (!isNode(place) || !place.range) break;
      offset = place.range[0];
      node = pair === undefined ? item : pair.value;
    }
    return lines.linePos(offset).line;
  }
}

/** The last branch of a union is the one that people write. */
function innermost(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  const { code } = issue;
  const inner =
    code === 'invalid_union' ? issue.errors.at(-1)?.[0] : code === 'invalid_key' ? issue.issues[0] : undefined;
  return inner === undefined ? issue : innermost({ ...inner, path: [...issue.path, ...inner.path] });
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let found = value;
  for (const part of path) {
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, part)) return undefined;
    found = (found as Record<PropertyKey, unknown>)[part];
  }
  return found;
}
