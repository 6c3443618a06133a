// A prompt made of columns: `Message: {text}\nIntent:` with the values of a record in the places of the names in braces.
// Zone: edge. Spelled as in axolotl's `format`: {name} is a column, {{ and }} are braces.
import { MalformedError } from '../../trusted/wire/errors.js';

export interface PromptTemplate {
  /** Columns in the order of their first use; at least one. */
  readonly columns: readonly string[];
  /** The prompt; `value` gives the text of a column or throws. */
  fill(value: (column: string) => string): string;
}

/** Throws MalformedError('setting-template') for a brace without its partner, an empty name, or no column at all. */
export function parsePromptTemplate(template: string): PromptTemplate {
  const parts: { readonly text: string; readonly column: boolean }[] = [];
  const pattern = /\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+/g;
  for (const { 0: part, 1: name, index } of template.matchAll(pattern)) {
    if (part === '{{' || part === '}}') parts.push({ text: part[0]!, column: false });
    else if (name !== undefined) {
      if (name.trim() === '') throw broken(template, `names no column at character ${index + 1}`);
      parts.push({ text: name, column: true });
    } else if (part === '{' || part === '}') {
      throw broken(
        template,
        `has a lone "${part}" at character ${index + 1}; write "${part}${part}" for the brace itself`,
      );
    } else parts.push({ text: part, column: false });
  }
  const columns = [...new Set(parts.filter(({ column }) => column).map(({ text }) => text))];
  if (columns.length === 0) throw broken(template, 'names no column; write one in braces, such as {text}');
  return {
    columns,
    fill: (value) => parts.map(({ text, column }) => (column ? value(text) : text)).join(''),
  };
}

function broken(template: string, problem: string): MalformedError {
  return new MalformedError('setting-template', `dataset_prompt_template ${JSON.stringify(template)} ${problem}`, {
    name: 'dataset_prompt_template',
  });
}
